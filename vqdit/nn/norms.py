"""Norms over the channels of a token, in float32 whatever the precision of the input.

- `layer`: (x - mean(x)) / sqrt(var(x) + eps). Ba et al., arXiv:1607.06450
- `rms`: x / sqrt(mean(x^2) + eps). Zhang & Sennrich, arXiv:1910.07467
"""

import functools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float

Norm = Literal["layer", "rms"]
Rows = Float[Array, "*b d"]
Residuals = tuple[Array, Array | None, Array]
"""The input, and the mean (None for "rms") and the scale of each token."""


def normalized(x: Rows, norm: Norm = "layer", eps: float = 1e-6) -> Rows:
    """Returns the normalised channels, without scale and bias; the gradient is hand-written."""
    result: Any = _normalized(x, norm, eps)
    return result


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _normalized(x: Rows, norm: Norm, eps: float) -> Rows:
    return _normalized_forward(x, norm, eps)[0]


def _normalized_forward(x: Rows, norm: Norm, eps: float) -> tuple[Rows, Residuals]:
    h, mean = x.astype(jnp.float32), None
    if norm == "layer":
        mean = jnp.mean(h, axis=-1, keepdims=True)
        h = h - mean
    scale = jax.lax.rsqrt(jnp.mean(h**2, axis=-1, keepdims=True) + eps)
    return h * scale, (x, mean, scale)


def _normalized_backward(norm: Norm, eps: float, kept: Residuals, g: Rows) -> tuple[Rows]:
    """Returns r (g - mean(g) - y mean(g y)), y = r (x - mean(x)), r = 1 / sqrt(var(x) + eps).

    For "rms", mean(x) and mean(g) are left out, and r = 1 / sqrt(mean(x^2) + eps).
    """
    x, mean, scale = kept
    h = x.astype(jnp.float32)
    y = (h if mean is None else h - mean) * scale
    of_x = g - y * jnp.mean(g * y, axis=-1, keepdims=True)
    if norm == "layer":
        of_x = of_x - jnp.mean(g, axis=-1, keepdims=True)
    return ((scale * of_x).astype(x.dtype),)


_normalized.defvjp(_normalized_forward, _normalized_backward)


class ScaledNorm(nn.Module):
    """The norm, followed by a learned scale per channel and, for "layer", a learned bias."""

    norm: Norm = "layer"

    @nn.compact
    def __call__(self, x: Rows) -> Rows:
        shape = (x.shape[-1],)
        x = normalized(x, self.norm) * self.param("scale", nn.initializers.ones_init(), shape)
        if self.norm == "layer":
            x = x + self.param("bias", nn.initializers.zeros_init(), shape)
        return x
