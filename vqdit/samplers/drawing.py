"""Draws codes from logits, with temperature, nucleus (top-p), and precise Gumbel noise.

    argmax over k of (logits_k / temperature + Gumbel_k)   ~   softmax(logits / temperature).

JAX's default float32 Gumbel noise has only 2^23 different values. Its upper tail is truncated,
which has the effect of a lower temperature (Zheng et al., "Masked Diffusion Models are Secretly
Time-Agnostic Masked Models", arXiv:2409.02908); `mode="high"` has the whole tail. The nucleus is
from Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
"""

import math

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float, Int, Key


def check_drawing(owner: str, temperature: float, top_p: float) -> None:
    """Raises ValueError if the settings of `tempered` are out of range."""
    if not 0.0 <= temperature < math.inf:
        raise ValueError(f"{owner} needs temperature >= 0, got {temperature}")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"{owner} needs top_p in (0, 1], got {top_p}")


def tempered(
    logits: Float[Array, "b l q k"], temperature: float, top_p: float
) -> Float[Array, "b l q k"]:
    """Returns logits with a temperature and restricted to a nucleus; excluded codes have -inf.

    Args:
        logits: float32 logits.
        temperature: divisor of the logits; 0 keeps only the most likely code.
        top_p: in (0, 1]; keeps the most likely codes that together reach this probability.
    """
    if temperature == 0.0:
        best = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=jnp.float32)
        return jnp.where(best > 0, 0.0, -jnp.inf)
    logits = logits / temperature
    if top_p == 1.0:
        return logits
    falling = jnp.sort(logits, axis=-1, descending=True)
    p = jax.nn.softmax(falling, axis=-1)
    is_left = jnp.cumsum(p, axis=-1) - p < top_p  # probability of more likely codes
    least = jnp.min(jnp.where(is_left, falling, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= least, logits, -jnp.inf)


def draw(keys: Key[Array, " b"], logits: Float[Array, "b l q k"]) -> Int[Array, "b l q"]:
    """Draws one code per position and codebook."""
    return jnp.argmax(logits + gumbel(keys, logits.shape[1:]), axis=-1).astype(jnp.int32)


def gumbel(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Draws Gumbel noise [b, *shape] that has the whole upper tail; one key per example."""
    return jax.vmap(lambda key: jax.random.gumbel(key, shape, jnp.float32, mode="high"))(keys)
