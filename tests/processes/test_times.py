"""Laws of the training times have the densities of their papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import CosMap, LogitNormal, Mode, Shifted, Uniform

N = 20_000


def draws(distribution):
    return np.asarray(distribution.sample(jax.random.key(0), jnp.arange(N), N))[:, 0]


def test_mode_is_that_of_the_paper_which_falls_in_u():
    u = np.linspace(0.01, 0.99, 33)
    for scale in (-1.0, 0.0, 0.81, 1.29, 1.75):
        paper = 1 - u - scale * (np.cos(np.pi / 2 * u) ** 2 - 1 + u)
        found = Mode(scale=scale).quantile(jnp.asarray(1 - u, jnp.float32))
        np.testing.assert_allclose(found, paper, atol=1e-6)


def test_cosmap_has_the_density_of_the_paper():
    t = draws(CosMap())
    count, edges = np.histogram(t, bins=20, range=(0, 1))
    middle = (edges[1:] + edges[:-1]) / 2
    density = 2 / (np.pi - 2 * np.pi * middle + 2 * np.pi * middle**2)
    np.testing.assert_allclose(count / N * 20, density, rtol=0.01)


def test_a_shift_multiplies_the_odds_of_noise():
    u = jnp.linspace(0.05, 0.95, 10)
    for plain in (Uniform(low=0.0), LogitNormal(mean=-0.3, std=0.8), Mode()):
        t, shifted = plain.quantile(u), Shifted(distribution=plain, shift=6.93).quantile(u)
        np.testing.assert_allclose(shifted / (1 - shifted), 6.93 * t / (1 - t), rtol=1e-4)


def test_a_shifted_logit_normal_is_one_of_another_mean():
    u = jnp.linspace(0.01, 0.99, 20)
    other = LogitNormal(mean=math.log(3.0), std=0.7).quantile(u)
    shifted = Shifted(distribution=LogitNormal(std=0.7), shift=3.0).quantile(u)
    np.testing.assert_allclose(shifted, other, atol=1e-6)


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (lambda: Mode(scale=1.8), "1.8"),
        (lambda: Mode(scale=-1.1), "-1.1"),
        (lambda: Shifted(shift=0.0), "0.0"),
    ],
)
def test_fields_out_of_range_are_refused(distribution, value):
    with pytest.raises(ValueError, match=value):
        distribution()
