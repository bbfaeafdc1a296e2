"""The average of parameters, with the warm-up that its formula promises."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import ema


@pytest.mark.parametrize(
    ("step", "decay", "d"),
    [
        (0, 0.9999, 1 / 10),
        (1, 0.9999, 2 / 11),
        (90, 0.9999, 91 / 100),
        (80, 0.9, 0.9),
        (10**6, 0.9999, 0.9999),
        (0, 0.05, 0.05),
    ],
)
def test_an_update_is_the_formula(step, decay, d):
    average, params = {"w": jnp.asarray([2.0, -1.0])}, {"w": jnp.asarray([4.0, 3.0])}
    found = ema.update(average, params, decay, jnp.int32(step))
    np.testing.assert_allclose(
        found["w"], d * np.asarray([2.0, -1.0]) + (1 - d) * np.asarray([4.0, 3.0]), rtol=1e-5
    )


def test_the_average_of_what_stays_is_itself_bitwise():
    params = {"w": jax.random.normal(jax.random.key(0), (100,))}
    chex.assert_trees_all_equal(ema.update(params, params, 0.999, jnp.int32(5)), params)


def test_many_updates_are_the_weighted_sum_in_numpy():
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    average, expected = {"w": jnp.zeros(4)}, np.zeros(4)
    for step, value in enumerate(values):
        average = ema.update(average, {"w": jnp.asarray(value)}, 0.7, jnp.int32(step))
        d = min(0.7, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5, atol=1e-6)


def test_the_first_parameters_are_soon_forgotten():
    average, params = {"w": jnp.full(1, 1000.0)}, {"w": jnp.ones(1)}
    for step in range(20):
        average = ema.update(average, params, 0.9999, jnp.int32(step))
    assert abs(average["w"][0] - 1.0) < 1e-3
