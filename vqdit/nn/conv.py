"""Residual convolutional blocks on grids of one, two or three axes (channels last)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.attention import attention
from vqdit.typing import Array, Float


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), the second convolution zero at the start.

    Attributes:
        channels: width of the result; another one than x has goes through a 1x1 convolution.
        axes: of the grid.
        dtype: precision of the convolutions.
        groups: of the norms; 0 chooses them by the width, see `group_norm`.
        use_bias: whether the convolutions have one.
    """

    channels: int
    axes: int
    dtype: str = "float32"
    groups: int = 0
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid e"]:
        kernel = (3,) * self.axes
        conv = functools.partial(nn.Conv, dtype=self.dtype, use_bias=self.use_bias)
        h = nn.silu(group_norm(x, name="norm_1", groups=self.groups))
        h = conv(self.channels, kernel, name="conv_1")(h)
        h = nn.silu(group_norm(h, name="norm_2", groups=self.groups))
        zeros = nn.initializers.zeros_init()
        h = conv(self.channels, kernel, kernel_init=zeros, name="conv_2")(h)
        if x.shape[-1] != self.channels:
            x = conv(self.channels, (1,) * self.axes, name="shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """x + attention of all positions of norm(x) to one another, with one head.

    Esser et al., "Taming Transformers", arXiv:2012.09841, appendix A.
    """

    dtype: str = "float32"
    groups: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b *grid c"]) -> Float[Array, "b *grid c"]:
        channels = x.shape[-1]
        h = group_norm(x, name="norm", groups=self.groups)
        h = h.reshape(h.shape[0], -1, channels)  # b l c
        q, k, v = (nn.Dense(channels, dtype=self.dtype, name=name)(h) for name in "qkv")
        h = attention(*(part[:, :, None] for part in (q, k, v)))[:, :, 0]
        return x + nn.Dense(channels, dtype=self.dtype, name="out")(h).reshape(x.shape)


class Downsample(nn.Module):
    """Halves every axis by a strided convolution.

    Of an axis with an even number of positions, only the end is padded, as published.
    """

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


def blur_pool(x: Float[Array, "b *grid c"]) -> Float[Array, "b *half c"]:
    """Halves every axis: low-pass by [1, 3, 3, 1] / 8, borders mirrored, then every second value.

    Strided convolutions alias, which a discriminator would see. Zhang, "Making Convolutional
    Networks Shift-Invariant Again", arXiv:1904.11486.
    """
    axes, channels = x.ndim - 2, x.shape[-1]
    x = jnp.pad(x, ((0, 0), *((1, 1),) * axes, (0, 0)), mode="reflect")
    taps = jnp.asarray([1.0, 3.0, 3.0, 1.0], x.dtype) / 8.0
    for axis in range(axes):
        shape, strides = [1] * axes, [1] * axes
        shape[axis], strides[axis] = 4, 2
        kernel = jnp.broadcast_to(taps.reshape(*shape, 1, 1), (*shape, 1, channels))
        letters = "XYZ"[:axes]
        layout = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
        x = jax.lax.conv_general_dilated(
            x, kernel, strides, "VALID", dimension_numbers=layout, feature_group_count=channels
        )
    return x


def group_norm(x: Array, name: str, groups: int = 0) -> Array:
    """Group norm in float32.

    Args:
        x: channels last.
        name: of the module.
        groups: how many; 0 takes at most 32 of at least 4 channels. With a number the variance is
            computed in two passes, as the published models do, and not as E[x^2] - E[x]^2.
    """
    norm = nn.GroupNorm(
        num_groups=groups or _groups(x.shape[-1]),
        epsilon=1e-6,
        dtype=jnp.float32,
        use_fast_variance=groups == 0,
        name=name,
    )
    return norm(x).astype(x.dtype)


def _groups(channels: int) -> int:
    most = min(32, max(channels // 4, 1))
    return next(count for count in range(most, 0, -1) if channels % count == 0)
