"""Convolutions along time with one output per stride, and transposed convolutions.

A convolution of stride s maps n positions to ceil(n / s); a transposed one maps n to n s. Sequences
of a batch may differ in length: every layer takes and returns the length of each sequence, pads
each sequence at its own end, and ignores what follows.

Defossez et al., "High Fidelity Neural Audio Compression" (EnCodec), arXiv:2210.13438, section 3.1.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vqdit.nn.conv import zero_behind
from vqdit.typing import Array, Float, Int

Length = Int[Array, " b"] | int | None
"""Length of the sequences, one number for all or one for each; None means no padding."""
Padding = Literal["constant", "reflect", "replicate"]
"""Values beyond the ends of a sequence: zeros, mirrored values, or the outermost value."""
Norm = Literal["none", "weight_norm", "time_group_norm"]
"""Normalisation of a layer: of its kernel, or of its output over time and channels."""
DIMENSIONS = ("NWC", "WIO", "NWC")


def cut_behind(x: Float[Array, "b n c"], length: Length) -> Float[Array, "b n c"]:
    """Returns x with zeros after the end of each sequence."""
    if length is None:
        return x
    real = jnp.arange(x.shape[1]) < jnp.asarray(length).reshape(-1, 1)
    return zero_behind(x, jnp.broadcast_to(real, x.shape[:2]))


def pad_ends(
    x: Float[Array, "b n c"], left: int, right: Any, size: int, mode: Padding, length: Length
) -> Float[Array, "b m c"]:
    """Returns the positions -left to size - left - 1 of sequences, with values beyond their ends.

    A sequence that is too short to be mirrored is first extended by zeros.

    Args:
        x: sequences from position 0.
        left: number of positions before the start.
        right: number of positions that are needed after the end of each sequence, int or array [b].
        size: number of positions of the result.
        mode: kind of the values beyond the ends: "constant" (zeros), "reflect" or "replicate".
        length: length of the sequences.
    """
    if length is None or isinstance(length, int):
        x = x if length is None else x[:, :length]
        return _pad_all(x, left, int(right), size, mode)
    if mode == "constant":
        x = cut_behind(x, length)
        return jnp.pad(x, ((0, 0), (left, size - left - x.shape[1]), (0, 0)))
    place, end = jnp.arange(size) - left, length[:, None]
    if mode == "replicate":
        place = jnp.clip(place, 0, end - 1)
    else:
        last = jnp.maximum(end - 1, jnp.maximum(left, jnp.reshape(right, (-1, 1))))
        place = last - jnp.abs(last - jnp.abs(place))
    found = jnp.take_along_axis(x, jnp.clip(place, 0, x.shape[1] - 1)[..., None], axis=1)
    return zero_behind(found, (place >= 0) & (place < end))


def _pad_all(
    x: Float[Array, "b n c"], left: int, right: int, size: int, mode: Padding
) -> Float[Array, "b m c"]:
    count = x.shape[1]
    if mode != "constant":
        if mode == "reflect" and count <= max(left, right):
            x = jnp.pad(x, ((0, 0), (0, max(left, right) + 1 - count), (0, 0)))
        names = {"reflect": "reflect", "replicate": "edge"}
        x = jnp.pad(x, ((0, 0), (left, right), (0, 0)), mode=names[mode])[:, : left + count + right]
        left = 0
    return jnp.pad(x, ((0, 0), (left, size - left - x.shape[1]), (0, 0)))


class Conv1d(nn.Module):
    """A convolution along time, causal or centred.

    A causal convolution pads (width - 1) dilation + 1 - stride positions before the first one. A
    centred convolution pads half of them after the end instead.

    Attributes:
        channels: width of the output.
        width: size of the kernel.
        stride: input positions per output position; at most `width`.
        dilation: distance between neighbouring positions of the kernel.
        groups: number of groups of channels, each with its own kernel.
        bias: whether a bias is added.
        causal: whether an output depends only on inputs at its own and at earlier positions.
        padding: kind of the values beyond the ends: "constant" (zeros), "reflect" or "replicate".
        norm: "weight_norm" of the kernel, "time_group_norm" of the output, or "none".
        dtype: precision of the products.
    """

    channels: int
    width: int
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    bias: bool = True
    causal: bool = False
    padding: Padding = "constant"
    norm: Norm = "none"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], length: Length = None
    ) -> tuple[Float[Array, "b m e"], Length]:
        reach, count = (self.width - 1) * self.dilation + 1, -(-x.shape[1] // self.stride)
        total = reach - self.stride
        behind = 0 if self.causal else total // 2
        right = behind + -(x.shape[1] if length is None else length) % self.stride
        size = (count - 1) * self.stride + reach
        x = pad_ends(x, total - behind, right, size, self.padding, length)
        shape = (self.width, x.shape[-1] // self.groups, self.channels)
        kernel = _kernel(self, shape, (0, 1))
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride,),
            "VALID",
            rhs_dilation=(self.dilation,),
            dimension_numbers=DIMENSIONS,
            feature_group_count=self.groups,
        )
        y = _with_bias(self, y)
        length = None if length is None else -(-length // self.stride)
        if self.norm == "time_group_norm":
            y = TimeGroupNorm(name="norm")(y, length)
        return y, length


class ConvTranspose1d(nn.Module):
    """A transposed convolution along time, trimmed to `stride` outputs per input.

    Every output is a sum over ceil(width / stride) inputs, so the layer is computed as a
    convolution with a kernel of this size and `stride` times the channels.

    Attributes:
        channels: width of the output.
        width: size of the kernel; at least `stride`.
        stride: output positions per input position.
        groups: number of groups of channels, each with its own kernel.
        bias: whether a bias is added.
        causal: whether an output depends only on its own and earlier positions.
        trim_right: fraction of the surplus positions that a causal layer trims at the end; with 1,
            its output is causal.
        cut_odd: whether the last output is omitted if the stride is odd, as in a layer without
            output padding.
        norm: "weight_norm" of the kernel, "time_group_norm" of the output, or "none".
        dtype: precision of the products.
    """

    channels: int
    width: int
    stride: int
    groups: int = 1
    bias: bool = True
    causal: bool = False
    trim_right: float = 1.0
    cut_odd: bool = False
    norm: Norm = "none"
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], length: Length = None
    ) -> tuple[Float[Array, "b m e"], Length]:
        stride, groups, count, channels = self.stride, self.groups, *x.shape[1:]
        x = cut_behind(x, length)
        taps, each = -(-self.width // stride), self.channels // groups
        kernel = _kernel(self, (self.width, channels, each), (0, 2))
        kernel = jnp.pad(kernel, ((0, taps * stride - self.width), (0, 0), (0, 0)))
        kernel = kernel.reshape(taps, stride, groups, channels // groups, each)[::-1]
        order = (0, 3, 1, 2, 4) if groups == 1 else (0, 3, 2, 4, 1)
        kernel = kernel.transpose(order).reshape(taps, channels // groups, -1)
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (1,),
            [(taps - 1, taps - 1)],
            dimension_numbers=DIMENSIONS,
            feature_group_count=groups,
        )
        if groups > 1:
            y = y.reshape(*y.shape[:2], self.channels, stride).swapaxes(2, 3)
        y = y.reshape(len(y), -1, self.channels)
        y, surplus = _with_bias(self, y), self.width - stride
        if self.norm == "time_group_norm":
            real = (count if length is None else length) * stride + surplus
            y = TimeGroupNorm(name="norm")(y, real)
        right = math.ceil(surplus * self.trim_right) if self.causal else surplus // 2
        y = y[:, surplus - right :][:, : count * stride]
        if self.cut_odd and stride % 2:
            return y, (count if length is None else length) * stride - 1
        return y, None if length is None else length * stride


class TimeGroupNorm(nn.Module):
    """Normalises every sequence over time and channels, then scales and shifts each channel."""

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], length: Length = None) -> Float[Array, "b n c"]:
        kind, x = x.dtype, x.astype(jnp.float32)
        real = jnp.full((1, 1), x.shape[1]) if length is None else jnp.reshape(length, (-1, 1))
        within = (jnp.arange(x.shape[1]) < real)[..., None]
        count = real[..., None] * x.shape[-1]
        mean = jnp.sum(jnp.where(within, x, 0.0), (1, 2), keepdims=True) / count
        centred = jnp.where(within, x - mean, 0.0)
        variance = jnp.sum(centred**2, (1, 2), keepdims=True) / count
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        y = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + bias
        return y.astype(kind)


class Snake(nn.Module):
    """x + sin^2(alpha x) / alpha, with one alpha per channel.

    Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to Fix It",
    arXiv:2006.08195.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        alpha = self.param("alpha", nn.initializers.ones_init(), x.shape[-1:]).astype(x.dtype)
        return x + jnp.sin(alpha * x) ** 2 / (alpha + 1e-9)


def _kernel(layer: Any, shape: tuple[int, ...], over: tuple[int, ...]) -> Float[Array, "k i o"]:
    """Returns the kernel of a layer; with weight norm, the product of direction and length.

    Salimans and Kingma, "Weight Normalization", arXiv:1602.07868. The length is the norm over the
    axes `over`: one per output channel of a convolution, and one per input channel of a transposed
    convolution.
    """
    inputs = int(np.prod(shape[:2])) if over == (0, 1) else shape[1] * shape[0] // layer.stride
    kernel = layer.param("kernel", symmetric(inputs**-0.5), shape)
    if layer.norm != "weight_norm":
        return kernel
    norm = jnp.sqrt(jnp.sum(kernel**2, over))
    scale = layer.param("scale", lambda _: norm)
    return kernel * jnp.expand_dims(scale / norm, over)


def _with_bias(layer: Any, y: Float[Array, "b m e"]) -> Float[Array, "b m e"]:
    if not layer.bias:
        return y
    return y + layer.param("bias", nn.initializers.zeros_init(), y.shape[-1:]).astype(y.dtype)


def symmetric(bound: float) -> Any:
    """Returns an initialiser that draws uniformly from [-bound, bound]."""

    def draw(key: Any, shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    return draw
