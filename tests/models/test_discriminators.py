"""Discriminators: shapes, what a logit sees, blurred halving and minibatch spread by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import PatchGAN, StyleGAN
from vqdit.models.discriminators import minibatch_std
from vqdit.nn.conv import blur_pool


@pytest.mark.parametrize("shape", [(2, 9, 3), (2, 8, 6, 3)])
def test_blurred_halving_is_a_convolution_by_numpy(shape):
    x = np.random.default_rng(0).normal(size=shape)
    expected = x
    for axis in range(1, x.ndim - 1):
        padded = np.pad(
            expected, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)], mode="reflect"
        )
        filtered = np.apply_along_axis(
            lambda row: np.convolve(row, np.asarray([1, 3, 3, 1]) / 8, mode="valid"), axis, padded
        )
        expected = np.take(filtered, np.arange(0, filtered.shape[axis], 2), axis=axis)
    found = blur_pool(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.shape[1:-1] == tuple(edge // 2 for edge in shape[1:-1])


def test_blurred_halving_keeps_a_constant_and_removes_the_highest_frequency():
    constant = jnp.full((1, 8, 8, 1), 3.0)
    np.testing.assert_allclose(blur_pool(constant), np.full((1, 4, 4, 1), 3.0), rtol=1e-6)
    stripes = jnp.asarray((-1.0) ** np.arange(16)).reshape(1, 16, 1)
    np.testing.assert_allclose(blur_pool(stripes)[0, 1:-1], np.zeros((6, 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("discriminator", "field"),
    [
        (PatchGAN(channels=4, layers=1), 16),
        (PatchGAN(channels=4, layers=2), 34),
        (PatchGAN(channels=4, layers=1, blur=True), 14),
    ],
)
def test_a_logit_sees_a_patch_of_the_stated_size(discriminator, field, monkeypatch):
    assert PatchGAN().field == 70
    assert discriminator.field == field
    # Group norms see everything; without them, what is left are the convolutions.
    monkeypatch.setattr("vqdit.models.discriminators.group_norm", lambda x, name, mask: x)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3 * field, 1)), jnp.float32)
    params = discriminator.init(jax.random.key(0), x)

    def middle(x):
        logits = discriminator.apply(params, x)
        return logits[0, logits.shape[1] // 2]

    seen = np.flatnonzero(jax.grad(middle)(x)[0, :, 0])
    assert seen.max() - seen.min() + 1 == field


@pytest.mark.parametrize(
    ("discriminator", "size", "grid"),
    [
        (PatchGAN(channels=4), (32, 32), (2, 2)),
        (PatchGAN(channels=4), (24, 24), (1, 1)),
        (PatchGAN(channels=4, layers=2), (28, 28), (5, 5)),
        (PatchGAN(channels=4, blur=True), (32, 32), (4, 4)),
        (PatchGAN(channels=4), (64,), (6,)),
        (StyleGAN(channels=4, most=8), (32, 32), ()),
        (StyleGAN(channels=4, most=8), (28, 28), ()),
        (StyleGAN(channels=4, most=8), (4, 4), ()),
    ],
)
def test_the_shapes_of_the_logits(discriminator, size, grid):
    assert min(size) >= discriminator.smallest
    x = jax.ShapeDtypeStruct((8, *size, 3), jnp.float32)
    params = jax.eval_shape(discriminator.init, jax.random.key(0), x)
    logits = jax.eval_shape(discriminator.apply, params, x)
    assert (logits.shape, logits.dtype) == ((8, *grid), jnp.float32)


def test_the_published_patchgan_has_its_number_of_parameters():
    x = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    params = jax.eval_shape(PatchGAN().init, jax.random.key(0), x)
    assert jax.eval_shape(PatchGAN().apply, params, x).shape == (1, 30, 30)
    # Published: convolutions of 4x4, no bias before a norm; ours keep these 896 biases.
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    biases, norms = 64 + 128 + 256 + 512 + 1, 2 * (128 + 256 + 512)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == kernels + biases + norms


@pytest.mark.parametrize(("group", "size"), [(4, 4), (3, 3), (5, 4), (1, 1)])
def test_the_spread_of_a_group_by_numpy(group, size):
    h = np.random.default_rng(0).normal(size=(12, 2, 2, 3))
    found = minibatch_std(jnp.asarray(h, jnp.float32), group)
    assert found.shape == (12, 1, 1, 1)
    for example in range(12):
        members = h[example % (12 // size) :: 12 // size]
        expected = np.sqrt(members.var(axis=0) + 1e-8).mean()
        assert found[example, 0, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_without_a_group_each_picture_is_judged_alone(key):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 1)), jnp.float32)
    alone, together = StyleGAN(channels=4, most=8, group=1), StyleGAN(channels=4, most=8, group=2)
    for discriminator, differs in ((alone, False), (together, True)):
        params = discriminator.init(jax.random.key(0), x)
        apply = jax.jit(discriminator.apply)
        moved = apply(params, x.at[2].set(0.0))[0] - apply(params, x)[0]
        assert (abs(moved) > 1e-6) == differs


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="PatchGAN needs channels >= 1, got 0"):
        PatchGAN(channels=0)
    with pytest.raises(ValueError, match="StyleGAN needs .* >= 1, got"):
        StyleGAN(group=0)


@pytest.mark.parametrize("blur", [False, True])
def test_sequences_of_different_lengths_have_the_logits_that_each_has_alone(blur):
    """Behind their ends is noise."""
    discriminator = PatchGAN(channels=4, layers=2, blur=blur)
    x = jax.random.normal(jax.random.key(0), (4, 45, 2))
    params, apply = jax.jit(discriminator.init)(jax.random.key(1), x), jax.jit(discriminator.apply)
    lengths = (45, 24, 31, 30)
    mask = jnp.arange(45) < jnp.asarray(lengths)[:, None]
    logits, real = apply(params, x, mask), discriminator.real(mask)
    assert logits.shape == real.shape
    for row, length in enumerate(lengths):
        alone = apply(params, x[row : row + 1, :length])[0]
        assert real[row].sum() == len(alone)
        np.testing.assert_allclose(logits[row, : len(alone)], alone, atol=1e-5)
