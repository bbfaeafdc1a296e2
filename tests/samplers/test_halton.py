"""The Halton order against the sequence written out, and what unmasking makes of it."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import Masked
from vqdit.processes.categorical import MASK
from vqdit.samplers import Unmasking, trajectory
from vqdit.samplers.halton import halton_order, radical_inverse
from vqdit.typing import Named


def halton(index, base):
    """Digits of the index, mirrored at the point."""
    result, share = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        share /= base
        result += digit * share
    return result


def visits(grid):
    """Cells in the order in which points first fall into them."""
    seen = []
    for index in itertools.count(1):
        cell = tuple(
            int(halton(index, base) * size) for base, size in zip((2, 3, 5), grid, strict=False)
        )
        if cell not in seen:
            seen.append(cell)
        if len(seen) == math.prod(grid):
            return [int(np.ravel_multi_index(cell, grid)) for cell in seen]


def test_the_sequence_mirrors_digits():
    found = radical_inverse(np.arange(1, 8), 2)
    np.testing.assert_allclose(found, [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8])
    found = radical_inverse(np.arange(1, 5), 3)
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, 1 / 9, 4 / 9])


@pytest.mark.parametrize("grid", [(1,), (7,), (16,), (4, 4), (3, 8), (16, 16), (2, 3, 4)])
def test_the_order_visits_every_position_once_as_the_sequence_does(grid):
    order = halton_order(grid)
    np.testing.assert_array_equal(np.sort(order), np.arange(math.prod(grid)))
    np.testing.assert_array_equal(order, visits(grid))


def test_the_first_visits_cover_the_grid_evenly():
    first = halton_order((16, 16))[:64]
    rows, columns = first // 16 // 8, first % 16 // 8
    assert np.bincount(2 * rows + columns).min() >= 15  # of 16 in every quarter


def test_a_grid_of_too_many_axes_is_refused():
    with pytest.raises(ValueError, match="1 to 3 axes"):
        halton_order((2, 2, 2, 2))


@pytest.mark.parametrize(("grid", "q"), [((), 1), ((2, 4), 1), ((2, 4), 2)])
def test_unmasking_reveals_in_this_order_coarse_codes_first(grid, q):
    steps, keys = 8 * q, jax.random.split(jax.random.key(0), 2)
    sampler = Unmasking(steps=steps, order="halton").bind(grid)
    assert sampler.grid == grid
    x_1 = Masked().prior(keys, (8, q))
    times = Named(a=jnp.linspace(1.0, 0.0, steps + 1))
    predict = lambda x, t: Named(a=jnp.zeros((2, 8, 3 * q)))  # noqa: E731
    each = Named(a=sampler), Named(a=Masked()), Named(a=x_1)
    x, path = trajectory(keys, predict, *each, times)
    states = np.concatenate([path["a"], x["a"][None]])
    when = (states == MASK).sum(axis=0)  # b l q: steps before each is revealed
    order = halton_order(grid or (8,))
    expected = np.argsort(order)[:, None] * q + np.arange(q) + 1
    np.testing.assert_array_equal(when, np.broadcast_to(expected, (2, 8, q)))


def test_what_is_known_is_left_out_of_the_order():
    keys, order = jax.random.split(jax.random.key(0), 1), halton_order((6,))
    known = np.zeros(6, bool)
    known[order[[0, 2]]] = True
    x_1 = jnp.where(known, 1, MASK)[None, :, None]
    times = Named(a=jnp.linspace(1.0, 0.0, 5))
    sampler = Unmasking(steps=4, order="halton")
    predict = lambda x, t: Named(a=jnp.zeros((1, 6, 3)))  # noqa: E731
    each = Named(a=sampler), Named(a=Masked()), Named(a=x_1)
    _, path = trajectory(keys, predict, *each, times, known=Named(a=jnp.asarray(known)[None]))
    left = [np.flatnonzero(np.asarray(x)[0, :, 0] == MASK).tolist() for x in path["a"]]
    rest = order[~known[order]]
    assert left == [sorted(rest[step:].tolist()) for step in range(4)]
