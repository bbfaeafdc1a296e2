"""Packed documents: each gives what it gives alone, and other modalities see all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DiT, Tokens
from vqdit.typing import Named

LENGTHS = (3, 5, 4)
WINDOW = sum(LENGTHS)
NUMBER = jnp.repeat(jnp.arange(len(LENGTHS)), jnp.asarray(LENGTHS))[None]


def text(length):
    return Tokens(grid=(length,), codes=7, output=7)


def network(block, **fields):
    # In-context tokens of time see all documents, which the next block would show to the others.
    fields = {"depth": 1 if block == "in_context" else 2, **fields}
    return DiT(dim=16, heads=2, patch=1, block=block, positions="rope", qk_norm=True, **fields)


def drawn(model, inputs):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * random.normal(size=leaf.shape), "f4"), shapes
    )


def applied(model, params, inputs, x, t, **how):
    run = jax.jit(
        lambda params, x, t, how: model.apply(params, inputs, Named(text=x), Named(text=t), **how)
    )
    return run(params, x, t, how)["text"]


@pytest.mark.parametrize("block", ["adaln_zero", "in_context", "cross_attention", "mm_dit"])
def test_each_document_gives_what_it_gives_alone(block):
    model, inputs = network(block), Named(text=text(WINDOW))
    params = drawn(model, inputs)
    x = jax.random.randint(jax.random.key(1), (2, WINDOW, 1), -1, 7)
    t = jnp.asarray([[100.0], [700.0]])
    documents = Named(text=jnp.concatenate([NUMBER, NUMBER]))
    how = {"documents": documents}
    packed = applied(model, params, inputs, x, t, **how)
    starts = np.cumsum([0, *LENGTHS])
    # The distance to in-context tokens is that from the start of the window.
    count = 1 if block == "in_context" else len(LENGTHS)
    for start, length in zip(starts[:count], LENGTHS, strict=False):
        span = slice(start, start + length)
        alone = applied(model, params, Named(text=text(length)), x[:, span], t)
        np.testing.assert_allclose(packed[:, span], alone, atol=1e-5)
    assert np.abs(packed - applied(model, params, inputs, x, t)).max() > 0.01


@pytest.mark.parametrize("block", ["adaln_zero", "mm_dit"])
def test_who_attends_to_whom(block):
    """Beside a picture, a condition and padding: the weights that must be zero, and only these."""
    model = network(block, registers=0 if block == "mm_dit" else 2)
    inputs = Named(
        image=Tokens(grid=(2, 2), codes=5, output=5),
        text=text(WINDOW),
        label=Tokens(route="cross", grid=(3,), codes=4),
    )
    params = drawn(model, inputs)
    x = Named(
        image=jnp.zeros((1, 4, 1), int),
        text=jnp.ones((1, WINDOW, 1), int),
        label=jnp.zeros((1, 3, 1), int),
    )
    t = Named(image=jnp.full((1, 1), 9.0), text=jnp.full((1, 1), 5.0), label=jnp.zeros((1, 1)))
    real = jnp.arange(WINDOW)[None] < WINDOW - 2
    how = {"documents": Named(text=NUMBER), "mask": Named(text=real)}
    weights = jax.jit(lambda params: model.attend(params, inputs, x, t, **how))(params)
    seen = np.ones((4 + WINDOW, 4 + WINDOW), bool)
    seen[4:, 4:] = np.asarray(NUMBER[0][:, None] == NUMBER[0])
    seen[:, 4:] &= np.asarray(real)
    np.testing.assert_array_equal(np.asarray(weights[:, 0] > 1e-12), np.stack([seen] * 2))


def test_a_patch_belongs_to_the_document_of_its_first_position():
    inputs = Named(sound=Tokens(grid=(8,), width=2, output=2, patch=2))
    model = network("adaln_zero")
    params = drawn(model, inputs)
    x = Named(sound=jnp.ones((1, 8, 2)))
    documents = Named(sound=jnp.asarray([[0, 0, 0, 1, 1, 1, 2, 2]]))
    t = Named(sound=jnp.full((1, 1), 5.0))
    attend = lambda params: model.attend(params, inputs, x, t, documents=documents)  # noqa: E731
    weights = jax.jit(attend)(params)
    expected = np.asarray([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(np.asarray(weights[0, 0] > 0), expected > 0)
