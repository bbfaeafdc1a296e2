"""The average of parameters, with the warm-up that its formula promises."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.optim import ema


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


def test_without_warm_up_the_decay_is_constant():
    average, params = {"w": jnp.asarray([2.0])}, {"w": jnp.asarray([4.0])}
    found = ema.update(average, params, 0.75, jnp.int32(0), warmup=False)
    assert found["w"] == 2.5


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.25, 0.28])
def test_the_exponent_gives_the_width(width):
    """Of a variable on [0, 1] with density (gamma + 1) x^gamma, that is its standard deviation."""
    gamma = ema.exponent(width)
    mean, square = (gamma + 1) / (gamma + 2), (gamma + 1) / (gamma + 3)
    assert np.sqrt(square - mean**2) == pytest.approx(width, rel=1e-6)


def profiles(steps, widths, every):
    """What each step weighs in averages, [width, steps], at every so many steps."""
    averages, kept = tuple(jnp.zeros(steps) for _ in widths), {}
    step_function = jax.jit(lambda a, value, n: ema.update_power(a, value, widths, n))
    for step in range(steps):
        value = jax.nn.one_hot(step, steps)  # the average of these is their weights
        averages = step_function(averages, value, jnp.int32(step))
        if (step + 1) % every == 0:
            kept[step + 1] = np.asarray(averages, np.float64)
    return kept


def test_a_power_average_weighs_by_the_power_of_time():
    ((found,),) = profiles(200, (0.1,), 200).values()
    expected = np.diff((np.arange(201) / 200) ** (ema.exponent(0.1) + 1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_other_averages_are_made_of_the_kept_ones():
    """Within 1 % of their weights; the fewer are kept, the less exactly."""
    kept = profiles(400, (0.05, 0.10), every=10)
    stacked = np.concatenate(list(kept.values()))
    names = [(step, width) for step in kept for width in (0.05, 0.10)]
    others = (0.07, 0.15, 0.2)
    for end, wanted in profiles(400, others, every=40).items():
        if end < 280:
            continue
        for width, expected in zip(others, wanted, strict=True):
            found = ema.weights(names, end, width) @ stacked
            assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


def test_one_of_the_kept_averages_is_given_back():
    shares = ema.weights([(10, 0.05), (10, 0.1), (20, 0.05), (20, 0.1)], 20, 0.1)
    np.testing.assert_allclose(shares, [0.0, 0.0, 0.0, 1.0], atol=1e-8)


@pytest.mark.parametrize("widths", [(0.1, 0.05), (0.0, 0.1), (0.1, 0.3)])
def test_widths_out_of_range_are_refused(widths):
    with pytest.raises(ValueError, match="widths to be two increasing numbers in"):
        ema.PosthocEMA(widths=widths)
