"""Means over what is real."""

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.masked_mean import masked_mean, mean_of_each, mean_weights

VALUES = np.asarray([[1.0, 2.0, np.nan], [4.0, np.inf, 6.0]], np.float32)
MASK = np.isfinite(VALUES)


def test_what_is_masked_counts_for_nothing_also_in_the_gradient():
    mean, gradient = jax.value_and_grad(masked_mean)(jnp.asarray(VALUES), jnp.asarray(MASK))
    assert mean == 13.0 / 4
    np.testing.assert_array_equal(gradient, np.where(MASK, 0.25, 0.0))


def test_without_a_mask_all_are_real_and_of_nothing_the_mean_is_0():
    assert masked_mean(jnp.asarray([1.0, 4.0]), None) == 2.5
    assert masked_mean(jnp.asarray(VALUES), jnp.zeros(VALUES.shape, bool)) == 0.0


def test_weights_make_the_same_mean():
    weights = np.asarray(mean_weights(jnp.asarray(MASK), VALUES.size))
    np.testing.assert_allclose(weights, np.where(MASK, 0.25, 0.0).reshape(-1))
    np.testing.assert_allclose(mean_weights(None, 5), [0.2] * 5)
    assert not np.any(mean_weights(jnp.zeros(3, bool), 3))


def test_counts_weight_the_means_of_examples():
    """Means of each example's positions, weighted by their number, are the mean of all."""
    each = mean_of_each(jnp.asarray(VALUES), jnp.asarray([[True, True, False]] * 2))
    np.testing.assert_array_equal(each, [1.5, np.inf])
    values = jnp.asarray(np.where(MASK, VALUES, 7.0))
    mask = jnp.asarray([[True, False, False], [True, True, True]])
    each, count = mean_of_each(values, mask), jnp.sum(mask, axis=1)
    np.testing.assert_allclose(each, [1.0, 17.0 / 3])
    assert masked_mean(each, count) == masked_mean(values, mask) == 18.0 / 4
    assert masked_mean(jnp.asarray([3.0, np.nan]), jnp.asarray([2, 0])) == 3.0
    pairs = jnp.stack([values, values], axis=-1)
    np.testing.assert_array_equal(mean_of_each(pairs, mask), each)
    np.testing.assert_array_equal(mean_of_each(pairs, None), jnp.mean(pairs, axis=(1, 2)))
