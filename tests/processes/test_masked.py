"""Masked diffusion against its formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import Masked
from vqdit.processes.categorical import MASK


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_masked_share_is_the_schedule(schedule):
    process = Masked(schedule=schedule)
    x_0 = jnp.zeros((64, 256, 1), jnp.int32)
    t = jnp.full((64, 1), 0.3)
    x_t, _ = process.noise(jax.random.split(jax.random.key(0), 64), x_0, t)
    expected = 0.3 if schedule == "linear" else np.sin(np.pi / 2 * 0.3)
    np.testing.assert_allclose(jnp.mean(x_t == MASK), expected, atol=0.01)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_elbo_weight_is_the_logarithmic_derivative(schedule):
    process = Masked(schedule=schedule)
    t = jnp.linspace(0.05, 0.95, 10)
    derivative = jax.vmap(jax.grad(lambda t: jnp.log(process.mask_probability(t))))(t)
    np.testing.assert_allclose(process.weight(t), derivative, rtol=1e-4)


def test_loss_is_the_weighted_cross_entropy_of_masked_positions():
    x_0 = jnp.asarray([[[2], [0], [1]]])
    x_t = jnp.asarray([[[MASK], [0], [MASK]]])
    t = jnp.full((1, 1), 0.25)
    logits = jax.random.normal(jax.random.key(0), (1, 3, 4))
    p = np.exp(logits[0]) / np.exp(logits[0]).sum(-1, keepdims=True)
    expected = 4.0 * np.asarray([-np.log(p[0, 2]), 0.0, -np.log(p[2, 1])])
    np.testing.assert_allclose(Masked().loss(logits, x_0, x_t, None, t)[0], expected, rtol=1e-5)


def test_absent_codes_are_not_learned():
    """A position without a code (-1 in the data) has no loss, though it looks masked."""
    x_0 = jnp.full((1, 3, 1), -1)
    logits = jax.random.normal(jax.random.key(0), (1, 3, 4))
    loss = Masked().loss(logits, x_0, x_0, None, jnp.ones((1, 1)))
    np.testing.assert_array_equal(loss, jnp.zeros((1, 3)))


def test_elbo_of_a_uniform_network_is_log_k_per_position():
    """E_t[m'/m * masked] * log K = log K: the bound of a network that knows nothing is exact."""
    n, length, size = 4096, 8, 5
    x_0 = jax.random.randint(jax.random.key(0), (n, length, 1), 0, size)
    t = (jnp.arange(n)[:, None] + 0.5) / n
    x_t, _ = Masked().noise(jax.random.split(jax.random.key(1), n), x_0, t)
    loss = Masked().loss(jnp.zeros((n, length, size)), x_0, x_t, None, t)
    np.testing.assert_allclose(loss.mean(), np.log(size), rtol=0.03)


def test_codebooks_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="equal size"):
        Masked().width((4, 8))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_time_of_a_share_is_the_inverse_of_the_schedule(schedule):
    process = Masked(schedule=schedule)
    t = jnp.linspace(0.0, 1.0, 21)
    share = process.mask_probability(t)
    np.testing.assert_allclose(process.time_at(share), t, atol=2e-4)  # the sine is flat at its top
    assert process.time_at(jnp.zeros(())) == 0.0 and process.time_at(jnp.ones(())) == 1.0
