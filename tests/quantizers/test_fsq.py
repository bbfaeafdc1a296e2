"""FSQ against its formula in NumPy, and the known bugs of its copies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import FSQ

TABLE_1 = [(8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 8, 8, 6, 5), (8, 8, 8, 5, 5, 5)]


def in_numpy(z, levels, bound):
    """Returns z_q and codes in float64."""
    levels = np.asarray(levels)
    if bound == "symmetric":
        digits = np.floor((levels - 1) * (np.tanh(z) + 1) / 2 + 0.5)
        return digits * 2 / (levels - 1) - 1, digits
    offset = np.where(levels % 2 == 0, 0.5, 0.0)
    half = (levels - 1) * (0.999 if bound == "tan" else 1.001) / 2
    shift = np.tan(offset / half) if bound == "tan" else np.arctanh(offset / half)
    rounded = np.round(np.tanh(z + shift) * half - offset)
    return rounded / (levels // 2), rounded + levels // 2


@pytest.mark.parametrize("bound", ["tan", "atanh", "symmetric"])
@pytest.mark.parametrize("levels", [(8, 5, 3), (2, 4, 16)])
def test_is_the_formula(levels, bound):
    fsq = FSQ(levels=levels, bound=bound)
    z = np.random.default_rng(0).normal(size=(2000, 3)) * 2
    out = fsq.quantize({}, {}, jnp.asarray(z, jnp.float32))
    z_q, digits = in_numpy(z, levels, bound)
    same = np.isclose(out.z_q, z_q, atol=1e-6).all(-1)
    assert same.mean() > 0.999  # but for values that lie on a border in float32
    basis = np.cumprod([1, *levels[:-1]])
    np.testing.assert_array_equal(out.codes[same, 0], (digits @ basis)[same])


@pytest.mark.parametrize("bound", ["tan", "atanh", "symmetric"])
def test_reaches_exactly_its_levels(bound):
    for level in range(2, 17):
        fsq = FSQ(levels=(level,), bound=bound)
        z = jnp.linspace(-12.0, 12.0, 4001)[:, None]
        codes = np.unique(fsq.encode({}, {}, z))
        np.testing.assert_array_equal(codes, np.arange(level))


@pytest.mark.parametrize("bound", ["tan", "atanh", "symmetric"])
def test_every_code_is_its_own_inverse(bound):
    """Codes that are summed in a low precision collide: half of them are never used."""
    fsq = FSQ(levels=(8, 5, 5, 5), bound=bound)
    codes = jnp.arange(1000)[:, None]
    z_q = fsq.lookup({}, {}, codes)
    assert len(np.unique(z_q, axis=0)) == 1000
    grid = jnp.asarray(list(itertools.product(*[np.linspace(-3, 3, 25)] * 4))[::7], jnp.float32)
    out = fsq.quantize({}, {}, grid)
    np.testing.assert_array_equal(fsq.lookup({}, {}, out.codes), out.z_q)
    assert len(np.unique(out.codes)) == 1000


def test_zero_is_a_level_only_with_the_inverse_of_tanh():
    z = jnp.zeros((1, 3))
    exact = FSQ(levels=(2, 4, 8), bound="atanh")
    np.testing.assert_allclose(exact._bounded(z), 0.0, atol=1e-6)
    published = np.asarray(FSQ(levels=(2, 4, 8))._bounded(z))[0]
    np.testing.assert_allclose(published[:2], [-0.043, -4e-4], atol=1e-3)


def test_gradient_is_that_of_the_bound():
    fsq = FSQ(levels=(5,))
    z = jnp.asarray([[0.3], [-2.0]])
    gradient = jax.grad(lambda z: fsq.quantize({}, {}, z).z_q.sum())(z)
    np.testing.assert_allclose(gradient, 0.999 * (1 - np.tanh(z) ** 2), rtol=1e-5)


def test_sizes_of_table_1():
    assert [FSQ(levels=levels).codebook_sizes[0] for levels in TABLE_1] == [
        240,
        1000,
        4375,
        15360,
        64000,
    ]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((8, 1), "at least two levels per dimension, got \\(8, 1\\)"),
        ((), "at least two levels per dimension, got \\(\\)"),
        ((8,) * 11, "int32 codes, so at most 2147483647 codes, but levels=.* gives 8589934592"),
    ],
)
def test_bad_levels_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        FSQ(levels=levels)
