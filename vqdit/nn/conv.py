"""Residual convolutional blocks on grids of one, two or three axes (channels last)."""

import flax.linen as nn
import jax.numpy as jnp

from vqdit.typing import Array, Float


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the second convolution zero at the start."""

    channels: int
    axes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid e"]:
        kernel = (3,) * self.axes
        h = nn.silu(group_norm(x, name="norm_1"))
        h = nn.Conv(self.channels, kernel, dtype=self.dtype, name="conv_1")(h)
        h = nn.silu(group_norm(h, name="norm_2"))
        h = nn.Conv(
            self.channels,
            kernel,
            dtype=self.dtype,
            kernel_init=nn.initializers.zeros_init(),
            name="conv_2",
        )(h)
        if x.shape[-1] != self.channels:
            x = nn.Conv(self.channels, (1,) * self.axes, dtype=self.dtype, name="shortcut")(x)
        return x + h


class Downsample(nn.Module):
    """Halves every axis by a strided convolution."""

    channels: int
    axes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *half c"]:
        kernel, strides = (3,) * self.axes, (2,) * self.axes
        return nn.Conv(self.channels, kernel, strides, dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Doubles every axis by repetition, then a convolution: no checkerboard."""

    channels: int
    axes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *double c"]:
        for axis in range(1, self.axes + 1):
            x = jnp.repeat(x, 2, axis=axis)
        return nn.Conv(self.channels, (3,) * self.axes, dtype=self.dtype, name="conv")(x)


def group_norm(x: Array, name: str) -> Array:
    """Group norm in float32, with at most 32 groups of at least 4 channels."""
    channels = x.shape[-1]
    groups = next(g for g in range(min(32, max(channels // 4, 1)), 0, -1) if channels % g == 0)
    norm = nn.GroupNorm(num_groups=groups, epsilon=1e-6, dtype=jnp.float32, name=name)
    return norm(x).astype(x.dtype)
