"""Which tokens of a DiT attend to which: padding, packed documents, and blocks.

In training, a modality that is generated block by block has 2 L tokens: the noised tokens x_t,
followed by the clean tokens x_0. A noised token attends to the noised tokens of its own block and
to the clean tokens of earlier blocks. A clean token attends to the clean tokens of its own block
and of earlier blocks. Arriola et al., "Block Diffusion", arXiv:2503.09573, figure 3. If the whole
modality is known or unknown, it may have only L clean tokens.

All tokens of such a modality attend to the other modalities. The other modalities attend to its
clean tokens only if it is completely known (t = 0). Otherwise a block could see later blocks
through them.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.nn.masks import Mask, Segments
from vqdit.typing import Array, Bool, Int, Shaped

FAR = np.iinfo(np.int32).max
"""An index larger than the index of any block."""
NONE, OTHER = -1, -2
"""Document numbers of a position without document, and of a token that is not packed."""


class Piece(NamedTuple):
    """Consecutive tokens of one modality, or extra tokens.

    Attributes:
        tokens: number of tokens.
        real: True at tokens that are not padding; None if there is no padding.
        documents: document number of every token, -1 for none; None if there are no documents.
        block: number of tokens per block; 0 if all tokens are generated together.
        is_double: whether the tokens are the noised tokens of all blocks, followed by the clean
            tokens.
        known: True for examples in which a modality with blocks is known; None without blocks.
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

    Within a modality with documents, tokens attend only to tokens of the same document. Tokens of
    other modalities attend to all its tokens, and all its tokens attend to them.
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
    """Returns which tokens are visible to tokens of another modality."""
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
    """Returns which tokens attend to which under the rules for modality `number`, which has blocks.

    Each token gets a block number, a group and a limit. A query attends to keys whose block number
    is below the query's limit, and to keys of its group, the noised tokens of the same block.
    """
    piece = pieces[number]
    halves = 2 if piece.is_double else 1
    block = np.arange(piece.tokens // halves) // piece.block
    far, none = np.full_like(block, FAR), np.full_like(block, NONE)
    noised = (far, block, block) if piece.is_double else (block[:0],) * 3
    clean = (block, none, block + 1)
    of_key, group, limit = (np.concatenate(part)[None] for part in zip(noised, clean, strict=True))
    outside: Array | int = 0  # limit of other tokens
    if piece.known is not None:
        outside = jnp.where(piece.known, FAR, 0)[:, None]
    keys = _row(pieces, number, of_key, NONE)[:, None, :]  # other tokens are always below the limit
    limits = _row(pieces, number, limit, outside)[:, :, None]
    groups = _row(pieces, number, group, NONE)
    same = (groups[:, :, None] == groups[:, None, :]) & (groups >= 0)[:, None, :]
    return (keys < limits) | same


def _row(
    pieces: list[Piece], number: int, values: Array | np.ndarray, rest: Array | int
) -> Shaped[Array, "b l"]:
    """Returns one value per token: `values` for the tokens of one piece, `rest` for all others."""
    batch = max(len(values), len(rest) if isinstance(rest, Array) else 1)
    parts = [
        jnp.broadcast_to(values if other == number else rest, (batch, piece.tokens))
        for other, piece in enumerate(pieces)
    ]
    return jnp.concatenate(parts, axis=1)
