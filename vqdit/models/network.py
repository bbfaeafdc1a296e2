"""The network of the DiT: embeddings of every modality, a stack of blocks, a head for each.

What time and label become, by the kind of block:

    adaln_zero, mm_dit:  c = time(t) + label(y), one row per modality, or one per token
    in_context:          tokens of their own behind the others, that are dropped at the end
    cross_attention:     a sequence (time, label, ...) that all tokens attend to
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.blocks import BLOCKS, ZEROS, Given, Layers, Part
from vqdit.models.tokens import Tokens, routed, spans
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import CodeEmbedding, TimeEmbedding, positions
from vqdit.nn.norms import ScaledNorm, normalized
from vqdit.nn.patches import fold, unfold
from vqdit.nn.rope import rotation
from vqdit.nn.stack import Remat, rematerialized, unroll
from vqdit.parallel import activations
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Named

Pieces = list[tuple[str, Array]]
"""Pieces of a sequence: the name of a modality, or "", and tokens [b, l, d]."""
Positions = Literal["sincos", "rope", "both"]


class Network(nn.Module):
    """The network; `DiT` says what its fields are.

    Attributes:
        layers: what all blocks share.
        depth: number of blocks.
        patch: of the modalities that have none of their own.
        positions: of the tokens.
        registers: learned tokens behind the others.
        remat: what the backward pass recomputes.
        time_shift: of the frequencies of the time embedding.
        inputs: what the modalities are.
        is_watched: return how much each token looks at each other.
        taps: numbers of the blocks after which the tokens are returned.
    """

    layers: Layers
    depth: int
    patch: int
    positions: Positions
    registers: int
    remat: Remat
    time_shift: int
    inputs: Named[Tokens]
    is_watched: bool = False
    taps: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
        mask: Named[Bool[Array, "b _"]] | None = None,
    ) -> tuple[Named[Float[Array, "b _ _"]], Any, Any]:
        """Returns the predictions, the watched attention, and the tokens of the tapped blocks."""
        block, names = self.layers.block, routed(self.inputs, "tokens")
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

        parts, rows, c = (), {}, jnp.zeros((sequence[0][1].shape[0], 0, self.layers.dim))
        if block in ("adaln_zero", "mm_dit"):
            label = sum(labels[1:], labels[0]) if labels else 0.0
            sums = [time + label for time in times]
            rows = {name: nn.silu(c) for name, c in zip(names, sums, strict=True)}
            # What has no time of its own is modulated by all of them.
            mean = sum(jnp.mean(c, axis=1, keepdims=True) for c in sums) / len(sums)
            all_rows = [rows[name] if name in rows else nn.silu(mean) for name, _ in sequence]
            parts = tuple(
                Part(name, c.shape[1], h.shape[1], is_given=name not in names)
                for (name, h), c in zip(sequence, all_rows, strict=True)
            )
            c = jnp.concatenate(all_rows, axis=1)
        given = Given(
            c=c,
            real=self._real(sequence, mask or Named()),
            context=_joined(context) if context else None,
            context_real=self._real(context, mask or Named()),
            turn=self._turn(sequence),
        )
        h, watched, tapped = self._blocks(_joined(sequence), parts, given)
        out = {}
        for name, part in spans(self.inputs, self.patch).items():
            if self.inputs[name].output:
                out[name] = self._head(name, h[:, part], rows.get(name))
        return Named(out), watched, tapped

    def _label(self, name: str, x: X) -> Float[Array, "b 1 d"]:
        tokens = self.inputs[name]
        embed = CodeEmbedding(tokens.codes, tokens.codebooks, self.layers.dim, name=f"{name}_embed")
        return embed(x)

    def _time(self, name: str, t: Float[Array, "b _"]) -> Float[Array, "b _ d"]:
        """Embeds a time; a token of several positions takes their mean."""
        grid, patch = self.inputs[name].grid, self._patch(name)
        if t.shape[1] > 1 and patch > 1:
            t = jnp.mean(fold(t[..., None], grid, patch), axis=-1)
        return TimeEmbedding(self.layers.dim, self.time_shift, name=f"{name}_time")(t)

    def _registers(self, batch: int) -> Float[Array, "b l d"]:
        shape = (self.registers, self.layers.dim)
        registers = self.param("registers", nn.initializers.normal(0.02), shape)
        return jnp.broadcast_to(registers, (batch, *shape))

    def _patch(self, name: str) -> int:
        return self.inputs[name].patch or self.patch

    def _embed(self, name: str, x: X) -> Float[Array, "b l d"]:
        tokens, dim, patch = self.inputs[name], self.layers.dim, self._patch(name)
        if tokens.codes:
            x = CodeEmbedding(tokens.codes, tokens.codebooks, dim, name=f"{name}_embed")(x)
        if tokens.width or patch > 1:
            x = fold(x, tokens.grid, patch)
            dtype = jnp.dtype(self.layers.dtype)
            x = nn.Dense(dim, kernel_init=XAVIER, dtype=dtype, name=f"{name}_patch")(x)
        x = x.astype(jnp.float32)
        is_turned = tokens.route == "tokens" or self.layers.block == "mm_dit"
        if self.positions == "rope" and is_turned:
            return x
        return x + positions(tokens.folded(self.patch), dim)

    def _turn(self, sequence: Pieces) -> Float[Array, "2 l p"] | None:
        """Returns the rotary positions of the sequence; only modalities have any."""
        if self.positions == "sincos":
            return None
        grids = []
        for name, h in sequence:
            grids += [self.inputs[name].folded(self.patch)] if name else [(1,)] * h.shape[1]
        return jnp.asarray(rotation(tuple(grids), self.layers.dim // self.layers.heads))

    def _real(self, pieces: Pieces, mask: Named[Bool[Array, "b _"]]) -> Bool[Array, "b l"] | None:
        """Returns which tokens are no padding; None if all are."""
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

    def _blocks(
        self, h: Float[Array, "b l d"], parts: tuple[Part, ...], given: Given
    ) -> tuple[Float[Array, "b m d"], Any, Any]:
        """Returns the m tokens of what is predicted, and what was seen on the way."""
        block = rematerialized(BLOCKS[self.layers.block], self.remat)
        fields = (self.layers, parts, self.is_watched)
        has_last = self.layers.block == "mm_dit" and any(part.is_given for part in parts)
        depth = self.depth - has_last
        own = max(part.stop for part in spans(self.inputs, self.patch).values())
        taps = jnp.asarray(self.taps, jnp.int32)[:, None, None, None]

        def layer(block: nn.Module, carry: Any, number: Array) -> Any:
            h, watched = block(carry[0], given)
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
        carry, watched = stack(block(*fields, name="blocks"), (h, none), jnp.arange(1, depth + 1))
        if has_last:
            last = block(*fields, is_last=True, name="last")
            carry, more = layer(last, carry, jnp.asarray(self.depth))
            watched = None if more is None else jnp.concatenate([watched, more[None]])
        return carry[0], watched, carry[1]

    def _head(
        self, name: str, h: Float[Array, "b l d"], c: Float[Array, "b #l d"] | None
    ) -> Float[Array, "b p w"]:
        tokens, layers, patch = self.inputs[name], self.layers, self._patch(name)
        if c is None:
            h = ScaledNorm(layers.norm, name=f"{name}_norm")(h)
        else:
            modulate = nn.Dense(
                2 * layers.dim, kernel_init=ZEROS, dtype=layers.dtype, name=f"{name}_modulation"
            )
            shift, scale = jnp.split(modulate(c).astype(jnp.float32), 2, axis=-1)
            h = normalized(h, layers.norm) * (1.0 + scale) + shift
        outputs = tokens.output * patch ** len(tokens.grid)
        # The zero start makes the output exactly 0; the product is float32: it is the logits.
        h = nn.Dense(outputs, kernel_init=ZEROS, name=f"{name}_head")(h)
        return unfold(h, tokens.grid, patch)


def _listed(times: list[Array], labels: list[Array]) -> Float[Array, "b r d"]:
    """Returns times and labels as a sequence."""
    if any(time.shape[1] > 1 for time in times):
        raise ValueError(
            "in_context and cross_attention take one time per modality, not one per position; use "
            "adaln_zero or mm_dit"
        )
    return jnp.concatenate([*times, *labels], axis=1)


def _joined(pieces: Pieces) -> Float[Array, "b l d"]:
    return jnp.concatenate([h for _, h in pieces], axis=1)
