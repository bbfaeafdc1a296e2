"""Flow: v is the derivative of its path, and public conventions are translated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import Flow

SHAPE = (4, 3, 2)
T = jnp.asarray([0.02, 0.3, 0.7, 1.0])[:, None]


def data(process, t=T):
    x_0, eps = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    return x_0, eps, process.alpha(t[..., None]) * x_0 + process.sigma(t[..., None]) * eps


def test_the_default_is_the_straight_line():
    process = Flow()
    x_0, eps, x_t = data(process)
    np.testing.assert_array_equal(process.target(x_0, eps, T[..., None]), eps - x_0)
    np.testing.assert_array_equal(process.network_input(x_t, T)[1], 1000.0 * T)
    v = jax.random.normal(jax.random.key(1), SHAPE)
    found = process.x_0_and_eps(v, x_t, T[..., None])
    np.testing.assert_array_equal(found[0], x_t - T[..., None] * v)
    np.testing.assert_array_equal(found[1], x_t + (1.0 - T[..., None]) * v)
    np.testing.assert_array_equal(process.weight(T), jnp.ones_like(T))


@pytest.mark.parametrize("path", ["linear", "gvp"])
def test_v_is_the_derivative_of_x(path):
    process = Flow(path=path)
    x_0, eps, _ = data(process)

    def x(t):
        return process.alpha(t) * x_0 + process.sigma(t) * eps

    t = jnp.broadcast_to(T[..., None], SHAPE)
    _, slope = jax.jvp(x, (t,), (jnp.ones_like(t),))
    np.testing.assert_allclose(process.target(x_0, eps, t), slope, atol=1e-6)


@pytest.mark.parametrize("path", ["linear", "gvp"])
def test_a_network_of_sit_sees_its_own_time_and_sign(path):
    """There x = alpha(u) data + sigma(u) noise, u = 0 is noise, and v = dx/du."""
    process = Flow(path=path, convention="noise_first", time_scale=1.0)
    x_0, eps, x_t = data(process)
    u = 1.0 - T[..., None]
    if path == "linear":
        seen, v = u * x_0 + (1 - u) * eps, x_0 - eps
    else:
        half = jnp.pi / 2
        seen = jnp.sin(half * u) * x_0 + jnp.cos(half * u) * eps
        v = half * (jnp.cos(half * u) * x_0 - jnp.sin(half * u) * eps)
    x, time = process.network_input(x_t, T)
    np.testing.assert_allclose(x, seen, atol=1e-6)
    np.testing.assert_allclose(time, u[..., 0], atol=1e-7)
    np.testing.assert_allclose(process.target(x_0, eps, T[..., None]), v, atol=1e-6)
    found = process.x_0_and_eps(v, x_t, T[..., None])
    np.testing.assert_allclose(found[0], x_0, atol=1e-6)
    np.testing.assert_allclose(found[1], eps, atol=1e-6)


@pytest.mark.parametrize("convention", ["data_first", "noise_first"])
def test_predicted_data_are_scored_by_the_error_of_v(convention):
    """JiT: both v are quotients by the same clipped sigma."""
    process = Flow(prediction="x_0", convention=convention)
    x_0, eps, x_t = data(process)
    guess = jax.random.normal(jax.random.key(1), SHAPE)
    sigma = np.maximum(T[..., None], 0.05)
    error = ((guess - x_t) / sigma - (x_0 - x_t) / sigma) ** 2
    np.testing.assert_allclose(
        process.loss(guess, x_0, x_t, eps, T), error.mean(axis=-1), rtol=1e-4
    )


def test_beyond_the_clip_predicted_data_and_predicted_v_have_one_loss():
    for path in ("linear", "gvp"):
        v, data_ = Flow(path=path), Flow(path=path, prediction="x_0")
        x_0, eps, x_t = data(v)
        guess = jax.random.normal(jax.random.key(1), SHAPE)
        t, rows = T[..., None], slice(1, None)
        noise = (x_t - v.alpha(t) * guess) / v.sigma(t)
        np.testing.assert_allclose(
            data_.loss(guess, x_0, x_t, eps, T)[rows],
            v.loss(v.target(guess, noise, t), x_0, x_t, eps, T)[rows],
            rtol=1e-4,
        )
