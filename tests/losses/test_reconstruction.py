"""Pixel losses against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import huber, l1, l2


@pytest.mark.parametrize(("loss", "power"), [(l1, 1), (l2, 2)])
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (3, 7, 1)])
def test_each_example_has_the_mean_over_its_elements(loss, power, shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, *shape)).astype(np.float32)
    expected = (np.abs(x.astype(float) - y) ** power).reshape(3, -1).mean(axis=1)
    np.testing.assert_allclose(loss(jnp.asarray(x), jnp.asarray(y)), expected, rtol=1e-5)


@pytest.mark.parametrize(("loss", "value"), [(l1, 0.5), (l2, 0.25)])
def test_a_constant_error_has_its_closed_form(loss, value):
    x = jnp.zeros((2, 3, 3, 1))
    np.testing.assert_array_equal(loss(x, x - 0.5), [value, value])
    np.testing.assert_array_equal(loss(x, x), [0.0, 0.0])


@pytest.mark.parametrize(("loss", "slope"), [(l1, 1.0), (l2, 1.0)])
def test_the_gradient_is_that_of_the_mean(loss, slope):
    x, y = jnp.full((1, 2, 2, 1), 0.5), jnp.zeros((1, 2, 2, 1))
    gradient = jax.grad(lambda x: loss(x, y)[0])(x)
    np.testing.assert_allclose(gradient, np.full((1, 2, 2, 1), slope / 4))


@pytest.mark.peers
def test_huber_is_that_of_torch_and_has_both_slopes():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(2, 3, 4, 4, 1)) * 0.2).astype(np.float32)
    expected = torch.nn.functional.huber_loss(
        torch.tensor(x), torch.tensor(y), reduction="none", delta=0.1
    )
    found = huber(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(found, expected.mean(dim=(1, 2, 3)), rtol=1e-5)
    errors = jnp.asarray([0.02, 0.5, -3.0]).reshape(1, 3, 1)
    gradient = jax.grad(lambda e: 3 * huber(e, jnp.zeros_like(e))[0])(errors)
    np.testing.assert_allclose(gradient.ravel(), [0.02, 0.1, -0.1], rtol=1e-5)
