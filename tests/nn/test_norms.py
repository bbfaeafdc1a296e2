import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vqdit.nn.norms import normalized


def formula(x, norm, eps=1e-6):
    x = np.asarray(x, np.float64)
    if norm == "layer":
        x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_gradient_by_hand_is_that_of_the_formula(norm):
    x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (4, 7))
    np.testing.assert_allclose(normalized(x, norm), formula(x, norm), atol=1e-5)
    g = np.asarray(jax.random.normal(jax.random.key(1), (4, 7)), np.float64)
    found = jax.grad(lambda x: jnp.sum(normalized(x, norm) * g))(x)
    numeric, exact = np.zeros((4, 7)), np.asarray(x, np.float64)
    for place in np.ndindex(4, 7):
        step = np.zeros((4, 7))
        step[place] = 1e-5
        above, below = (formula(exact + sign * step, norm) for sign in (1.0, -1.0))
        numeric[place] = np.sum((above - below) * g) / 2e-5
    np.testing.assert_allclose(found, numeric, atol=1e-5)


def test_it_can_be_differentiated_twice():
    x = jax.random.normal(jax.random.key(0), (2, 5))
    check_grads(jax.jit(lambda x: normalized(x)), (x,), order=2, modes=["rev"], rtol=2e-2)


def test_half_precision_gets_a_gradient_of_its_own():
    x = jax.random.normal(jax.random.key(0), (2, 5)).astype(jnp.bfloat16)
    y, pull = jax.vjp(normalized, x)
    assert y.dtype == jnp.float32
    assert pull(y)[0].dtype == jnp.bfloat16
