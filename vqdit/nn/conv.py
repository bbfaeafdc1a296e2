"""Residual convolutional blocks on grids of one, two or three axes (channels last).

Sequences of different lengths in one batch have a mask, which is True up to the end of each
sequence. The results at these positions are then the same as for the sequence alone: convolutions
see zeros after the end, and norms and attention ignore positions after the end.
"""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.attention import attention
from vqdit.nn.norms import ScaledNorm
from vqdit.typing import Array, Bool, Float

GridNorm = Literal["group", "layer", "rms"]
"""Norm over the groups of a grid, see `group_norm`, or over the channels of each position."""

Mask = Bool[Array, "b n"] | None
"""True at the positions of sequences, False at the padding after them; None without padding."""


def zero_behind(x: Float[Array, "b *grid c"], mask: Mask) -> Float[Array, "b *grid c"]:
    """Returns x with zeros after the end of each sequence."""
    return x if mask is None else jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))


def never_empty(mask: Bool[Array, "b n"]) -> Bool[Array, "b n"]:
    """Sets the mask of empty sequences to True, so that every mean has at least one position."""
    return mask | ~jnp.any(mask, axis=1, keepdims=True)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); the second convolution is initialised to zero.

    Attributes:
        channels: width of the result; if x has another width, the shortcut is a 1x1 convolution.
        axes: number of axes of the grid.
        dtype: precision of the convolutions.
        groups: number of groups of the norms; 0 computes it from the width, see `group_norm`.
        use_bias: whether the convolutions have a bias.
    """

    channels: int
    axes: int
    dtype: str = "float32"
    groups: int = 0
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *grid c"], mask: Mask = None
    ) -> Float[Array, "b *grid e"]:
        kernel = (3,) * self.axes
        conv = functools.partial(nn.Conv, dtype=self.dtype, use_bias=self.use_bias)
        h = nn.silu(group_norm(x, name="norm_1", groups=self.groups, mask=mask))
        h = conv(self.channels, kernel, name="conv_1")(zero_behind(h, mask))
        h = nn.silu(group_norm(h, name="norm_2", groups=self.groups, mask=mask))
        zeros = nn.initializers.zeros_init()
        conv_2 = conv(self.channels, kernel, kernel_init=zeros, name="conv_2")
        h = conv_2(zero_behind(h, mask))
        if x.shape[-1] != self.channels:
            x = conv(self.channels, (1,) * self.axes, name="shortcut")(x)
        return x + h


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), with one head over all positions.

    Esser et al., "Taming Transformers", arXiv:2012.09841, appendix A.
    """

    dtype: str = "float32"
    groups: int = 0
    norm: GridNorm = "group"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *grid c"], mask: Mask = None
    ) -> Float[Array, "b *grid c"]:
        channels = x.shape[-1]
        h = grid_norm(x, "norm", self.norm, self.groups, mask)
        h = h.reshape(h.shape[0], -1, channels)  # b l c
        q, k, v = (nn.Dense(channels, dtype=self.dtype, name=name)(h) for name in "qkv")
        h = attention(*(part[:, :, None] for part in (q, k, v)), mask=mask)[:, :, 0]
        return x + nn.Dense(channels, dtype=self.dtype, name="out")(h).reshape(x.shape)


class Downsample(nn.Module):
    """Halves every axis by a convolution of width 3 with stride 2.

    An axis of even length is padded only at its end, as in the published VQGAN. Sequences with a
    mask must have even lengths.
    """

    channels: int
    axes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *grid c"], mask: Mask = None
    ) -> Float[Array, "b *half c"]:
        kernel, strides = (3,) * self.axes, (2,) * self.axes
        conv = nn.Conv(self.channels, kernel, strides, dtype=self.dtype, name="conv")
        return conv(zero_behind(x, mask))


class Upsample(nn.Module):
    """Doubles every axis by repetition and a convolution, which avoids checkerboard artifacts.

    The mask has the length of the input.
    """

    channels: int
    axes: int
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *grid c"], mask: Mask = None
    ) -> Float[Array, "b *double c"]:
        x = zero_behind(x, mask)
        for axis in range(1, self.axes + 1):
            x = jnp.repeat(x, 2, axis=axis)
        return nn.Conv(self.channels, (3,) * self.axes, dtype=self.dtype, name="conv")(x)


def blur_pool(x: Float[Array, "b *grid c"], mask: Mask = None) -> Float[Array, "b *half c"]:
    """Halves every axis: filters with [1, 3, 3, 1] / 8 and keeps every second value.

    Values are mirrored at borders and at the ends of sequences. Without this low-pass filter, a
    strided convolution causes aliasing. Zhang, "Making Convolutional Networks Shift-Invariant
    Again", arXiv:1904.11486.
    """
    axes, channels = x.ndim - 2, x.shape[-1]
    if mask is not None:
        length = jnp.sum(mask, axis=1, keepdims=True)
        is_next = (jnp.arange(x.shape[1]) == length)[..., None]
        x = jnp.where(is_next, jnp.roll(x, 2, axis=1), x)  # reads one position after it
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


def grid_norm(x: Array, name: str, norm: GridNorm, groups: int = 0, mask: Mask = None) -> Array:
    """Applies group norm, or a norm over the channels of each position, in float32."""
    if norm == "group":
        return group_norm(x, name, groups, mask)
    return ScaledNorm(norm, name=name)(x).astype(x.dtype)


def group_norm(x: Array, name: str, groups: int = 0, mask: Mask = None) -> Array:
    """Applies group norm in float32.

    Args:
        x: activations, channels last.
        name: name of the Flax module.
        groups: number of groups. 0 chooses up to 32 groups of at least 4 channels and computes the
            variance as E[x^2] - E[x]^2; any other number computes the variance in two passes, as
            the published models do.
        mask: False at padding, which the statistics ignore.
    """
    norm = nn.GroupNorm(
        num_groups=groups or _groups(x.shape[-1]),
        epsilon=1e-6,
        dtype=jnp.float32,
        use_fast_variance=groups == 0,
        name=name,
    )
    if mask is None:
        return norm(x).astype(x.dtype)
    mask = jnp.broadcast_to(never_empty(mask)[..., None], x.shape)
    return norm(x, mask=mask).astype(x.dtype)


def _groups(channels: int) -> int:
    most = min(32, max(channels // 4, 1))
    return next(count for count in range(most, 0, -1) if channels % count == 0)
