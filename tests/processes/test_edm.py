"""EDM against its paper and against diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import EDM, Flow, LogitNormal

PAPER = EDM(sigma_data=0.5)
SIGMA = jnp.asarray([0.002, 0.05, 0.5, 3.0, 79.0, 80.0])


def karras(n, low=0.002, high=80.0, rho=7.0):
    steps = np.arange(n) / (n - 1)
    return (high ** (1 / rho) + steps * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def test_the_time_of_a_sigma_has_that_sigma():
    np.testing.assert_allclose(PAPER.sigma(PAPER.time_of(SIGMA)), SIGMA, rtol=2e-5)
    np.testing.assert_array_equal(PAPER.sigma(jnp.asarray([0.0, 1.0])), [0.0, 80.0])
    assert (jnp.diff(PAPER.sigma(jnp.linspace(0.0, 1.0, 2000))) > 0).all()
    assert PAPER.time_of(jnp.float32(80.0)) == 1.0


@pytest.mark.peers
def test_karras_grid_is_had_by_its_times():
    diffusers = pytest.importorskip("diffusers")
    peer = diffusers.EDMEulerScheduler()
    peer.set_timesteps(18)
    times = PAPER.time_of(jnp.asarray(karras(18), jnp.float32))
    assert (jnp.diff(times) < 0).all() and times[0] == 1.0
    np.testing.assert_allclose(PAPER.sigma(times), peer.sigmas[:-1].numpy(), rtol=2e-5)


@pytest.mark.peers
def test_preconditioning_is_that_of_diffusers():
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")
    peer = diffusers.EDMEulerScheduler(sigma_data=0.5)
    t = PAPER.time_of(SIGMA)[:, None]
    x_t, f = jax.random.normal(jax.random.key(0), (2, len(SIGMA), 3, 2))
    seen, told = PAPER.network_input(x_t, t)
    x_0, eps = PAPER.x_0_and_eps(f, x_t, t[..., None])
    for row, sigma in enumerate(np.asarray(PAPER.sigma(t)[:, 0])):
        sigma = torch.tensor(sigma)
        x, out = (torch.from_numpy(np.array(a[row])) for a in (x_t, f))
        np.testing.assert_allclose(seen[row], peer.precondition_inputs(x, sigma), rtol=1e-5)
        np.testing.assert_allclose(told[row], peer.precondition_noise(sigma), rtol=1e-5)
        denoised = peer.precondition_outputs(x, out, sigma)
        np.testing.assert_allclose(x_0[row], denoised, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            x_0[row] + sigma.numpy() * eps[row], x_t[row], rtol=1e-4, atol=1e-4
        )


def test_the_loss_is_the_weighted_error_of_the_denoiser():
    t = PAPER.time_of(SIGMA)[:, None]
    x_0, eps, f = jax.random.normal(jax.random.key(0), (3, len(SIGMA), 3, 2))
    sigma = PAPER.sigma(t[..., None])
    x_t = x_0 + sigma * eps
    denoised, _ = PAPER.x_0_and_eps(f, x_t, t[..., None])
    weight = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    expected = jnp.mean(weight * (denoised - x_0) ** 2, axis=-1)
    rows = slice(1, None)  # at 0.002 the difference of denoised and x_0 is lost in float32
    np.testing.assert_allclose(PAPER.loss(f, x_0, x_t, eps, t)[rows], expected[rows], rtol=1e-3)


def test_the_distribution_of_the_paper_is_logit_normal():
    n = 20_000
    t = LogitNormal(mean=-1.2, std=1.2).sample(jax.random.key(0), jnp.arange(n), n)
    log_sigma = np.log(np.asarray(PAPER.sigma(t)))
    np.testing.assert_allclose([log_sigma.mean(), log_sigma.std()], [-1.2, 1.2], atol=0.01)


def test_a_time_is_that_of_flow_at_the_same_signal_to_noise_ratio():
    t = jnp.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(EDM().sigma(t), Flow().sigma(t) / Flow().alpha(t), rtol=1e-6)


def test_what_is_known_is_told_as_the_least_sigma():
    x, told = EDM().network_input(jnp.ones((1, 2, 3)), jnp.zeros((1, 1)))
    np.testing.assert_allclose(told, np.log(0.002) / 4, rtol=1e-6)
    np.testing.assert_array_equal(x, jnp.ones((1, 2, 3)))
