"""Rotary positions: turned by the angles of the formula, and only differences count."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.nn.rope import rotate, rotation


def turned(x, turn):
    """One vector per token, with two heads that are alike."""
    pair = jnp.asarray(x)[None, :, None].repeat(2, axis=2)
    out = np.asarray(rotate(pair, jnp.asarray(turn)))
    np.testing.assert_array_equal(out[:, :, 0], out[:, :, 1])
    return out[0, :, 0]


def test_the_angles_are_those_of_the_formula():
    turn = rotation(((2, 3),), 12)  # two axes of three pairs
    frequency = 1e4 ** (-np.arange(3) / 3)
    for token in range(6):
        angle = np.concatenate([token // 3 * frequency, token % 3 * frequency])
        np.testing.assert_allclose(turn[:, token], [np.cos(angle), np.sin(angle)], atol=1e-6)
    x = np.random.default_rng(0).normal(size=(6, 12)).astype("f4")
    complex_x = (x[:, :6] + 1j * x[:, 6:]) * (turn[0] + 1j * turn[1])
    expected = np.concatenate([complex_x.real, complex_x.imag], axis=1)
    np.testing.assert_allclose(turned(x, turn), expected, atol=1e-5)


@pytest.mark.parametrize("grid", [(7,), (4, 5), (3, 2, 4)])
def test_scores_depend_on_the_difference_of_positions_alone(grid):
    width = 24
    q, k = np.random.default_rng(0).normal(size=(2, width)).astype("f4")
    turn, tokens = rotation((grid,), width), int(np.prod(grid))
    rows = turned(np.tile(q, (tokens, 1)), turn), turned(np.tile(k, (tokens, 1)), turn)
    scores = rows[0] @ rows[1].T
    places = np.stack(np.unravel_index(np.arange(tokens), grid), axis=1)
    difference = places[:, None] - places[None]
    found = {}
    for delta, score in zip(difference.reshape(-1, len(grid)), scores.ravel(), strict=True):
        found.setdefault(tuple(delta), []).append(score)
    assert max(len(values) for values in found.values()) == tokens  # of the difference 0
    for values in found.values():
        np.testing.assert_allclose(values, values[0], atol=1e-4)
    means = [values[0] for values in found.values()]
    assert len(np.unique(np.round(means, 3))) > 0.9 * len(means)  # and they do depend on it


def test_every_modality_has_axes_of_its_own():
    cos, sin = rotation(((2, 3), (1,), (4,)), 14)  # three axes of two pairs, and one pair left over
    assert cos.shape == sin.shape == (6 + 1 + 4, 7)
    assert (cos[:6, 4:] == 1).all() and (sin[:6, 4:] == 0).all()  # pictures have two axes
    assert (cos[6] == 1).all() and (sin[6] == 0).all()  # one position needs none
    assert (sin[7:, :4] == 0).all() and (sin[7:, 6] == 0).all() and sin[8, 4] > 0


def test_heads_that_are_too_narrow_are_refused():
    with pytest.raises(ValueError, match="3 axes need at least 6 channels per head, got 4"):
        rotation(((2, 2), (2,)), 4)
    with pytest.raises(ValueError, match="even width, got 5"):
        rotation(((2,),), 5)
