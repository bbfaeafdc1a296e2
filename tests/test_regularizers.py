"""The KL regularizer: closed forms, and its divergence against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.regularizers import KL, Posterior


def test_the_channels_are_mean_and_clipped_log_variance():
    moments = jnp.asarray([[1.0, 2.0, -100.0, 50.0]])
    posterior = KL(dim=2).posterior(moments)
    np.testing.assert_array_equal(posterior.mean, [[1.0, 2.0]])
    np.testing.assert_array_equal(posterior.log_variance, [[-30.0, 20.0]])


def test_a_standard_normal_costs_nothing_and_a_moved_one_half_its_square():
    zero = Posterior(jnp.zeros((2, 3, 3, 4)), jnp.zeros((2, 3, 3, 4)))
    np.testing.assert_array_equal(KL().loss(zero), [0.0, 0.0])
    moved = zero._replace(mean=jnp.full((2, 3, 3, 4), 2.0))
    np.testing.assert_allclose(KL().loss(moved), [72.0, 72.0], rtol=1e-6)  # 36 elements, 2^2 / 2


@pytest.mark.peers
def test_the_divergence_is_that_of_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    mean, log_variance = rng.normal(size=(2, 2, 4, 3)).astype(np.float32)
    found = KL(dim=3).loss(Posterior(jnp.asarray(mean), jnp.asarray(log_variance)))
    normal = torch.distributions.Normal(
        torch.tensor(mean), torch.exp(0.5 * torch.tensor(log_variance))
    )
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    np.testing.assert_allclose(found, expected.sum(dim=(1, 2)), rtol=1e-5)


def test_samples_have_the_posterior_s_moments_and_their_gradients(key):
    posterior = Posterior(jnp.full((20000, 1), 3.0), jnp.full((20000, 1), np.log(4.0)))
    z = np.asarray(KL(dim=1).sample(posterior, key), np.float64)
    assert z.mean() == pytest.approx(3.0, abs=4 * 2 / np.sqrt(20000))
    assert z.std() == pytest.approx(2.0, rel=0.03)
    again = jax.random.key(0)
    gradient = jax.grad(lambda p: jnp.mean(KL(dim=1).sample(p, again)))(posterior)
    np.testing.assert_allclose(np.sum(gradient.mean), 1.0, rtol=1e-5)
    noise = (z - 3.0) / 2.0
    np.testing.assert_allclose(np.asarray(gradient.log_variance), noise / 20000, atol=1e-6)


def test_bad_widths_are_named():
    with pytest.raises(ValueError, match="KL needs dim >= 1, got 0"):
        KL(dim=0)
    with pytest.raises(ValueError, match=r"KL\(dim=4\) needs 8 channels.*returned 4"):
        KL().posterior(jnp.zeros((1, 4)))
