"""Embeddings of times, positions and codes, as in the published DiT.

Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Float, Int

FREQUENCIES = 256
"""Width of the sinusoidal embedding of time, before its MLP."""


def sinusoid(
    t: Float[Array, "*b"], width: int = FREQUENCIES, shift: int = 0
) -> Float[Array, "*b d"]:
    """Embeds each scalar by [cos(t f_i), sin(t f_i)], f_i = 10^4^(-i / (width / 2 - shift)).

    `shift` is 0 in the original DiT and 1 in diffusers, where the divisor is 127 for a width of
    256.
    """
    half = width // 2
    frequency = jnp.exp(-jnp.log(1e4) * jnp.arange(half, dtype=jnp.float32) / (half - shift))
    angle = t[..., None].astype(jnp.float32) * frequency
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def positions(grid: tuple[int, ...], width: int) -> Float[np.ndarray, "l d"]:
    """Returns fixed sine and cosine position embeddings of a grid with any number of axes.

    The channels are divided evenly among the axes, the last axis (image columns) first. The n
    channels of an axis are [sin, cos] with frequencies 10^4^(-i / (n / 2)).

    Raises:
        ValueError: if `width` is not a multiple of twice the number of axes.
    """
    axes = len(grid)
    if width % (2 * axes):
        raise ValueError(
            f"positions of a {axes}-axis grid need a width divisible by {2 * axes}, got {width}"
        )
    half = width // (2 * axes)
    frequency = 1e4 ** (-np.arange(half, dtype=np.float64) / half)
    coordinates = np.meshgrid(*(np.arange(size) for size in grid), indexing="ij")
    shares = []
    for coordinate in reversed(coordinates):
        angle = coordinate.reshape(-1, 1) * frequency
        shares.append(np.concatenate([np.sin(angle), np.cos(angle)], axis=1))
    return np.concatenate(shares, axis=1).astype(np.float32)


class TimeEmbedding(nn.Module):
    """Embeds a time by `sinusoid` and a two-layer MLP, in float32."""

    dim: int
    shift: int = 0

    @nn.compact
    def __call__(self, t: Float[Array, "*b"]) -> Float[Array, "*b d"]:
        init = nn.initializers.normal(0.02)
        c = nn.Dense(self.dim, kernel_init=init)(sinusoid(t, shift=self.shift))
        return nn.Dense(self.dim, kernel_init=init)(nn.silu(c))


class CodeEmbedding(nn.Module):
    """Sums one embedding per codebook; the last row of each table embeds "no code" (-1)."""

    codes: int
    codebooks: int
    dim: int

    @nn.compact
    def __call__(self, codes: Int[Array, "*b q"]) -> Float[Array, "*b d"]:
        table = self.param(
            "table", nn.initializers.normal(0.02), (self.codebooks, self.codes + 1, self.dim)
        )
        row = jnp.where(codes < 0, self.codes, codes)
        return sum((table[i][row[..., i]] for i in range(1, self.codebooks)), table[0][row[..., 0]])
