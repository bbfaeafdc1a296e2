"""Discriminators: networks that tell originals from reconstructions, by logits.

Norms are group norms. Batch norm, which the published PatchGAN has, carries running statistics
that are no parameters, makes the logit of one picture depend on the others of its batch, and
differs between devices unless it is synchronised.
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.conv import blur_pool, group_norm
from vqdit.typing import Array, Component, Float, Key, Params

SLOPE = 0.2
"""Of the leaky rectifiers, as published for both."""


class Discriminator(Component):
    """From data to logits, as pure functions of parameters; high means real."""

    @property
    def smallest(self) -> int:
        """The shortest edge of data that it takes."""
        return 1

    def init(self, key: Key[Array, ""], x: Float[Array, "b *size c"]) -> Params:
        """Returns fresh parameters for data like x."""
        return self._network().init(key, x)["params"]

    def apply(self, params: Params, x: Float[Array, "b *size c"]) -> Float[Array, "b *grid"]:
        """Returns logits, float32: one per example, or one per patch."""
        logits: Any = self._network().apply({"params": params}, x)
        return logits

    def _network(self) -> nn.Module:
        raise TypeError(f"{type(self).__name__} must define _network")


class PatchGAN(Discriminator):
    """A logit for each of the overlapping patches; on grids of one, two or three axes.

    Isola et al., "pix2pix", arXiv:1611.07004, section 3.2.2, as in VQGAN. The default sees patches
    of 70 positions along each axis.

    Attributes:
        channels: width of the first layer; doubles with each, up to 8 times.
        layers: halvings of each axis.
        blur: halve by a low-pass filter after a convolution of three taps, as in VQGAN+ (Weber
            et al., "MaskBit", arXiv:2409.16211), instead of a strided one of four.
        dtype: precision of the convolutions; parameters, norms and logits stay float32.
    """

    channels: int = 64
    layers: int = 3
    blur: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.channels < 1 or self.layers < 1:
            raise ValueError(
                f"PatchGAN needs channels and layers >= 1, got {self.channels} and {self.layers}"
            )

    @property
    def smallest(self) -> int:
        return 2 ** (self.layers + 1) if self.blur else 3 * 2**self.layers

    @property
    def field(self) -> int:
        """Positions along each axis that one logit sees."""
        kernel = 3 if self.blur else 4
        field = 1 + 2 * (kernel - 1)  # the last two layers do not halve
        for _ in range(self.layers):
            field = (2 * field + 2) + kernel - 1 if self.blur else 2 * field + 2
        return field

    def _network(self) -> nn.Module:
        return _PatchGAN(self)


class _PatchGAN(nn.Module):
    config: PatchGAN

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"]) -> Float[Array, "b *grid"]:
        config, axes = self.config, x.ndim - 2
        kernel, init = (3 if config.blur else 4,) * axes, nn.initializers.normal(0.02)

        def conv(h: Array, width: int, stride: int, name: str) -> Array:
            strides = (1 if config.blur else stride,) * axes
            h = nn.Conv(
                width, kernel, strides, padding=1, dtype=config.dtype, kernel_init=init, name=name
            )(h)
            return blur_pool(h) if config.blur and stride == 2 else h

        h = nn.leaky_relu(conv(x, config.channels, 2, "layer_0"), SLOPE)
        for layer in range(1, config.layers + 1):
            width = config.channels * min(2**layer, 8)
            h = conv(h, width, 2 if layer < config.layers else 1, f"layer_{layer}")
            h = nn.leaky_relu(group_norm(h, name=f"norm_{layer}"), SLOPE)
        out = nn.Conv(1, kernel, padding=1, kernel_init=init, name="out")
        return out(h.astype(jnp.float32))[..., 0]


class StyleGAN(Discriminator):
    """One logit for each picture, from residual blocks with blurred halvings down to 4x4.

    Karras et al., "StyleGAN2", arXiv:1912.04958, figure 7 c, with the minibatch standard deviation
    of arXiv:1710.10196, section 3; without its equalised learning rates.

    Attributes:
        channels: width at full size; doubles with each halving.
        most: width that is not exceeded.
        group: examples over which the standard deviation is taken; 1 takes none.
        dtype: precision of the convolutions; parameters and logits stay float32.
    """

    channels: int = 64
    most: int = 512
    group: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if min(self.channels, self.most, self.group) < 1:
            raise ValueError(
                "StyleGAN needs channels, most and group >= 1, got "
                f"{self.channels}, {self.most} and {self.group}"
            )

    @property
    def smallest(self) -> int:
        return 4

    def _network(self) -> nn.Module:
        return _StyleGAN(self)


class _StyleGAN(nn.Module):
    config: StyleGAN

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"]) -> Float[Array, " b"]:
        config, axes = self.config, x.ndim - 2

        def conv(h: Array, width: int, edge: int, name: str, bias: bool = True) -> Array:
            return nn.Conv(
                width, (edge,) * axes, use_bias=bias, dtype=config.dtype, name=name,
                kernel_init=nn.initializers.he_normal(),
            )(h)  # fmt: skip

        width, level = min(config.channels, config.most), 0
        h = nn.leaky_relu(conv(x, width, 1, "in"), SLOPE)
        while min(h.shape[1:-1]) >= 8:
            shortcut = conv(blur_pool(h), min(2 * width, config.most), 1, f"short_{level}", False)
            h = nn.leaky_relu(conv(h, width, 3, f"level_{level}_conv_0"), SLOPE)
            width = min(2 * width, config.most)
            h = nn.leaky_relu(conv(blur_pool(h), width, 3, f"level_{level}_conv_1"), SLOPE)
            h, level = (h + shortcut) / jnp.sqrt(2.0).astype(h.dtype), level + 1
        h = h.astype(jnp.float32)
        if config.group > 1:
            spread = jnp.broadcast_to(minibatch_std(h, config.group), (*h.shape[:-1], 1))
            h = jnp.concatenate([h, spread], axis=-1)
        h = nn.leaky_relu(conv(h, width, 3, "last").astype(jnp.float32), SLOPE)
        h = nn.leaky_relu(nn.Dense(width, name="dense")(h.reshape(len(h), -1)), SLOPE)
        return nn.Dense(1, name="out")(h)[..., 0]


def minibatch_std(h: Float[Array, "b *grid c"], group: int) -> Float[Array, "b ..."]:
    """Returns, for each example, the mean standard deviation of activations over its group.

    A discriminator can tell a generator that always makes the same by it.

    Args:
        h: activations.
        group: examples of a group; the largest divisor of b that is not larger is taken.
    """
    size = next(g for g in range(min(group, len(h)), 0, -1) if len(h) % g == 0)
    groups = h.reshape(size, -1, *h.shape[1:])  # example i is in group i mod (b / size)
    variance = jnp.mean((groups - jnp.mean(groups, axis=0)) ** 2, axis=0)
    spread = jnp.mean(jnp.sqrt(variance + 1e-8), axis=tuple(range(1, h.ndim)))
    return jnp.tile(spread, size).reshape(-1, *(1,) * (h.ndim - 1))
