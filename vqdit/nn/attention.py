"""Scaled dot-product attention: the one entry that every network calls.

softmax(q k^T / sqrt(d)) v, with the softmax in float32 whatever the inputs' precision.
Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, eq. 1.
"""

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Bool, Float


def attention(
    q: Float[Array, "b l h d"],
    k: Float[Array, "b m h d"],
    v: Float[Array, "b m h d"],
    *,
    mask: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b l h d"]:
    """Returns the attended values.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key is real; padding is never attended to.
    """
    scores = jnp.einsum("b l h d, b m h d -> b h l m", q, k, preferred_element_type=jnp.float32)
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
    share = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return jnp.einsum("b h l m, b m h d -> b l h d", share, v)
