"""Converts the modalities of a DiT to the inputs of its blocks: tokens, times and positions."""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.models.blocks import BlockConfig, Hidden
from vqdit.models.tokens import Tokens, doubled, routed
from vqdit.models.visibility import Piece
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import CodeEmbedding, TimeEmbedding, positions
from vqdit.nn.patches import fold
from vqdit.nn.rope import rotation
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Int, Named

Pieces = list[tuple[str, Array]]
"""A sequence as a list of pairs: a modality's name, or "", and its tokens [b, l, d]."""
Times = Named[Float[Array, "b _"]]
Mask = Named[Bool[Array, "b _"]]
Documents = Named[Int[Array, "b _"]]
Positions = Literal["sincos", "rope", "both"]


def check_blocks(inputs: Named[Tokens], config: BlockConfig, patch: int) -> None:
    """Raises ValueError unless modalities with blocks can be generated block by block."""
    for name, tokens in inputs.items():
        if not tokens.block:
            continue
        count, own = math.prod(tokens.grid), f"block={tokens.block} of {name!r}"
        if count % tokens.block:
            near = [n for n in range(1, count + 1) if count % n == 0]
            near = min(near, key=lambda n: abs(n - tokens.block))
            raise ValueError(f"{own} does not divide the {count} positions; use block={near}")
        if (tokens.patch or patch) != 1:
            raise ValueError(
                f"{own} needs one token per position, but the patch is {tokens.patch or patch}; "
                "use patch=1"
            )
        if config.block not in ("adaln_zero", "mm_dit"):
            raise ValueError(
                f"{own} needs a time for every block of codes, but a DiT of block="
                f"{config.block!r} has one time per modality; use adaln_zero or mm_dit"
            )
        if config.attention == "splash":
            raise ValueError(
                f"{own} needs a mask of query-key pairs, which attention='splash' does not "
                "support; use attention='auto'"
            )


class Sequence(nn.Module):
    """Base class of `Network`, which converts the modalities to one sequence of tokens.

    Attributes:
        config: configuration that all blocks share.
        patch: patch size of the modalities whose `Tokens.patch` is 0.
        positions: see `DiT`.
        registers: see `DiT`.
        time_shift: see `DiT`.
        embedders: number of embedders of time and label: 0 for a shared embedder, else one per
            block.
        inputs: description of every modality.
    """

    config: BlockConfig
    patch: int
    positions: Positions
    registers: int
    time_shift: int
    embedders: int
    inputs: Named[Tokens]

    def embedder(self, kind: type[nn.Module]) -> type[nn.Module]:
        """Returns an embedding module; its results have a block axis if blocks embed separately."""
        if not self.embedders:
            return kind
        same: Any = None  # shared input
        return nn.vmap(
            kind,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=same,
            axis_size=self.embedders,
        )

    def label(self, name: str, x: X) -> Float[Array, "*n b 1 d"]:
        tokens, kind = self.inputs[name], self.embedder(CodeEmbedding)
        return kind(tokens.codes, tokens.codebooks, self.config.dim, name=f"{name}_embed")(x)

    def time(self, name: str, t: Float[Array, "b _"], x: X) -> Float[Array, "*n b _ d"]:
        """Embeds the time; times per position are averaged over the positions of a patch.

        The last row of a modality with blocks is for t = 0.
        """
        tokens, patch = self.inputs[name], self.patch_of(name)
        if tokens.block:
            zeros = jnp.zeros_like(t[:, :1])
            if tokens.is_doubled(x.shape[1]):
                count = math.prod(tokens.grid) // tokens.block
                t = jnp.broadcast_to(t, (len(t), count))
                zeros = jnp.zeros((len(t), count + 1))  # for the clean tokens
            t = jnp.concatenate([t, zeros], axis=1)
        elif t.shape[1] > 1 and patch > 1:
            t = jnp.mean(fold(t[..., None], tokens.grid, patch), axis=-1)
        kind = self.embedder(TimeEmbedding)
        return kind(self.config.dim, self.time_shift, name=f"{name}_time")(t)

    def of_tokens(self, name: str, c: Float[Array, "*n b _ d"]) -> Float[Array, "*n b _ d"]:
        """Returns the rows of c for a modality's tokens."""
        return c[..., :-1, :] if self.inputs[name].block else c

    def of_all(self, name: str, c: Float[Array, "*n b _ d"]) -> Float[Array, "*n b 1 d"]:
        """Returns the row of c that represents a whole modality.

        Other tokens see a modality with blocks either clean or not at all, so its row is for t = 0.
        """
        return c[..., -1:, :] if self.inputs[name].block else jnp.mean(c, axis=-2, keepdims=True)

    def extra_tokens(self, batch: int) -> Hidden:
        shape = (self.registers, self.config.dim)
        registers = self.param("registers", nn.initializers.normal(0.02), shape)
        return jnp.broadcast_to(registers, (batch, *shape))

    def patch_of(self, name: str) -> int:
        return self.inputs[name].patch or self.patch

    def embed(self, name: str, x: X, start: Int[Array, ""] | None = None) -> Hidden:
        tokens, dim, patch = self.inputs[name], self.config.dim, self.patch_of(name)
        if tokens.codes:
            x = CodeEmbedding(tokens.codes, tokens.codebooks, dim, name=f"{name}_embed")(x)
        if tokens.width or patch > 1:
            x = fold(x, tokens.grid, patch)
            dtype = jnp.dtype(self.config.dtype)
            x = nn.Dense(dim, kernel_init=XAVIER, dtype=dtype, name=f"{name}_patch")(x)
        x = x.astype(jnp.float32)
        is_turned = tokens.route == "tokens" or self.config.block == "mm_dit"
        if self.positions == "rope" and is_turned:
            return x
        table = positions(tokens.folded(self.patch), dim)
        return x + _taken(table, x.shape[1], start)

    def turn(self, sequence: Pieces, start: Int[Array, ""] | None) -> Float[Array, "2 l p"] | None:
        """Returns cosine and sine of rotary positions; extra tokens are not rotated."""
        if self.positions == "sincos":
            return None
        turned = routed(self.inputs, "tokens")
        if self.config.block == "mm_dit":
            turned += routed(self.inputs, "cross")
        grids = [self.inputs[name].folded(self.patch) for name in turned]
        angles = rotation(tuple(grids), self.config.dim // self.config.heads)
        stops = np.cumsum([math.prod(grid) for grid in grids])[:-1]
        tables = dict(zip(turned, np.split(angles, stops, axis=1), strict=True))
        unturned = np.stack([np.ones_like(angles[0, :1]), np.zeros_like(angles[0, :1])])
        parts = [
            _taken(tables[name], h.shape[1], start, axis=1)
            if name
            else np.repeat(unturned, h.shape[1], axis=1)
            for name, h in sequence
        ]
        return jnp.concatenate(parts, axis=1)

    def pieces(
        self, sequence: Pieces, x: Named[X], t: Times, mask: Mask, documents: Documents
    ) -> list[Piece]:
        """Describes the parts of a sequence, from which the visible tokens are computed."""
        pieces, both = [], doubled(self.inputs, x)
        for name, h in sequence:
            if not name:
                pieces.append(Piece(h.shape[1]))
                continue
            tokens, parts = self.inputs[name], {}
            for field, found in (("real", mask), ("documents", documents)):
                if name in found:
                    folded = fold(found[name][..., None], tokens.grid, self.patch_of(name))
                    # A token of several positions is real if any position is, and has the first
                    # document number.
                    part = jnp.any(folded, axis=-1) if field == "real" else folded[..., 0]
                    parts[field] = jnp.concatenate([part] * (2 if name in both else 1), axis=1)
            if tokens.block:
                is_known = jnp.all(t[name] == 0.0, axis=1)
                parts |= {"block": tokens.block, "is_double": name in both, "known": is_known}
            pieces.append(Piece(h.shape[1], **parts))
        return pieces


def _taken(
    table: np.ndarray, count: int, start: Int[Array, ""] | None, axis: int = 0
) -> np.ndarray | Array:
    """Returns table entries for `count` tokens: all, all twice, or those from `start` on."""
    if start is not None:
        return jax.lax.dynamic_slice_in_dim(jnp.asarray(table), start, count, axis)
    return np.concatenate([table] * (count // table.shape[axis]), axis=axis)
