"""Pixel losses against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import l1, l2


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
