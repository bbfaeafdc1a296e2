"""The network of the DiT: an embedding per modality, a stack of blocks, and a head per modality.

The kind of block determines how the network uses time and label:

- `adaln_zero`, `mm_dit`: as the condition c = time(t) + label(y), one row per modality or per token
- `in_context`: as extra tokens at the end of the sequence, removed after the last block
- `cross_attention`: as a sequence (time, label, ...) that all tokens attend to
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.blocks import BLOCKS, ZEROS, BlockConfig, Conditioning, Hidden, Segment
from vqdit.models.tokens import Tokens, routed, spans
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import CodeEmbedding, TimeEmbedding, positions
from vqdit.nn.masks import Mask as Visible
from vqdit.nn.masks import Segments
from vqdit.nn.norms import ScaledNorm, normalized
from vqdit.nn.patches import fold, unfold
from vqdit.nn.rope import rotation
from vqdit.nn.stack import Remat, rematerialized, unroll
from vqdit.parallel import activations
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Int, Named

Pieces = list[tuple[str, Array]]
"""A sequence in pieces: pairs of a modality's name, or "", and its tokens [b, l, d]."""
Times = Named[Float[Array, "b _"]]
Mask = Named[Bool[Array, "b _"]]
Documents = Named[Int[Array, "b _"]]
Predictions = Named[Float[Array, "b _ _"]]
Positions = Literal["sincos", "rope", "both"]


class Network(nn.Module):
    """The Flax module behind `DiT`, which documents the other fields.

    Attributes:
        config: configuration that all blocks share.
        patch: patch size of the modalities whose `Tokens.patch` is 0.
        embedders: number of embedders of time and label: 0 for one that all blocks share, else one
            per block.
        inputs: description of every modality.
        is_watched: return the attention weights of every block too.
        taps: numbers of the blocks, counted from 1, after which the tokens are returned.
    """

    config: BlockConfig
    depth: int
    patch: int
    positions: Positions
    registers: int
    remat: Remat
    time_shift: int
    embedders: int
    inputs: Named[Tokens]
    is_watched: bool = False
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        x: Named[X],
        t: Times,
        mask: Mask | None = None,
        documents: Documents | None = None,
    ) -> tuple[Predictions, Any, Any]:
        """Returns the predictions, the recorded attention weights and the tapped tokens."""
        block, names = self.config.block, routed(self.inputs, "tokens")
        labels = [self._label(name, x[name]) for name in routed(self.inputs, "adaln")]
        times = [self._time(name, t[name]) for name in names]
        sequence = [(name, self._embed(name, x[name])) for name in names]
        context = [(name, self._embed(name, x[name])) for name in routed(self.inputs, "cross")]
        if self.registers:
            sequence.append(("", self._registers(sequence[0][1].shape[0])))
        if block == "mm_dit":
            sequence, context = sequence + context, []
        if block == "in_context":
            sequence.append(("", _listed(times, labels)))
        if block == "cross_attention":
            context.append(("", _listed(times, labels)))

        segments, rows, c = (), {}, jnp.zeros((sequence[0][1].shape[0], 0, self.config.dim))
        if block in ("adaln_zero", "mm_dit"):
            label = sum(labels[1:], labels[0]) if labels else 0.0
            sums = [time + label for time in times]
            rows = {name: nn.silu(c) for name, c in zip(names, sums, strict=True)}
            # Registers and context have no time: they are modulated by the mean of the others.
            mean = sum(jnp.mean(c, axis=-2, keepdims=True) for c in sums) / len(sums)
            all_rows = [rows[name] if name in rows else nn.silu(mean) for name, _ in sequence]
            segments = tuple(
                Segment(name, c.shape[-2], h.shape[1], is_context=name not in names)
                for (name, h), c in zip(sequence, all_rows, strict=True)
            )
            c = jnp.concatenate(all_rows, axis=-2)
        conditioning = Conditioning(
            c=c,
            visible=self._visible(sequence, mask or Named(), documents or Named()),
            context=_joined(context) if context else None,
            context_real=self._real(context, mask or Named()),
            turn=self._turn(sequence),
        )
        h, watched, tapped = self._blocks(_joined(sequence), segments, conditioning)
        out = {}
        for name, span in spans(self.inputs, self.patch).items():
            if self.inputs[name].output:
                row = rows[name][0] if self.embedders else rows.get(name)
                out[name] = self._head(name, h[:, span], row)
        return Named(out), watched, tapped

    def _embedder(self, kind: type[nn.Module]) -> type[nn.Module]:
        """Returns a module with one result, or with one for each block along the first axis."""
        if not self.embedders:
            return kind
        same: Any = None  # input for all
        return nn.vmap(
            kind,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=same,
            axis_size=self.embedders,
        )

    def _label(self, name: str, x: X) -> Float[Array, "*n b 1 d"]:
        tokens, kind = self.inputs[name], self._embedder(CodeEmbedding)
        return kind(tokens.codes, tokens.codebooks, self.config.dim, name=f"{name}_embed")(x)

    def _time(self, name: str, t: Float[Array, "b _"]) -> Float[Array, "*n b _ d"]:
        """Embeds the time, averaged over the positions of a patch if it is given per position."""
        grid, patch = self.inputs[name].grid, self._patch(name)
        if t.shape[1] > 1 and patch > 1:
            t = jnp.mean(fold(t[..., None], grid, patch), axis=-1)
        kind = self._embedder(TimeEmbedding)
        return kind(self.config.dim, self.time_shift, name=f"{name}_time")(t)

    def _registers(self, batch: int) -> Hidden:
        shape = (self.registers, self.config.dim)
        registers = self.param("registers", nn.initializers.normal(0.02), shape)
        return jnp.broadcast_to(registers, (batch, *shape))

    def _patch(self, name: str) -> int:
        return self.inputs[name].patch or self.patch

    def _embed(self, name: str, x: X) -> Hidden:
        tokens, dim, patch = self.inputs[name], self.config.dim, self._patch(name)
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
        return x + positions(tokens.folded(self.patch), dim)

    def _turn(self, sequence: Pieces) -> Float[Array, "2 l p"] | None:
        """Returns the rotary positions of the sequence; extra tokens are not rotated."""
        if self.positions == "sincos":
            return None
        grids = []
        for name, h in sequence:
            grids += [self.inputs[name].folded(self.patch)] if name else [(1,)] * h.shape[1]
        return jnp.asarray(rotation(tuple(grids), self.config.dim // self.config.heads))

    def _real(self, pieces: Pieces, mask: Mask) -> Bool[Array, "b l"] | None:
        """Returns the mask of the tokens that are not padding, or None without padding."""
        if not any(name in mask for name, _ in pieces):
            return None
        real = []
        for name, h in pieces:
            if name in mask:
                folded = fold(mask[name][..., None], self.inputs[name].grid, self._patch(name))
                real.append(jnp.any(folded, axis=-1))
            else:
                real.append(jnp.ones(h.shape[:2], bool))
        return jnp.concatenate(real, axis=1)

    def _visible(self, pieces: Pieces, mask: Mask, documents: Documents) -> Visible | None:
        """Returns which tokens attend to which; None if all attend to all.

        Tokens of a modality with documents attend, among its own tokens, only to those of the same
        document. Everything else is visible to all tokens, and all tokens are visible to it.
        """
        real = self._real(pieces, mask)
        names = [name for name, _ in pieces if name in documents]
        if not names:
            return real
        pairs = jnp.ones((), bool)
        for packed in names:
            folded = fold(
                documents[packed][..., None], self.inputs[packed].grid, self._patch(packed)
            )
            number = folded[..., 0]  # a token of several positions belongs to the first one's
            if len(pieces) == 1:
                return Segments(number, number if real is None else jnp.where(real, number, -1))
            numbers = [
                number if name == packed else jnp.full(h.shape[:2], -1) for name, h in pieces
            ]
            row = jnp.concatenate(numbers, axis=1)
            query, key = row[:, :, None], row[:, None, :]
            pairs = pairs & ((query == key) | (query < 0) | (key < 0))
        return pairs if real is None else pairs & real[:, None, :]

    def _blocks(
        self, h: Hidden, segments: tuple[Segment, ...], conditioning: Conditioning
    ) -> tuple[Float[Array, "b m d"], Any, Any]:
        """Returns the m tokens after the last block, attention weights and tapped tokens."""
        block = rematerialized(BLOCKS[self.config.block], self.remat)
        fields = (self.config, segments, self.is_watched)
        has_last = self.config.block == "mm_dit" and any(segment.is_context for segment in segments)
        depth = self.depth - has_last
        own = max(span.stop for span in spans(self.inputs, self.patch).values())
        taps = jnp.asarray(self.taps, jnp.int32)[:, None, None, None]

        def layer(block: nn.Module, carry: Any, number: Array, c: Array | None = None) -> Any:
            own_c = conditioning if c is None else conditioning._replace(c=c)
            h, watched = block(carry[0], own_c)
            tapped = jnp.where(taps == number, h[:, :own], carry[1]) if self.taps else None
            return (activations(h), tapped), None if watched is None else watched[:, :own, :own]

        stack = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=depth,
            unroll=1 if self.is_initializing() else unroll(depth, self.remat),
        )
        none = jnp.zeros((len(self.taps), h.shape[0], own, h.shape[2])) if self.taps else None
        per_block = (conditioning.c,) if self.embedders else ()
        numbers = jnp.arange(1, depth + 1)
        carry, watched = stack(block(*fields, name="blocks"), (h, none), numbers, *per_block)
        if has_last:
            last = block(*fields, is_last=True, name="last")
            carry, more = layer(last, carry, jnp.asarray(self.depth))
            watched = None if more is None else jnp.concatenate([watched, more[None]])
        return carry[0], watched, carry[1]

    def _head(
        self, name: str, h: Hidden, c: Float[Array, "b #l d"] | None
    ) -> Float[Array, "b p w"]:
        tokens, config, patch = self.inputs[name], self.config, self._patch(name)
        if c is None:
            h = ScaledNorm(config.norm, name=f"{name}_norm")(h)
        else:
            fields = {"kernel_init": ZEROS, "dtype": config.dtype, "name": f"{name}_modulation"}
            modulation = nn.Dense(2 * config.dim, **fields)(c).astype(jnp.float32)
            shift, scale = jnp.split(modulation, 2, axis=-1)
            h = normalized(h, config.norm) * (1.0 + scale) + shift
        outputs = tokens.output * patch ** len(tokens.grid)
        # Zero weights make the initial output exactly 0. Logits need the float32 product.
        h = nn.Dense(outputs, kernel_init=ZEROS, name=f"{name}_head")(h)
        return unfold(h, tokens.grid, patch)


def _listed(times: list[Array], labels: list[Array]) -> Float[Array, "b r d"]:
    """Returns the embedded times and labels as a sequence of r tokens."""
    if any(time.shape[1] > 1 for time in times):
        raise ValueError(
            "in_context and cross_attention take one time per modality, not one per position; use "
            "adaln_zero or mm_dit"
        )
    return jnp.concatenate([*times, *labels], axis=1)


def _joined(pieces: Pieces) -> Hidden:
    return jnp.concatenate([h for _, h in pieces], axis=1)
