"""Which tokens of a DiT attend to which: padding, packed documents, and blocks.

A modality that is generated block by block enters training as 2 L tokens, the noised ones x_t
before the clean ones x_0. A noised token attends to the noised tokens of its own block and to the
clean ones of earlier blocks, a clean token to the clean ones of its own and of earlier blocks.
Arriola et al., "Block Diffusion", arXiv:2503.09573, figure 3. Where it is known, or unknown, as a
whole, it may enter as L clean tokens.

All tokens of such a modality attend to the other modalities. These attend to its clean tokens where
it is known as a whole (t = 0), and not at all elsewhere: through them, a block would see the later
blocks.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.nn.masks import Mask, Segments
from vqdit.typing import Array, Bool, Int, Shaped

FAR = np.iinfo(np.int32).max
"""A number larger than that of any block."""
NONE, OTHER = -1, -2
"""Numbers of documents: a position of no document, and a token of something that is not packed."""


class Piece(NamedTuple):
    """Consecutive tokens of one modality, or extra tokens.

    Attributes:
        tokens: number of tokens.
        real: True at tokens that are not padding; None if there is no padding.
        documents: number of every token's document, -1 for none; None if there are no documents.
        block: tokens per block; 0 if they are generated together.
        is_double: whether the noised tokens of all blocks stand before the clean ones.
        known: True where a modality with blocks is known; None if it has none.
    """

    tokens: int
    real: Bool[Array, "b _"] | None = None
    documents: Int[Array, "b _"] | None = None
    block: int = 0
    is_double: bool = False
    known: Bool[Array, " b"] | None = None


def real(pieces: list[Piece], batch: int) -> Bool[Array, "b l"] | None:
    """Returns the mask of the tokens that are not padding, or None without padding."""
    if all(piece.real is None for piece in pieces):
        return None
    every = [jnp.ones((batch, p.tokens), bool) if p.real is None else p.real for p in pieces]
    return jnp.concatenate(every, axis=1)


def visible(pieces: list[Piece], batch: int) -> Mask | None:
    """Returns which tokens of a sequence attend to which; None if all attend to all.

    Tokens of a modality with documents attend, among its own tokens, only to those of the same
    document. Everything else is visible to all tokens, and all tokens are visible to it.
    """
    own = real(pieces, batch)
    if len(pieces) == 1 and pieces[0].documents is not None and not pieces[0].block:
        numbers = pieces[0].documents
        keys = numbers if own is None else jnp.where(own, numbers, NONE)
        return Segments(jnp.maximum(numbers, 0), keys)
    limits = [
        _of_documents(pieces, number, piece.documents)
        for number, piece in enumerate(pieces)
        if piece.documents is not None
    ]
    limits += [_of_blocks(pieces, number) for number, piece in enumerate(pieces) if piece.block]
    if not limits:
        return own
    pairs = functools.reduce(jnp.logical_and, limits)
    pairs = pairs if own is None else pairs & own[:, None, :]
    return jnp.broadcast_to(pairs, (batch, *pairs.shape[1:]))


def seen_from_outside(pieces: list[Piece], batch: int) -> Bool[Array, "b l"]:
    """Returns which tokens the tokens of another modality attend to."""
    own = real(pieces, batch)
    seen = jnp.ones((batch, sum(p.tokens for p in pieces)), bool) if own is None else own
    for number, piece in enumerate(pieces):
        if piece.known is not None:
            seen = seen & _row(pieces, number, piece.known[:, None], True)
    return seen


def _of_documents(
    pieces: list[Piece], number: int, numbers: Int[Array, "b _"]
) -> Bool[Array, "b l l"]:
    row = _row(pieces, number, numbers, OTHER)
    query, key = row[:, :, None], row[:, None, :]
    return ((query == key) | (query == OTHER) | (key == OTHER)) & (key != NONE)


def _of_blocks(pieces: list[Piece], number: int) -> Bool[Array, "#b l l"]:
    """A query sees the clean tokens of blocks below a limit, and the noised ones of its group."""
    piece = pieces[number]
    halves = 2 if piece.is_double else 1
    block = np.arange(piece.tokens // halves) // piece.block
    far, none = np.full_like(block, FAR), np.full_like(block, NONE)
    noised = (far, block, block) if piece.is_double else (block[:0],) * 3
    clean = (block, none, block + 1)
    of_key, group, limit = (np.concatenate(part)[None] for part in zip(noised, clean, strict=True))
    outside: Array | int = 0  # the limit of other tokens
    if piece.known is not None:
        outside = jnp.where(piece.known, FAR, 0)[:, None]
    keys = _row(pieces, number, of_key, NONE)[:, None, :]  # other tokens are below every limit
    limits = _row(pieces, number, limit, outside)[:, :, None]
    groups = _row(pieces, number, group, NONE)
    same = (groups[:, :, None] == groups[:, None, :]) & (groups >= 0)[:, None, :]
    return (keys < limits) | same


def _row(
    pieces: list[Piece], number: int, values: Array | np.ndarray, rest: Array | int
) -> Shaped[Array, "b l"]:
    """Returns one value per token: `values` for those of a piece, and `rest` for all others."""
    batch = max(len(values), len(rest) if isinstance(rest, Array) else 1)
    parts = [
        jnp.broadcast_to(values if other == number else rest, (batch, piece.tokens))
        for other, piece in enumerate(pieces)
    ]
    return jnp.concatenate(parts, axis=1)
