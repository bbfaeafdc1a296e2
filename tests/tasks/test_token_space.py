"""What the network sees of a modality, there and back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.data import Batch, Digits
from vqdit.modalities import Label, Text
from vqdit.modalities.texts import to_bytes
from vqdit.processes import Flow, Masked
from vqdit.quantizers import RVQ, VQ
from vqdit.tasks.base import Trained
from vqdit.tasks.token_space import CodeSpace, TokenizerSpace
from vqdit.typing import Named


def batch(name, data, present=None, valid=None):
    rows = len(data)
    present = np.ones(rows, bool) if present is None else np.asarray(present)
    valid = np.ones(rows, bool) if valid is None else np.asarray(valid)
    return Batch(
        Named({name: data}), Named({name: present}), Named(), np.arange(rows, dtype=np.int32), valid
    )


@pytest.fixture(scope="module")
def audio():
    """The tiny tokenizer of tones, not trained, and eight tones."""
    task = tiny.audio_tokenizer().task
    data = Digits().split("train").take(np.arange(8))["audio"]
    # Codes on the vectors of these tones: other ones might all be the same.
    params, stats = jax.jit(task.init)(jax.random.key(0), {}, batch("audio", data))
    return Trained(task, params, stats), jnp.asarray(data)


def test_codes_come_from_the_tokenizer_one_row_per_position(audio):
    trained, data = audio
    space = TokenizerSpace(tokenizer=trained.task, process=Masked())
    frozen = space.freeze(trained, [], "audio")  # nothing is measured for codes
    assert set(frozen) == {"params", "stats"}
    assert (space.grid, space.shape, space.modality) == ((5,), (5, 1), trained.task.modality)
    codes = jax.jit(space.encode)(frozen, data)
    expected = trained.task.encode(trained.params, trained.stats, data)
    np.testing.assert_array_equal(codes, expected.reshape(8, 5, 1))
    decoded = jax.jit(space.decode)(frozen, codes)
    assert decoded.dtype == jnp.int16 and decoded.shape == data.shape
    tokens = space.tokens
    assert (tokens.codes, tokens.output, tokens.width, tokens.patch) == (16, 16, 0, 0)


def test_the_first_codes_of_a_residual_quantizer_decode_without_the_others():
    task = tiny.audio_tokenizer().task
    quantizer = RVQ(quantizer=VQ(codebook_size=8, dim=task.dim), depth=2)
    task = dataclasses.replace(task, quantizer=quantizer)
    data = jnp.asarray(Digits().split("train").take(np.arange(2))["audio"])
    params, stats = jax.jit(task.init)(jax.random.key(0), {}, batch("audio", np.asarray(data)))
    frozen = {"params": params, "stats": stats}
    every = TokenizerSpace(tokenizer=task, process=Masked())
    first = TokenizerSpace(tokenizer=task, process=Masked(), codebooks=1)
    assert (first.sizes, first.shape, first.tokens.output) == ((8,), (5, 1), 8)
    codes = jax.jit(every.encode)(frozen, data)
    np.testing.assert_array_equal(jax.jit(first.encode)(frozen, data), codes[..., :1])
    decode = jax.jit(every.decode)
    np.testing.assert_array_equal(
        jax.jit(first.decode)(frozen, codes[..., :1]), decode(frozen, codes.at[..., 1].set(-1))
    )
    assert (decode(frozen, codes) != decode(frozen, codes.at[..., 1].set(-1))).any()
    np.testing.assert_array_equal(first.vectors(frozen), every.vectors(frozen)[:1])


def test_latents_are_standardised_by_the_moments_of_what_is_there(audio):
    trained, data = audio
    space = TokenizerSpace(tokenizer=trained.task, process=Flow(), patch=1)
    present = [True] * 5 + [False] + [True] * 2
    valid = [True] * 7 + [False]
    noise = np.random.default_rng(0).integers(-9000, 9000, data.shape).astype(np.int16)
    filled = jnp.where((np.asarray(present) & valid)[:, None], data, noise)
    frozen = space.freeze(trained, [batch("audio", filled, present, valid)], "audio")
    x_0 = np.asarray(jax.jit(space.encode)(frozen, data), np.float64)
    assert x_0.shape == (8, 5, 4) == (8, *space.shape)
    seen = x_0[np.asarray(present) & valid]
    varies = np.asarray(frozen["std"]) > 1e-3
    assert varies.any()
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), 0.0, atol=1e-4)
    np.testing.assert_allclose(seen.std(axis=(0, 1))[varies], 1.0, atol=1e-3)
    # Two batches with the same examples have the same moments.
    halves = [batch("audio", filled[part], present[part], valid[part]) for part in HALVES]
    again = space.freeze(trained, halves, "audio")
    np.testing.assert_allclose(again["mean"], frozen["mean"], atol=1e-6)
    np.testing.assert_allclose(again["std"], frozen["std"], rtol=1e-5)
    # Generated latents are snapped to their nearest codes: a little noise changes nothing.
    near = x_0 + 1e-4 * np.random.default_rng(1).normal(size=x_0.shape)
    decode = jax.jit(space.decode)
    np.testing.assert_array_equal(
        decode(frozen, jnp.asarray(near, jnp.float32)),
        decode(frozen, jnp.asarray(x_0, jnp.float32)),
    )
    tokens = space.tokens
    assert (tokens.codes, tokens.output, tokens.width, tokens.patch) == (0, 4, 4, 1)


HALVES = (slice(0, 4), slice(4, 8))


@pytest.mark.parametrize("process", [Masked(), Flow()])
def test_frozen_arrays_have_the_structure_that_is_promised(audio, process):
    trained, data = audio
    space = TokenizerSpace(tokenizer=trained.task, process=process)
    frozen = space.freeze(trained, [batch("audio", data)], "audio")
    like = jax.eval_shape(space.frozen_like)
    shape = lambda leaf: (leaf.shape, leaf.dtype)  # noqa: E731
    assert jax.tree.map(shape, frozen) == jax.tree.map(shape, like)


def test_the_vector_of_a_code_is_its_embedding(audio):
    trained, _ = audio
    space = TokenizerSpace(tokenizer=trained.task, process=Masked())
    vectors = space.vectors({"params": trained.params, "stats": trained.stats})
    np.testing.assert_array_equal(vectors, trained.stats.codebook[None])
    assert TokenizerSpace(tokenizer=trained.task, process=Flow()).vectors({}) is None
    assert CodeSpace(data=Text(), process=Masked()).vectors({}) is None


def test_symbols_are_their_own_codes():
    space = CodeSpace(data=Text(length=4), process=Masked())
    assert (space.grid, space.shape) == ((4,), (4, 1))
    stored = jnp.stack([to_bytes(text, 4) for text in ("four", "six", "")])
    codes = space.encode({}, stored)
    assert codes.dtype == jnp.int32 and codes.shape == (3, 4, 1)
    np.testing.assert_array_equal(codes[..., 0], stored)
    np.testing.assert_array_equal(space.decode({}, codes), stored)
    tokens = space.tokens
    assert (tokens.codes, tokens.output, tokens.patch, tokens.grid) == (256, 256, 1, (4,))
    label = CodeSpace(data=Label(classes=3), process=Masked(), patch=1)
    assert (label.grid, label.shape, label.tokens.codes) == ((1,), (1, 1), 3)


def test_which_symbols_occur_is_counted_where_there_are_any():
    space = CodeSpace(data=Text(length=4), process=Masked())
    stored = np.stack([to_bytes(text, 4) for text in ("four", "six", "xyz!", "____")])
    batches = [
        batch("text", stored[:2]),
        batch("text", stored[2:], present=[True, False]),
        batch("text", stored[3:], valid=[False]),
    ]
    occurs = np.asarray(space.freeze(None, batches, "text")["occurs"])
    assert occurs.shape == (256,) and occurs.dtype == bool
    assert bytes(np.flatnonzero(occurs).astype(np.uint8)) == bytes(sorted(set(b"\0foursixxyz!")))
    assert jax.eval_shape(space.frozen_like)["occurs"].shape == (256,)
