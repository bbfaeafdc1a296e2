"""The blocks of the DiT, which differ in how time and condition come in.

    adaln_zero:       x <- x + gate_1 * attention(norm(x) (1 + scale_1) + shift_1)
                      x <- x + gate_2 *       mlp(norm(x) (1 + scale_2) + shift_2)
                      with shift, scale, gate = linear(silu(c)), zero at the start
    in_context:       x <- x + attention(norm(x)); x <- x + mlp(norm(x)), c among the tokens
    cross_attention:  the same, with x <- x + attention(norm(x), c) between the two
    mm_dit:           adaln_zero with weights of its own for every modality, whose tokens attend to
                      one another

Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748, section 3.2; Esser
et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206, figure 2. The residual stream is
float32, the products are `dtype`.
"""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.attention import Implementation, attention, shares
from vqdit.nn.dense import XAVIER, Dense, Projections
from vqdit.nn.mlp import MLP, mlp
from vqdit.nn.norms import Norm, ScaledNorm, normalized
from vqdit.nn.rope import rotate
from vqdit.typing import Array, Bool, Component, Float

Kind = Literal["adaln_zero", "in_context", "cross_attention", "mm_dit"]
ZEROS = nn.initializers.zeros_init()


class Layers(Component):
    """What all blocks of a stack share; `DiT` says what each field is."""

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


class Part(NamedTuple):
    """Neighbouring tokens of the sequence that are modulated alike.

    Attributes:
        name: of the modality.
        rows: of the condition c: 1, or one per token.
        tokens: how many.
        is_given: whether nothing is predicted for them.
    """

    name: str
    rows: int
    tokens: int
    is_given: bool = False


class Given(NamedTuple):
    """What every block is given beside the tokens.

    Attributes:
        c: silu of the rows of the condition, of all parts [b, r, d]; no rows for plain blocks.
        real: which tokens are no padding [b, l]; None: all.
        context: what is attended to in cross-attention [b, m, d]; None: nothing.
        context_real: which of it is no padding [b, m]; None: all.
        turn: rotary positions [2, l, p]; None: none.
    """

    c: Float[Array, "b r d"]
    real: Bool[Array, "b l"] | None = None
    context: Float[Array, "b m d"] | None = None
    context_real: Bool[Array, "b m"] | None = None
    turn: Float[Array, "2 l p"] | None = None


Result = tuple[Float[Array, "b l d"], Float[Array, "b l l"] | None]
"""The tokens, and how much each looks at each other if that is watched: `nn.scan` wants a pair."""


class AdaLNZero(nn.Module):
    """A block that time and condition modulate; the identity at the start."""

    layers: Layers
    parts: tuple[Part, ...]
    is_watched: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], given: Given) -> Result:
        layers = self.layers
        rows = Dense(6 * layers.dim, layers.dtype, ZEROS, name="modulation")
        modulation = per_token(rows(given.c), self.parts).astype(jnp.float32)  # b #l 6d
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(modulation, 6, axis=-1)
        q, k, v = _qkv(layers, normalized(x, layers.norm) * (1.0 + scale_1) + shift_1)
        h, watched = _attended(layers, q, k, v, given, self.is_watched)
        x = x + gate_1 * _out(layers, h)
        if given.context is not None:
            h = normalized(x, layers.norm)
            x = x + _cross(layers, h, given.context, given.context_real, init=ZEROS)
        h = normalized(x, layers.norm, layers.mlp_eps) * (1.0 + scale_2) + shift_2
        return x + gate_2 * _mlp(layers, h), watched


class Plain(nn.Module):
    """A pre-norm block, with cross-attention if there is something to attend to."""

    layers: Layers
    parts: tuple[Part, ...]
    is_watched: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"], given: Given) -> Result:
        layers = self.layers
        q, k, v = _qkv(layers, ScaledNorm(layers.norm, name="norm_1")(x))
        h, watched = _attended(layers, q, k, v, given, self.is_watched)
        x = x + _out(layers, h)
        if given.context is not None:
            h = ScaledNorm(layers.norm, name="norm_cross")(x)
            x = x + _cross(layers, h, given.context, given.context_real)
        return x + _mlp(layers, ScaledNorm(layers.norm, name="norm_2")(x)), watched


class MMDiT(nn.Module):
    """A block in which every modality has weights of its own, and all tokens attend to all.

    Attributes:
        layers: what all blocks share.
        parts: the modalities, one stream each.
        is_watched: return how much each token looks at each other.
        is_last: what is given is looked at, and left out of the result.
    """

    layers: Layers
    parts: tuple[Part, ...]
    is_watched: bool = False
    is_last: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], given: Given
    ) -> tuple[Float[Array, "b _ d"], Float[Array, "b _ l"] | None]:
        layers, heads, later = self.layers, [], []
        # After the last block nobody reads what is given: there it is only looked at.
        is_read = [self.is_last and part.is_given for part in self.parts]
        rows = _pieces(given.c, [part.rows for part in self.parts])
        streams = _pieces(x, [part.tokens for part in self.parts])
        for part, only, c, h in zip(self.parts, is_read, rows, streams, strict=True):
            count, name = 2 if only else 6, f"{part.name}_modulation"
            modulate = Dense(count * layers.dim, layers.dtype, ZEROS, name=name)
            shift, scale, *rest = jnp.split(modulate(c).astype(jnp.float32), count, axis=-1)
            h = normalized(h, layers.norm) * (1.0 + scale) + shift
            heads.append((_kv if only else _qkv)(layers, h, f"{part.name}_"))
            later.append(rest)
        q, k, v = (jnp.concatenate(pieces, axis=1) for pieces in zip(*heads, strict=True))
        joint, watched = _attended(layers, q, k, v, given, self.is_watched)
        pieces, results = _pieces(joint, [head[0].shape[1] for head in heads]), []
        for part, h, x, rest in zip(self.parts, pieces, streams, later, strict=True):
            if rest:
                gate_1, shift_2, scale_2, gate_2 = rest
                x = x + gate_1 * _out(layers, h, f"{part.name}_")
                h = normalized(x, layers.norm, layers.mlp_eps) * (1.0 + scale_2) + shift_2
                results.append(x + gate_2 * _mlp(layers, h, f"{part.name}_"))
        return jnp.concatenate(results, axis=1), watched


BLOCKS = {
    "adaln_zero": AdaLNZero,
    "in_context": Plain,
    "cross_attention": Plain,
    "mm_dit": MMDiT,
}


def per_token(rows: Float[Array, "b r d"], parts: tuple[Part, ...]) -> Array:
    """Repeats rows for their tokens, where a part has one row: its gradient is a plain sum."""
    if len(parts) == 1:
        return rows
    pieces = [
        jnp.broadcast_to(piece, (piece.shape[0], part.tokens, piece.shape[2]))
        for part, piece in zip(parts, _pieces(rows, [part.rows for part in parts]), strict=True)
    ]
    return jnp.concatenate(pieces, axis=1)


def _pieces(x: Array, sizes: list[int]) -> list[Array]:
    """Divides the second axis into pieces of these sizes."""
    stops = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [x[:, stop - size : stop] for stop, size in zip(stops, sizes, strict=True)]


def _qkv(layers: Layers, h: Float[Array, "b l d"], prefix: str = "") -> tuple[Array, Array, Array]:
    """Returns queries, keys and values [b, l, h, d] of tokens."""
    project = Projections(3, layers.dim, layers.dtype, name=f"{prefix}qkv")
    q, k, v = (_heads(layers, part) for part in project(h))
    return _bounded(layers, q, f"{prefix}q"), _bounded(layers, k, f"{prefix}k"), v


def _kv(layers: Layers, h: Float[Array, "b l d"], prefix: str) -> tuple[Array, Array, Array]:
    """Returns no queries, and keys and values [b, l, h, d] of tokens."""
    project = Projections(2, layers.dim, layers.dtype, name=f"{prefix}kv")
    k, v = (_heads(layers, part) for part in project(h))
    return k[:, :0], _bounded(layers, k, f"{prefix}k"), v


def _heads(layers: Layers, h: Float[Array, "b l d"]) -> Float[Array, "b l h e"]:
    return h.reshape(*h.shape[:2], layers.heads, -1)


def _bounded(layers: Layers, h: Float[Array, "b l h d"], name: str) -> Float[Array, "b l h d"]:
    """Normalises each head of queries or keys (RMS) if asked to: that bounds the scores."""
    if not layers.qk_norm:
        return h
    return ScaledNorm("rms", name=f"{name}_norm")(h).astype(layers.dtype)


def _attended(
    layers: Layers, q: Array, k: Array, v: Array, given: Given, is_watched: bool
) -> tuple[Float[Array, "b l d"], Float[Array, "b l _"] | None]:
    """Returns what the tokens gather from one another, and who looked at whom."""
    if given.turn is not None:
        q, k = rotate(q, given.turn[:, : q.shape[1]]), rotate(k, given.turn)
    watched = jnp.mean(shares(q, k, mask=given.real), axis=1) if is_watched else None
    h = attention(q, k, v, mask=given.real, implementation=layers.attention)
    return h.reshape(*h.shape[:2], -1), watched


def _out(layers: Layers, h: Float[Array, "b l d"], prefix: str = "") -> Float[Array, "b l d"]:
    dense = Dense(layers.dim, layers.dtype, name=f"{prefix}out")
    return dense(h).astype(jnp.float32)


def _mlp(layers: Layers, h: Float[Array, "b l d"], prefix: str = "") -> Float[Array, "b l d"]:
    h = mlp(h, layers.mlp, layers.hidden, dtype=layers.dtype, prefix=prefix)
    return h.astype(jnp.float32)


def _cross(
    layers: Layers,
    h: Float[Array, "b l d"],
    context: Float[Array, "b m d"],
    real: Bool[Array, "b m"] | None,
    init: nn.initializers.Initializer = XAVIER,
) -> Float[Array, "b l d"]:
    """Attention of the tokens to the context, which has no positions of its own."""
    q = _heads(layers, Dense(layers.dim, layers.dtype, name="cross_q")(h))
    project = Projections(2, layers.dim, layers.dtype, name="cross_kv")
    k, v = (_heads(layers, part) for part in project(context))
    q, k = _bounded(layers, q, "cross_q"), _bounded(layers, k, "cross_k")
    h = attention(q, k, v, mask=real, implementation=layers.attention)
    h = h.reshape(*h.shape[:2], -1)
    out = Dense(layers.dim, layers.dtype, init, name="cross_out")
    return out(h).astype(jnp.float32)
