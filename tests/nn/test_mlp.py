import chex
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.nn.mlp import gelu

X = np.linspace(-6.0, 6.0, 241)


def formula(x):
    u = np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)
    slope = np.sqrt(2.0 / np.pi) * (1.0 + 3.0 * 0.044715 * x**2)
    return 0.5 * x * (1.0 + np.tanh(u)), 0.5 * (1.0 + np.tanh(u)) + 0.5 * x * slope / np.cosh(
        u
    ) ** 2


def test_gelu_and_its_gradient_are_those_of_the_tanh():
    y, pull = jax.vjp(gelu, jnp.asarray(X, jnp.float32))
    expected, slope = formula(X)
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(y))[0], slope, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(
        y, jax.nn.gelu(jnp.asarray(X), approximate=True), rtol=2e-6, atol=1e-6
    )


def test_in_half_precision_only_what_is_read_and_written_is_rounded():
    x = jnp.asarray(X).astype(jnp.bfloat16)
    y, pull = jax.vjp(gelu, x)
    exact, exact_pull = jax.vjp(gelu, x.astype(jnp.float32))
    chex.assert_trees_all_equal(y, exact.astype(jnp.bfloat16))
    slope = exact_pull(jnp.ones_like(exact))[0]
    chex.assert_trees_all_equal(pull(jnp.ones_like(y))[0], slope.astype(jnp.bfloat16))


def test_gelu_has_no_overflow():
    y, slope = jax.value_and_grad(lambda x: gelu(x).sum())(jnp.array([-1e4, -50.0, 50.0, 1e4]))
    np.testing.assert_array_equal(slope, [0.0, 0.0, 1.0, 1.0])
    assert float(y) == 1e4 + 50.0
