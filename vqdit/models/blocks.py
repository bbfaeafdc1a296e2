"""The transformer blocks of the DiT, which differ in their use of the time and the condition c.

`adaln_zero` modulates each normalised input and gates each residual branch by a linear function of
silu(c) that is initialised to zero::

    x <- x + gate_1 * attention(norm(x) * (1 + scale_1) + shift_1)
    x <- x + gate_2 *       mlp(norm(x) * (1 + scale_2) + shift_2)

`in_context` has pre-norm blocks without modulation, and appends c to the sequence as extra tokens.
`cross_attention` adds x <- x + attention(norm(x), c) between self-attention and MLP. `mm_dit` is
`adaln_zero` with separate weights for each modality and attention over the tokens of all of them.

Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748, section 3.2; Esser
et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206, figure 2. The residual stream is
float32; matrix products use `dtype`.
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.attention import Implementation, attention, shares
from vqdit.nn.dense import XAVIER, Dense, Projections
from vqdit.nn.masks import Mask, for_first_queries
from vqdit.nn.mlp import MLP, mlp
from vqdit.nn.norms import Norm, ScaledNorm, normalized
from vqdit.nn.rope import rotate
from vqdit.typing import Array, Bool, Component, Float

Kind = Literal["adaln_zero", "in_context", "cross_attention", "mm_dit"]
ZEROS = nn.initializers.zeros_init()
Hidden = Float[Array, "b l d"]
Heads = tuple[Array, Array, Array]
"""Queries, keys and values [b, l, h, d]."""
KeysAndValues = tuple[Array, Array]
Record = Literal["nothing", "weights", "keys"]
"""Additional result of a block: attention weights [b, l, m], averaged over heads, or keys and
values [b, l, h, e].
"""


class BlockConfig(Component):
    """The configuration shared by all blocks of a stack; `DiT` documents the fields."""

    block: Kind
    dim: int
    heads: int
    hidden: int
    mlp: MLP
    norm: Norm
    qk_norm: bool
    dtype: str
    attention: Implementation
    mlp_eps: float = 1e-6


class Segment(NamedTuple):
    """Consecutive tokens of one modality, and how many rows of the condition they use.

    Attributes:
        name: name of the modality; "" for registers.
        rows: number of rows of the condition c. One row is for all tokens; of several rows, each is
            for the same number of consecutive tokens.
        tokens: number of tokens.
        is_context: True if other tokens attend to these tokens, but the network has no predictions
            for them.
    """

    name: str
    rows: int
    tokens: int
    is_context: bool = False


class Conditioning(NamedTuple):
    """The inputs of every block besides the tokens.

    Attributes:
        c: silu(c): rows of the condition, concatenated over the segments [b, r, d], or [n, b, r, d]
            if the n blocks have separate rows; r = 0 for blocks without modulation.
        visible: which tokens attend to which; None if all attend to all.
        context: sequence [b, m, d] for cross-attention; None disables cross-attention.
        context_real: False at padding of the context [b, m]; None if there is no padding.
        turn: cosine and sine of rotary positions [2, l, p]; None disables rotary positions.
        cache: keys and values [b, m, h, e] of earlier tokens, to which the tokens also attend;
            `visible` then has m + l keys.
    """

    c: Float[Array, "*n b r d"]
    visible: Mask | None = None
    context: Float[Array, "b m d"] | None = None
    context_real: Bool[Array, "b m"] | None = None
    turn: Float[Array, "2 l p"] | None = None
    cache: KeysAndValues | None = None


Result = tuple[Hidden, Any]
"""The tokens, and the additional result. `nn.scan` requires a pair."""


class Block(nn.Module):
    """Base class of the blocks.

    Attributes:
        config: configuration that all blocks share.
        segments: one segment per modality.
        record: additional result of the block: "weights" (attention weights), "keys" (keys and
            values) or "nothing".
    """

    config: BlockConfig
    segments: tuple[Segment, ...]
    record: Record = "nothing"


class AdaLNZero(Block):
    """A block modulated by time and condition, which is the identity at initialisation."""

    @nn.compact
    def __call__(self, x: Hidden, conditioning: Conditioning) -> Result:
        config = self.config
        rows = Dense(6 * config.dim, config.dtype, ZEROS, name="modulation")
        modulation = per_token(rows(conditioning.c), self.segments).astype(jnp.float32)  # b #l 6d
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(modulation, 6, axis=-1)
        q, k, v = _qkv(config, normalized(x, config.norm) * (1.0 + scale_1) + shift_1)
        h, recorded = _attended(config, q, k, v, conditioning, self.record)
        x = x + gate_1 * _out(config, h)
        if conditioning.context is not None:
            h = normalized(x, config.norm)
            x = x + _cross(config, h, conditioning.context, conditioning.context_real, init=ZEROS)
        h = normalized(x, config.norm, config.mlp_eps) * (1.0 + scale_2) + shift_2
        return x + gate_2 * _mlp(config, h), recorded


class Plain(Block):
    """A pre-norm block without modulation, with cross-attention if there is a context."""

    @nn.compact
    def __call__(self, x: Hidden, conditioning: Conditioning) -> Result:
        config = self.config
        q, k, v = _qkv(config, ScaledNorm(config.norm, name="norm_1")(x))
        h, recorded = _attended(config, q, k, v, conditioning, self.record)
        x = x + _out(config, h)
        if conditioning.context is not None:
            h = ScaledNorm(config.norm, name="norm_cross")(x)
            x = x + _cross(config, h, conditioning.context, conditioning.context_real)
        return x + _mlp(config, ScaledNorm(config.norm, name="norm_2")(x)), recorded


class MMDiT(Block):
    """A block with separate weights for each modality and attention over all tokens.

    Attributes:
        is_last: True uses context segments only as keys and values, and omits them from the result.
    """

    is_last: bool = False

    @nn.compact
    def __call__(self, x: Hidden, conditioning: Conditioning) -> tuple[Float[Array, "b _ d"], Any]:
        config, heads, later = self.config, [], []
        # Nothing reads the context tokens after the last block, so it computes only their keys and
        # values.
        only_kv = [self.is_last and segment.is_context for segment in self.segments]
        rows = _pieces(conditioning.c, [segment.rows for segment in self.segments])
        streams = _pieces(x, [segment.tokens for segment in self.segments])
        for segment, only, c, h in zip(self.segments, only_kv, rows, streams, strict=True):
            count, name = 2 if only else 6, f"{segment.name}_modulation"
            modulate = Dense(count * config.dim, config.dtype, ZEROS, name=name)
            modulation = spread(modulate(c), segment.tokens).astype(jnp.float32)
            shift, scale, *rest = jnp.split(modulation, count, axis=-1)
            h = normalized(h, config.norm) * (1.0 + scale) + shift
            heads.append((_kv if only else _qkv)(config, h, f"{segment.name}_"))
            later.append(rest)
        q, k, v = (jnp.concatenate(pieces, axis=1) for pieces in zip(*heads, strict=True))
        joint, recorded = _attended(config, q, k, v, conditioning, self.record)
        pieces, results = _pieces(joint, [head[0].shape[1] for head in heads]), []
        for segment, h, x, rest in zip(self.segments, pieces, streams, later, strict=True):
            if rest:
                gate_1, shift_2, scale_2, gate_2 = rest
                x = x + gate_1 * _out(config, h, f"{segment.name}_")
                h = normalized(x, config.norm, config.mlp_eps) * (1.0 + scale_2) + shift_2
                results.append(x + gate_2 * _mlp(config, h, f"{segment.name}_"))
        return jnp.concatenate(results or [x[:, :0]], axis=1), recorded


BLOCKS = {"adaln_zero": AdaLNZero, "in_context": Plain, "cross_attention": Plain, "mm_dit": MMDiT}


def per_token(rows: Float[Array, "b r d"], segments: tuple[Segment, ...]) -> Array:
    """Returns one row per token, by repeating the rows of each segment."""
    if len(segments) == 1:
        return spread(rows, segments[0].tokens)
    pieces = [
        jnp.broadcast_to(
            spread(piece, segment.tokens), (piece.shape[0], segment.tokens, piece.shape[2])
        )
        for segment, piece in zip(segments, _pieces(rows, [s.rows for s in segments]), strict=True)
    ]
    return jnp.concatenate(pieces, axis=1)


def spread(rows: Float[Array, "b _ d"], tokens: int) -> Float[Array, "b _ d"]:
    """Repeats rows so that there is one per token; a single row is not repeated."""
    count = rows.shape[1]
    return rows if count in (1, tokens) else jnp.repeat(rows, tokens // count, axis=1)


def _pieces(x: Array, sizes: list[int]) -> list[Array]:
    stops = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [x[:, stop - size : stop] for stop, size in zip(stops, sizes, strict=True)]


def _qkv(config: BlockConfig, h: Hidden, prefix: str = "") -> Heads:
    project = Projections(3, config.dim, config.dtype, name=f"{prefix}qkv")
    q, k, v = (_heads(config, projected) for projected in project(h))
    return _bounded(config, q, f"{prefix}q"), _bounded(config, k, f"{prefix}k"), v


def _kv(config: BlockConfig, h: Hidden, prefix: str) -> Heads:
    """Returns keys and values of tokens, and empty queries [b, 0, h, d]."""
    project = Projections(2, config.dim, config.dtype, name=f"{prefix}kv")
    k, v = (_heads(config, projected) for projected in project(h))
    return k[:, :0], _bounded(config, k, f"{prefix}k"), v


def _heads(config: BlockConfig, h: Hidden) -> Float[Array, "b l h e"]:
    return h.reshape(*h.shape[:2], config.heads, -1)


def _bounded(config: BlockConfig, h: Float[Array, "b l h d"], name: str) -> Float[Array, "b l h d"]:
    """If `qk_norm` is set, RMS-normalises each head of queries or keys, which bounds the scores."""
    if not config.qk_norm:
        return h
    return ScaledNorm("rms", name=f"{name}_norm")(h).astype(config.dtype)


def _attended(
    config: BlockConfig, q: Array, k: Array, v: Array, conditioning: Conditioning, record: Record
) -> tuple[Hidden, Any]:
    """Returns the result of self-attention, and the additional result that `record` names."""
    visible = for_first_queries(conditioning.visible, q.shape[1])  # the tokens that `_kv` keeps
    if conditioning.turn is not None:
        q, k = rotate(q, conditioning.turn[:, : q.shape[1]]), rotate(k, conditioning.turn)
    recorded = (k, v) if record == "keys" else None
    if conditioning.cache is not None:
        earlier = zip(conditioning.cache, (k, v), strict=True)
        k, v = (jnp.concatenate(parts, axis=1) for parts in earlier)
    if record == "weights":
        recorded = jnp.mean(shares(q, k, mask=visible), axis=1)
    h = attention(q, k, v, mask=visible, implementation=config.attention)
    return h.reshape(*h.shape[:2], -1), recorded


def _out(config: BlockConfig, h: Hidden, prefix: str = "") -> Hidden:
    return Dense(config.dim, config.dtype, name=f"{prefix}out")(h).astype(jnp.float32)


def _mlp(config: BlockConfig, h: Hidden, prefix: str = "") -> Hidden:
    h = mlp(h, config.mlp, config.hidden, dtype=config.dtype, prefix=prefix)
    return h.astype(jnp.float32)


def _cross(
    config: BlockConfig,
    h: Hidden,
    context: Float[Array, "b m d"],
    real: Bool[Array, "b m"] | None,
    init: nn.initializers.Initializer = XAVIER,
) -> Hidden:
    """Returns cross-attention of the tokens to the context, without rotary positions."""
    q = _heads(config, Dense(config.dim, config.dtype, name="cross_q")(h))
    project = Projections(2, config.dim, config.dtype, name="cross_kv")
    k, v = (_heads(config, projected) for projected in project(context))
    q, k = _bounded(config, q, "cross_q"), _bounded(config, k, "cross_k")
    h = attention(q, k, v, mask=real, implementation=config.attention).reshape(h.shape)
    return Dense(config.dim, config.dtype, init, name="cross_out")(h).astype(jnp.float32)
