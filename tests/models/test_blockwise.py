"""Blocks of codes: who sees whom, and the same predictions with and without a cache."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DiT, Tokens
from vqdit.models.cached import CachedDiT
from vqdit.models.tokens import spans
from vqdit.typing import Named

LENGTH, BLOCK, CODES = 12, 4, 7
TEXT = Tokens(grid=(LENGTH,), codes=CODES, output=CODES, block=BLOCK)
IMAGE = Tokens(grid=(2, 2), codes=5, output=5)
BESIDE = Named(
    image=IMAGE,
    text=TEXT,
    question=dataclasses.replace(TEXT, grid=(8,)),
    style=Tokens(route="cross", grid=(3,), codes=4),
    label=Tokens(route="adaln", grid=(1,), codes=3),
)
KINDS = {
    "adaln_zero": {"block": "adaln_zero", "registers": 2, "positions": "both"},
    "mm_dit": {"block": "mm_dit", "positions": "both", "qk_norm": True},
    "per_block": {"embedders": "per_block", "registers": 1},
}


def network(**fields):
    return DiT(dim=32, heads=2, patch=1, depth=2, **fields)


def drawn(model, inputs, scale=0.15):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    random = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(scale * random.normal(size=leaf.shape), "f4")  # noqa: E731
    return jax.tree.map(draw, shapes)


def codes(seed, length, k=CODES):
    return jax.random.randint(jax.random.key(seed), (2, length, 1), 0, k)


def beside(question_known=True):
    x = Named(
        image=codes(1, 4, 5), style=codes(2, 3, 4), label=codes(3, 1, 3), question=codes(4, 8)
    )
    at = 0.0 if question_known else 1000.0
    t = Named(
        image=jnp.full((2, 1), 300.0),
        style=jnp.zeros((2, 1)),
        label=jnp.zeros((2, 1)),
        question=jnp.full((2, 1), at),
    )
    return x, t


def noised(clean, seed=5):
    hidden = jax.random.bernoulli(jax.random.key(seed), 0.5, clean.shape)
    return jnp.where(hidden, -1, clean)


def figure(length, block):
    """The mask of the paper's figure 3, by loops."""
    seen = np.zeros((2 * length, 2 * length), bool)
    for i in range(length):
        for j in range(length):
            seen[i, j] = i // block == j // block
            seen[i, length + j] = j // block < i // block
            seen[length + i, length + j] = j // block <= i // block
    return seen


def weights(model, params, inputs, x, t, **how):
    return np.asarray(jax.jit(lambda params: model.attend(params, inputs, x, t, **how))(params))


@pytest.mark.parametrize(("block", "is_packed"), [(1, False), (4, False), (4, True), (12, False)])
def test_blocks_see_themselves_and_clean_earlier_ones(block, is_packed):
    """With packed documents, only those of the same document; the last position has none."""
    inputs = Named(text=dataclasses.replace(TEXT, block=block))
    model = network()
    x = jnp.concatenate([codes(0, LENGTH), codes(1, LENGTH)], axis=1)
    t = jnp.linspace(0.0, 999.0, 2 * LENGTH // block).reshape(2, -1)
    number = np.asarray([0] * 5 + [1] * 6 + [-1])
    expected, how = figure(LENGTH, block), {}
    if is_packed:
        how = {"documents": Named(text=jnp.asarray(np.stack([number] * 2)))}
        both = np.tile(number, 2)
        expected &= (both[:, None] == both) & (both >= 0)
        expected[both < 0] = True  # what has no document and sees nothing
    params = drawn(model, inputs, 0.05)
    found = weights(model, params, inputs, Named(text=x), Named(text=t), **how) > 0
    if is_packed:
        found[:, :, both < 0] = True
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_others_see_what_is_known_and_nothing_of_what_is_not():
    """The picture, the registers and a question see the text only in the example that knows it."""
    model = network(block="adaln_zero")
    params = drawn(model, BESIDE, 0.05)
    x, t = beside()
    text = codes(0, LENGTH)
    x = x | {"text": jnp.concatenate([text, text], axis=1)}
    t = t | {"text": jnp.asarray([[0.0] * 3, [0.0, 0.0, 500.0]])}
    found = weights(model, params, BESIDE, x, t) > 0  # [n, 2, l, l] of image, text, question
    places = spans(BESIDE, 1, ["text"])
    image, question, start = places["image"], places["question"], places["text"].start
    own = slice(start, start + 2 * LENGTH)
    for known, each in zip((True, False), np.moveaxis(found, 1, 0), strict=True):
        for layer in each:
            outside = np.broadcast_to(np.arange(2 * LENGTH) >= LENGTH, (4, 2 * LENGTH)) & known
            np.testing.assert_array_equal(layer[image, own], outside)
            np.testing.assert_array_equal(layer[question, own], np.repeat(outside, 2, axis=0))
            np.testing.assert_array_equal(layer[own, own], figure(LENGTH, BLOCK))
            assert layer[own, image].all() and layer[own, question].all()
            np.testing.assert_array_equal(
                layer[question, question], np.arange(8)[:, None] // 4 >= np.arange(8) // 4
            )


@pytest.mark.parametrize("kind", ["adaln_zero", "mm_dit"])
def test_a_block_does_not_depend_on_what_comes_later(kind):
    model = network(**KINDS[kind])
    params = drawn(model, BESIDE)
    x, t = beside()
    clean, at = codes(0, LENGTH), jnp.asarray([[100.0, 500.0, 900.0]] * 2)

    @jax.jit
    def predicted(clean, shown, at):
        both = jnp.concatenate([shown, clean], axis=1)
        return model.apply(params, BESIDE, x | {"text": both}, t | {"text": at})

    shown = noised(clean)
    before = predicted(clean, shown, at)
    other = predicted(
        clean.at[:, BLOCK:].set(0), shown.at[:, 2 * BLOCK :].set(-1), at.at[:, 2].set(5.0)
    )
    np.testing.assert_array_equal(before["text"][:, : 2 * BLOCK], other["text"][:, : 2 * BLOCK])
    assert np.abs(before["text"] - other["text"])[:, 2 * BLOCK :].max() > 1e-3
    for name in ("image", "question"):
        np.testing.assert_array_equal(before[name], other[name])


@pytest.mark.parametrize("kind", ["mm_dit", "per_block"])
def test_one_block_of_all_codes_is_the_ordinary_network(kind):
    model = network(**KINDS[kind])
    one = dataclasses.replace(TEXT, block=LENGTH)
    plain = Named(text=dataclasses.replace(TEXT, block=0))
    model = dataclasses.replace(model, registers=0)
    params = drawn(model, plain)
    clean = codes(0, LENGTH)
    t = Named(text=jnp.asarray([[100.0], [900.0]]))
    both = Named(text=jnp.concatenate([noised(clean), clean], axis=1))
    found = jax.jit(lambda: model.apply(params, Named(text=one), both, t))()
    expected = jax.jit(lambda: model.apply(params, plain, Named(text=noised(clean)), t))()
    np.testing.assert_allclose(found["text"], expected["text"], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "is_known"),
    [("adaln_zero", False), ("mm_dit", True), ("per_block", True), ("alone", True)],
)
def test_the_cache_gives_the_predictions_of_the_whole_sequence(kind, is_known):
    inputs = Named(text=TEXT) if kind == "alone" else BESIDE
    model = network(**KINDS.get(kind, {}))
    params = drawn(model, inputs)
    x, t = (Named(), Named()) if kind == "alone" else beside(is_known)
    clean, at = codes(0, LENGTH), jnp.asarray([[100.0, 500.0, 900.0], [0.0, 700.0, 1000.0]])
    shown, cached = noised(clean), CachedDiT(model=model, inputs=inputs, name="text")

    @jax.jit
    def at_once():
        both = jnp.concatenate([shown, clean], axis=1)
        return model.apply(params, inputs, x | {"text": both}, t | {"text": at})["text"]

    @jax.jit
    def block_by_block():
        kept = cached.others(params, x | {"text": clean}, t | {"text": at[:, :1]})
        kept, found = cached.with_room(kept, 0, 5), []
        kept = cached.with_room(kept, 5, LENGTH - 5)
        for number in range(LENGTH // BLOCK):
            start = jnp.asarray(number * BLOCK)
            span = slice(number * BLOCK, (number + 1) * BLOCK)
            own = {"text": at[:, number : number + 1]}
            step = cached.step(params, kept, x | {"text": shown[:, span]}, t | own, start)
            kept = cached.keep(params, kept, x | {"text": clean[:, span]}, t | own, start)
            found.append(step[0])
        return jnp.concatenate(found, axis=1)

    np.testing.assert_allclose(block_by_block(), at_once(), atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "fields", "message"),
    [
        ({"block": 5}, {}, "block=5 of 'text' does not divide the 12 positions; use block=4"),
        ({"patch": 2}, {}, "needs one token per position, but the patch is 2; use patch=1"),
        ({}, {"block": "in_context"}, "block=in_context.*|needs a time for every block of codes"),
        (
            {},
            {"attention": "splash"},
            "needs a mask of query-key pairs, which attention='splash' does not",
        ),
    ],
)
def test_what_cannot_have_blocks_is_refused(tokens, fields, message):
    with pytest.raises(ValueError, match=message):
        network(**fields).check(Named(text=dataclasses.replace(TEXT, **tokens)))
