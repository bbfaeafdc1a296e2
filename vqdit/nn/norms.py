"""Norms over the channels of a token, in float32 whatever the input's precision.

layer: (x - mean(x)) / sqrt(var(x) + eps)              Ba et al., arXiv:1607.06450
rms:   x / sqrt(mean(x^2) + eps)                       Zhang & Sennrich, arXiv:1910.07467
"""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.typing import Array, Float

Norm = Literal["layer", "rms"]


def normalized(
    x: Float[Array, "*b d"], norm: Norm = "layer", eps: float = 1e-6
) -> Float[Array, "*b d"]:
    """Returns the normalised channels, without parameters."""
    x = x.astype(jnp.float32)
    if norm == "layer":
        x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + eps)


class ScaledNorm(nn.Module):
    """The norm with a scale per channel and, for "layer", a bias."""

    norm: Norm = "layer"

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        shape = (x.shape[-1],)
        x = normalized(x, self.norm) * self.param("scale", nn.initializers.ones_init(), shape)
        if self.norm == "layer":
            x = x + self.param("bias", nn.initializers.zeros_init(), shape)
        return x
