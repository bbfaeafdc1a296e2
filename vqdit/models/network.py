"""The network of the DiT: an embedding per modality, a stack of blocks, and a head per modality.

The kind of block determines how the network uses time and label:

- `adaln_zero`, `mm_dit`: as the condition c = time(t) + label(y), one row per modality or per token
- `in_context`: as extra tokens at the end of the sequence, removed after the last block
- `cross_attention`: as a sequence (time, label, ...) that all tokens attend to
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.models.blocks import (
    BLOCKS,
    ZEROS,
    Conditioning,
    Hidden,
    KeysAndValues,
    Record,
    Segment,
    spread,
)
from vqdit.models.sequence import Documents, Mask, Pieces, Sequence, Times
from vqdit.models.tokens import doubled, routed, spans
from vqdit.models.visibility import real, seen_from_outside, visible
from vqdit.nn.norms import ScaledNorm, normalized
from vqdit.nn.patches import unfold
from vqdit.nn.stack import Remat, rematerialized, unroll
from vqdit.parallel import activations
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Float, Int, Named

Predictions = Named[Float[Array, "b _ _"]]


class Cache(NamedTuple):
    """Cached tokens to which the tokens of one block attend, in addition to each other.

    Attributes:
        keys: keys and values of earlier tokens [n, b, m, h, e] in each of the network's n
            transformer blocks.
        real: True at tokens that can be attended to.
        start: index of the first position of the block.
    """

    keys: KeysAndValues
    real: Bool[Array, "b m"]
    start: Int[Array, ""]


class Network(Sequence):
    """The Flax module of `DiT`, which documents the other fields.

    Attributes:
        record: kind of the additional result of every block.
        taps: numbers of the blocks, counted from 1, after which the tokens are returned.
        alone: name of a modality that is computed separately from the others, or "". With a cache,
            only the tokens of this modality are computed. Without a cache, only the tokens of the
            other modalities are computed; no predictions are then returned, but the keys and values
            of these tokens and their visibility.
    """

    depth: int
    remat: Remat
    record: Record = "nothing"
    taps: tuple[int, ...] = ()
    alone: str = ""

    @nn.compact
    def __call__(
        self,
        x: Named[X],
        t: Times,
        mask: Mask | None = None,
        documents: Documents | None = None,
        cache: Cache | None = None,
    ) -> tuple[Predictions, Any, Any]:
        """Returns the predictions, additional results of the blocks, and tokens at `taps`."""
        block, names = self.config.block, routed(self.inputs, "tokens")
        start = None if cache is None else cache.start
        batch = next(iter(x.values())).shape[0]
        own = [self.alone] if cache is not None else [n for n in names if n != self.alone]
        labels = [self.label(name, x[name]) for name in routed(self.inputs, "adaln")]
        times = {n: self.time(n, t[n], x[n]) for n in (own if cache is not None else names)}
        sequence = [(name, self.embed(name, x[name], start)) for name in own]
        context = [(name, self.embed(name, x[name])) for name in routed(self.inputs, "cross")]
        if self.registers and cache is None:
            sequence.append(("", self.extra_tokens(batch)))
        if block == "mm_dit":
            sequence, context = sequence + (context if cache is None else []), []
        if block == "in_context":
            sequence.append(("", _listed(list(times.values()), labels)))
        if block == "cross_attention":
            context.append(("", _listed(list(times.values()), labels)))

        segments, rows, c = (), {}, jnp.zeros((batch, 0, self.config.dim))
        if block in ("adaln_zero", "mm_dit"):
            label = sum(labels[1:], labels[0]) if labels else 0.0
            sums = {name: time + label for name, time in times.items()}
            rows = {name: nn.silu(self.of_tokens(name, sums[name])) for name in own}
            # Registers and context have no time; they are modulated by the mean of the others.
            mean = sum(self.of_all(name, c) for name, c in sums.items()) / len(sums)
            all_rows = [rows[name] if name in rows else nn.silu(mean) for name, _ in sequence]
            segments = tuple(
                Segment(name, c.shape[-2], h.shape[1], is_context=name not in names)
                for (name, h), c in zip(sequence, all_rows, strict=True)
            )
            c = jnp.concatenate(all_rows, axis=-2)
        mask, documents = mask or Named(), documents or Named()
        pieces = self.pieces(sequence, x, t, mask, documents)
        seen = visible(pieces, batch)
        if cache is not None:
            seen = real(pieces, batch)
            seen = jnp.ones((batch, pieces[0].tokens), bool) if seen is None else seen
            seen = jnp.concatenate([cache.real, seen], axis=1)
        conditioning = Conditioning(
            c=c,
            visible=seen,
            context=_joined(context) if context else None,
            context_real=real(self.pieces(context, x, t, mask, Named()), batch)
            if context
            else None,
            turn=self.turn(sequence, start),
        )
        length = sum(h.shape[1] for name, h in sequence if name in names)
        keys = None if cache is None else cache.keys
        h, recorded, tapped = self._blocks(_joined(sequence), segments, conditioning, length, keys)
        if self.alone and cache is None:
            return Named(), (recorded, seen_from_outside(pieces, batch)), None
        both = doubled(self.inputs, x)
        out, found = {}, spans(self.inputs, self.patch, both)
        for name in own:
            if self.inputs[name].output:
                part = h if cache is not None else h[:, found[name]]
                row = rows[name][0] if self.embedders else rows.get(name)
                if name in both and row is not None:
                    row = row[:, : row.shape[1] // 2]  # noised tokens only
                out[name] = self._head(name, part, row)
        return Named(out), recorded, tapped

    def _blocks(
        self,
        h: Hidden,
        segments: tuple[Segment, ...],
        conditioning: Conditioning,
        own: int,
        cache: KeysAndValues | None,
    ) -> tuple[Float[Array, "b m d"], Any, Any]:
        """Returns the m tokens after the last block, additional results, and tokens at `taps`.

        Attention weights and tokens at `taps` are only for the first `own` tokens.
        """
        block = rematerialized(BLOCKS[self.config.block], self.remat)
        fields = (self.config, segments, self.record)
        has_last = self.config.block == "mm_dit" and bool(routed(self.inputs, "cross"))
        depth = self.depth - has_last
        taps = jnp.asarray(self.taps, jnp.int32)[:, None, None, None]

        def layer(block: nn.Module, carry: Any, number: Array, per_block: dict[str, Any]) -> Any:
            h, recorded = block(carry[0], conditioning._replace(**per_block))
            tapped = jnp.where(taps == number, h[:, :own], carry[1]) if self.taps else None
            recorded = recorded[:, :own, :own] if self.record == "weights" else recorded
            return (activations(h), tapped), recorded

        stack = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=depth,
            unroll=1 if self.is_initializing() else unroll(depth, self.remat),
        )
        none = jnp.zeros((len(self.taps), h.shape[0], own, h.shape[2])) if self.taps else None
        per_block: dict[str, Any] = {"c": conditioning.c} if self.embedders else {}
        if cache is not None:
            per_block["cache"] = jax.tree.map(lambda part: part[:depth], cache)
        numbers = jnp.arange(1, depth + 1)
        carry, recorded = stack(block(*fields, name="blocks"), (h, none), numbers, per_block)
        if has_last:
            last = block(*fields, is_last=True, name="last")
            per_block = {} if cache is None else {"cache": jax.tree.map(lambda a: a[-1], cache)}
            carry, more = layer(last, carry, jnp.asarray(self.depth), per_block)
            join = lambda some, one: jnp.concatenate([some, one[None]])  # noqa: E731
            recorded = jax.tree.map(join, recorded, more)
        return carry[0], recorded, carry[1]

    def _head(self, name: str, h: Hidden, c: Float[Array, "b _ d"] | None) -> Float[Array, "b p w"]:
        tokens, config, patch = self.inputs[name], self.config, self.patch_of(name)
        if c is None:
            h = ScaledNorm(config.norm, name=f"{name}_norm")(h)
        else:
            fields = {"kernel_init": ZEROS, "dtype": config.dtype, "name": f"{name}_modulation"}
            modulation = nn.Dense(2 * config.dim, **fields)(c).astype(jnp.float32)
            shift, scale = jnp.split(spread(modulation, h.shape[1]), 2, axis=-1)
            h = normalized(h, config.norm) * (1.0 + scale) + shift
        outputs = tokens.output * patch ** len(tokens.grid)
        # Zero weights make the initial output exactly 0. Logits need the float32 product.
        h = nn.Dense(outputs, kernel_init=ZEROS, name=f"{name}_head")(h)
        return h if tokens.block else unfold(h, tokens.grid, patch)


def _listed(times: list[Array], labels: list[Array]) -> Float[Array, "b r d"]:
    """Returns the embedded times and labels as a sequence of r tokens."""
    if any(time.shape[1] > 1 for time in times):
        raise ValueError(
            "block='in_context' and block='cross_attention' need one time per modality, but got "
            "one per position; use block='adaln_zero' or 'mm_dit'"
        )
    return jnp.concatenate([*times, *labels], axis=1)


def _joined(pieces: Pieces) -> Hidden:
    return jnp.concatenate([h for _, h in pieces], axis=1)
