"""Layers for clips [b, f, h, w, c] in which no frame depends on a later one.

A clip may be processed in chunks along time. Each layer then stores the frames that its later
outputs need in the Flax collection "cache". A missing cache means that the chunk is the first one;
an immutable collection means that it is the last one. The concatenated results equal the result for
the whole clip::

    y_0, cache = module.apply({"params": params}, x_0, mutable="cache")
    y_1, cache = module.apply({"params": params, **cache}, x_1, mutable="cache")
    y_2 = module.apply({"params": params, **cache}, x_2)

The first frame of a clip stands alone: layers with a stride of 2 take 1 + 2 n frames to 1 + n.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv import GridNorm, grid_norm
from vqdit.typing import Array, Float

Clips = Float[Array, "b _ _ _ _"]
"""Activations on clips, [b, f, h, w, c], with any number of frames."""
TimePadding = Literal["repeat", "zeros"]
"""Frames before the first one, as convolutions see them. "repeat" repeats the first frame."""
CACHE = "cache"
MIX = 2.0
"""Initial logit of the share of the mean, or of the repeated frames, when time is resampled."""


def per_frame(layer: Callable[[Any], Any], x: Clips) -> Clips:
    """Applies a layer for images [n, h, w, c] to every frame."""
    y = layer(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def identity_kernel(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Returns a kernel [t, h, w, c, c] that copies the newest frame."""
    del key
    centre = (shape[0] - 1, shape[1] // 2, shape[2] // 2)
    return jnp.zeros(shape, dtype).at[centre].set(jnp.eye(*shape[3:], dtype=dtype))


def with_past(module: nn.Module, x: Clips, first: int, later: int, padding: TimePadding) -> Clips:
    """Returns x, preceded by the previous chunk's stored frames or by `first` padding frames.

    The last `later` frames of the result are stored for the next chunk. A module may call this
    function only once.
    """
    if module.has_variable(CACHE, "past"):
        x = jnp.concatenate([module.get_variable(CACHE, "past"), x], axis=1)
    else:
        mode = "edge" if padding == "repeat" else "constant"
        x = jnp.pad(x, ((0, 0), (first, 0), *((0, 0),) * 3), mode)
    if module.is_mutable_collection(CACHE):
        module.put_variable(CACHE, "past", x[:, x.shape[1] - later :])
    return x


class CausalConv(nn.Module):
    """A convolution over time and space whose outputs depend only on present and earlier frames.

    It is computed as a sum of convolutions of frames, one for each position of the kernel in time,
    which is several times faster on a CPU than a convolution with three axes.

    Attributes:
        channels: width of the result.
        kernel: size of the kernel in frames, rows and columns; odd in space.
        stride: stride in time, 1 or 2.
        padding: frames before the first one; rows and columns are padded with zeros.
        dtype: precision.
        use_bias: whether there is a bias.
        kernel_init: initialiser of the kernel [t, h, w, c, e].
    """

    channels: int
    kernel: tuple[int, int, int] = (3, 3, 3)
    stride: int = 1
    padding: TimePadding = "repeat"
    dtype: str = "float32"
    use_bias: bool = True
    kernel_init: Any = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Clips) -> Clips:
        shape, taps = (*self.kernel, x.shape[-1], self.channels), self.kernel[0]
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        x = x.astype(self.dtype)
        if taps > 1:
            x = with_past(self, x, taps - 1, taps - self.stride, self.padding)
        last = x.shape[1] - taps
        parts = [
            per_frame(lambda frames, k=kernel[tap]: _conv2d(frames, k), seen)
            for tap in range(taps)
            for seen in [x[:, tap : last + tap + 1 : self.stride]]
        ]
        y: Any = sum(parts[1:], start=parts[0])
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))
            y = y + bias.astype(self.dtype)
        return y


def _conv2d(x: Float[Array, "n h w c"], kernel: Float[Array, "i j c e"]) -> Array:
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)


class CausalBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); the second convolution is initialised to zero.

    Attributes:
        channels: width of the result; if x has another width, the shortcut is a 1x1 convolution.
        kernel: size of the kernels: (3, 3, 3), (1, 3, 3) for space alone, (3, 1, 1) for time.
        padding: see `CausalConv`.
        norm: normalisation of each frame or position, see `grid_norm`.
        groups: number of groups of each norm if `norm` is "group"; 0 computes it from the width.
        dtype: precision of the convolutions.
    """

    channels: int
    kernel: tuple[int, int, int]
    padding: TimePadding = "repeat"
    norm: GridNorm = "group"
    groups: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Clips) -> Clips:
        h, zeros = x, nn.initializers.zeros_init()
        for name, more in (("1", {}), ("2", {"kernel_init": zeros})):
            h = nn.silu(frame_norm(h, f"norm_{name}", self.norm, self.groups))
            fields = {"padding": self.padding, "dtype": self.dtype, "name": f"conv_{name}", **more}
            h = CausalConv(self.channels, self.kernel, **fields)(h)
        if x.shape[-1] != self.channels:
            x = CausalConv(self.channels, (1, 1, 1), dtype=self.dtype, name="shortcut")(x)
        return x + h


def frame_norm(x: Clips, name: str, norm: GridNorm, groups: int = 0) -> Clips:
    """Normalises every frame alone; see `grid_norm`."""
    return per_frame(lambda frames: grid_norm(frames, name, norm, groups), x)


class TimeDownsample(nn.Module):
    """Halves the number of frames, 1 + 2 n to 1 + n.

    s mean(x) + (1 - s) conv(x), with a learned share s and the mean of the three frames that the
    convolution sees. Tang et al., "VidTok", arXiv:2412.13061, section 3.1.
    """

    padding: TimePadding = "repeat"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Clips) -> Clips:
        conv = CausalConv(
            x.shape[-1],
            stride=2,
            padding=self.padding,
            dtype=self.dtype,
            kernel_init=identity_kernel,
            name="conv",
        )
        y, share = conv(x), _share(self)
        seen = with_past(self, x, 2, 1, "repeat")
        last = seen.shape[1] - 2
        mean = sum(seen[:, tap : last + tap : 2] for tap in range(3)) / 3.0
        return (share * mean + (1.0 - share) * y).astype(y.dtype)


class TimeUpsample(nn.Module):
    """Doubles the number of frames, 1 + n to 1 + 2 n.

    s up(x) + (1 - s) conv(up(x)), with a learned share s. VidTok, section 3.1. With "linear", the
    last new frame of a chunk is returned with the next chunk.

    Attributes:
        upsampling: "repeat" copies frames, which is causal. "linear" interpolates between the
            frames after the first one, as published; a frame then also depends on the next one.
        padding: see `CausalConv`.
        dtype: precision of the convolution.
    """

    upsampling: Literal["repeat", "linear"] = "repeat"
    padding: TimePadding = "repeat"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Clips) -> Clips:
        has_past, is_last = self.has_variable(CACHE, "past"), not self.is_mutable_collection(CACHE)
        alone, x = (x[:, :0], x) if has_past else (x[:, :1], x[:, 1:])
        past = self.get_variable(CACHE, "past") if has_past else x[:, :0]  # no or one frame
        x = jnp.concatenate([past, x], axis=1)
        up = jnp.repeat(x, 2, axis=1)
        done, waiting = 2 * past.shape[1], 0
        if self.upsampling == "linear":
            left = jnp.concatenate([x[:, :1], x[:, :-1]], axis=1)
            right = jnp.concatenate([x[:, 1:], x[:, -1:]], axis=1)
            others = jnp.stack([left, right], axis=2).reshape(up.shape)
            up = 0.75 * up + 0.25 * others
            done, waiting = past.shape[1], 0 if is_last else min(x.shape[1], 1)
        if not is_last:
            self.put_variable(CACHE, "past", x[:, x.shape[1] - waiting :])
        up = jnp.concatenate([alone, up[:, done : up.shape[1] - waiting]], axis=1)
        conv = CausalConv(
            x.shape[-1],
            padding=self.padding,
            dtype=self.dtype,
            kernel_init=identity_kernel,
            name="conv",
        )
        share, y = _share(self), conv(up)
        return (share * up + (1.0 - share) * y).astype(y.dtype)


def _share(module: nn.Module) -> Float[Array, "1"]:
    return nn.sigmoid(module.param("mix", nn.initializers.constant(MIX), (1,)))
