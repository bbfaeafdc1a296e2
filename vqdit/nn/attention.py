"""Scaled dot-product attention for all networks.

softmax(q k^T / sqrt(d)) v, with the softmax in float32 whatever the precision of the inputs.
Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, eq. 1.

There are three implementations: matrix products ("xla"), the fused kernel of cuDNN ("cudnn") and
splash attention on TPUs ("splash"). The fused kernels do not write the scores to device memory.
"auto" chooses one of them by the target devices, the precision, the lengths and the mask.
"""

from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from vqdit.nn.masks import Mask, is_of_pairs, over_scores
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Float

T = TypeVar("T")
Queries = Float[Array, "b l h d"]
Keys = Float[Array, "b m h d"]
"""Keys or values."""
Residuals = tuple[Array, ...]
Implementation = Literal["auto", "xla", "cudnn", "splash"]
CUDNN_FROM = 64
"""Smallest number of keys and queries for which "auto" uses cuDNN, which is slower below it."""
SPLASH_FROM = 256
"""Smallest number of keys and queries for which "auto" uses splash; below, padding dominates."""
HOME = {"cudnn": "cuda", "splash": "tpu"}
"""The platform on which each fused kernel runs."""


def attention(
    q: Queries,
    k: Keys,
    v: Keys,
    *,
    mask: Mask | None = None,
    implementation: Implementation = "auto",
) -> Queries:
    """Returns the attended values, in the precision of v; keys whose mask is False are hidden.

    A query for which the mask hides all keys gets a finite but meaningless result.

    Raises:
        ValueError: if the implementation does not support the current platform or the mask.
    """
    check_implementation(implementation)
    if implementation == "auto":
        lengths = (q.shape[1], k.shape[1])
        implementation = chosen(platform().name, v.dtype, lengths, q.shape[-1])
        is_uneven = q.shape[0] % platform().devices  # splash needs equally many examples per device
        if implementation == "splash" and (is_uneven or is_of_pairs(mask)):
            implementation = "xla"
    if implementation == "splash" and is_of_pairs(mask):
        raise ValueError(
            "attention='splash' supports masks of keys or segments, got a mask of query-key "
            "pairs; use attention='auto'"
        )
    if implementation == "cudnn":
        out = _cudnn(q, k, v, mask)
    elif implementation == "splash":
        from vqdit.nn.splash import splash  # slow to import, and only needed on TPUs

        out = splash(q, k, v, mask)
    else:
        return _plain(q, k, v, mask)
    return checkpoint_name(out, "attention")


def check_implementation(implementation: Implementation) -> None:
    """Raises ValueError if the implementation does not support the target platform."""
    home = HOME.get(implementation)
    if home and platform().name not in (home, "counted"):
        raise ValueError(
            f"attention={implementation!r} runs only on {home}, but this program is compiled for "
            f"{platform().name}; use attention='auto'"
        )


def chosen(platform: str, dtype: jnp.dtype, lengths: tuple[int, int], width: int) -> Implementation:
    """Returns the implementation that "auto" selects.

    Args:
        platform: name of the platform, such as "cuda" or "tpu".
        dtype: precision of queries, keys and values.
        lengths: number of queries and number of keys.
        width: channels per head.
    """
    is_half = dtype in (jnp.bfloat16, jnp.float16)
    if platform == "cuda" and is_half and width % 8 == 0 and width <= 128:
        return "cudnn" if min(lengths) >= CUDNN_FROM else "xla"
    if platform == "tpu" and min(lengths) >= SPLASH_FROM:
        return "splash"
    return "xla"


def shares(q: Queries, k: Keys, *, mask: Mask | None = None) -> Float[Array, "b h l m"]:
    """Returns the attention weights [b, h, l, m] of l queries over m keys; each row sums to 1."""
    q = jnp.swapaxes(q, 1, 2) * q.shape[-1] ** -0.5
    return jax.nn.softmax(_scores(q, jnp.swapaxes(k, 1, 2), mask), axis=-1)


def _scores(
    q: Float[Array, "b h l d"], k: Float[Array, "b h m d"], mask: Mask | None
) -> Float[Array, "b h l m"]:
    """Returns the float32 products of keys and queries; the queries are already scaled."""
    scores = jnp.einsum("b h l d, b h m d -> b h l m", q, k, preferred_element_type=jnp.float32)
    if mask is None:
        return scores
    return jnp.where(over_scores(mask), scores, jnp.finfo(jnp.float32).min)


@jax.custom_vjp
def _plain(q: Queries, k: Keys, v: Keys, mask: Mask | None) -> Queries:
    """Attention by matrix products; its hand-written gradient is twice as fast on a CPU."""
    return _products(q, k, v, mask)[0]


def _plain_forward(
    q: Queries, k: Keys, v: Keys, mask: Mask | None
) -> tuple[Queries, tuple[Residuals, ...]]:
    """Returns the result, and the residuals of the gradient for each part of the batch."""
    each = [_products(*part) for part in _parts((q, k, v, mask))]
    return jnp.concatenate([out for out, _ in each]), tuple(kept for _, kept in each)


def _plain_backward(
    kept: tuple[Residuals, ...], g: Queries
) -> tuple[Float[Array, "b _ h d"] | None, ...]:
    """Returns the gradients of q, k and v, and None for the mask."""
    each = [_gradients(*part) for part in zip(kept, _parts(g), strict=True)]
    return *(jnp.concatenate(parts) for parts in zip(*each, strict=True)), None


_plain.defvjp(_plain_forward, _plain_backward)


def _parts(batch: T) -> list[T]:
    """Returns the two halves of a batch on a single CPU, and the whole batch elsewhere.

    On a CPU, computing the gradients of the halves one after the other takes a sixth less time.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size % 2 or platform().name != "cpu" or platform().devices > 1:
        return [batch]
    halves = slice(None, size // 2), slice(size // 2, None)
    return [jax.tree.map(lambda rows, half=half: rows[half], batch) for half in halves]


def _products(q: Queries, k: Keys, v: Keys, mask: Mask | None) -> tuple[Queries, Residuals]:
    """Returns the result, and the residuals for the gradient, which have the layout [b, h, l, d].

    The softmax is normalised after the product with v, which has fewer columns than the scores.
    """
    q, k, v = (jnp.swapaxes(part, 1, 2) for part in (q, k, v))
    q = q * q.shape[-1] ** -0.5
    scores = _scores(q, k, mask)
    power = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = jnp.sum(power, axis=-1, keepdims=True)
    out = jnp.einsum(
        "b h l m, b h m d -> b h l d", power.astype(v.dtype), v, preferred_element_type=jnp.float32
    )
    out = checkpoint_name(out / total, "attention")
    return jnp.swapaxes(out, 1, 2).astype(v.dtype), (q, k, v, power, total, out)


def _gradients(kept: Residuals, g: Queries) -> tuple[Float[Array, "b _ h d"], ...]:
    """Returns the gradients of q, k and v.

    The attention weights are P = power / total, where `power` is exp(scores - maximum) and `total`
    its sum over the keys. The gradients are dV = P^T g and dS = P (g v^T - sum_d g out). The
    division by total is applied to g, which has fewer columns than P.
    """
    q, k, v, power, total, out = kept
    g = jnp.swapaxes(g, 1, 2) / total
    mean = jnp.sum(g * out, axis=-1, keepdims=True)
    g = g.astype(v.dtype)
    of_v = jnp.einsum("b h l m, b h l d -> b h m d", power.astype(v.dtype), g)
    of_power = jnp.einsum("b h l d, b h m d -> b h l m", g, v, preferred_element_type=jnp.float32)
    of_scores = (power * (of_power - mean)).astype(q.dtype)
    of_q = jnp.einsum("b h l m, b h m d -> b h l d", of_scores, k) * q.shape[-1] ** -0.5
    of_k = jnp.einsum("b h l m, b h l d -> b h m d", of_scores, q)
    return tuple(jnp.swapaxes(part, 1, 2) for part in (of_q, of_k, of_v))


def _cudnn(q: Queries, k: Keys, v: Keys, mask: Mask | None) -> Queries:
    """Attention by cuDNN, padded to even lengths because cuDNN has no gradient for odd lengths."""
    (b, queries), keys = q.shape[:2], k.shape[1]
    odd_q, odd_k = queries % 2, keys % 2
    if odd_k and mask is None:
        mask = jnp.ones((b, keys), bool)
    q = jnp.pad(q, ((0, 0), (0, odd_q), (0, 0), (0, 0)))
    k, v = (jnp.pad(part, ((0, 0), (0, odd_k), (0, 0), (0, 0))) for part in (k, v))
    pairs = None
    if mask is not None:
        pairs = over_scores(mask)
        rows = odd_q if pairs.shape[2] > 1 else 0
        pairs = jnp.pad(pairs, ((0, 0), (0, 0), (0, rows), (0, odd_k)))
        pairs = jnp.broadcast_to(pairs, (b, 1, q.shape[1], k.shape[1]))
    out = jax.nn.dot_product_attention(q, k, v, mask=pairs, implementation="cudnn")
    return out[:, :queries]
