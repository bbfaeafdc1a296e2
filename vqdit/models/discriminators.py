"""Discriminators: networks that classify data as original or reconstructed.

They use group norm instead of the batch norm of the published PatchGAN. Batch norm needs running
statistics, makes the logit of an image depend on the rest of the batch, and differs between devices
unless it is synchronised.
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vqdit.nn.conv import Mask, blur_pool, group_norm, zero_behind
from vqdit.typing import Array, Bool, Component, Float, Key, Params

SLOPE = 0.2
"""Negative slope of the leaky ReLUs, as published for both discriminators."""


class Judgement(NamedTuple):
    """The result of one network of a discriminator.

    Attributes:
        logits: a high logit means original.
        mask: False at logits of padding, along their first axis; None if there is no padding.
        features: activations of the layers, each with the mask of its first axis; empty if the
            network has no features for feature matching.
    """

    logits: Float[Array, "b *grid"]
    mask: Bool[Array, "b _"] | None
    features: tuple[tuple[Array, Any], ...] = ()


class Discriminator(Component):
    """Base class of discriminators, which map data to logits; a high logit means original."""

    any_length = False  # whether a batch may have sequences of different lengths

    @property
    def has_features(self) -> bool:
        """Whether `judge` returns features."""
        return False

    @property
    def smallest(self) -> int:
        """The shortest edge of the data that the discriminator accepts, in positions."""
        return 1

    def init(self, key: Key[Array, ""], x: Float[Array, "b *size c"]) -> Params:
        """Returns fresh parameters for data with the shape of x."""
        return self._network().init(key, x)["params"]

    def apply(
        self, params: Params, x: Float[Array, "b *size c"], mask: Mask = None
    ) -> Float[Array, "b *grid"]:
        """Returns float32 logits, one per example or one per patch.

        Args:
            params: parameters.
            x: data.
            mask: False at padding of sequences of different lengths; see `real`.
        """
        given = (x,) if mask is None else (x, mask)
        logits: Any = self._network().apply({"params": params}, *given)
        return logits

    def judge(
        self, params: Params, x: Float[Array, "b *size c"], mask: Mask = None
    ) -> list[Judgement]:
        """Returns the result of each network of the discriminator; by default, of one network."""
        real = None if mask is None else self.real(mask)
        return [Judgement(self.apply(params, x, mask), real)]

    def real(self, mask: Bool[Array, "b n"]) -> Any:
        """Returns which logits belong to positions without padding; the others are meaningless.

        Raises:
            ValueError: the discriminator takes data of one size only.
        """
        raise ValueError(
            f"{type(self).__name__} needs data of a fixed size; use PatchGAN for varying lengths"
        )

    def _network(self) -> nn.Module:
        raise TypeError(f"{type(self).__name__} must define the method '_network'")


class PatchGAN(Discriminator):
    """A discriminator with one logit per overlapping patch, for one, two or three axes.

    Isola et al., "pix2pix", arXiv:1611.07004, section 3.2.2, as in VQGAN. With the defaults, each
    logit sees a patch of 70 positions along each axis.

    Attributes:
        channels: width of the first layer; each further layer doubles the width, up to 8 times
            `channels`.
        layers: number of layers that halve each axis.
        blur: True halves axes by a convolution of width 3 and a low-pass filter, as in VQGAN+
            (Weber et al., "MaskBit", arXiv:2409.16211); False by a strided convolution of width 4.
        dtype: precision of the convolutions; parameters, norms and logits stay float32.
    """

    channels: int = 64
    layers: int = 3
    blur: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"

    any_length = True

    def __post_init__(self) -> None:
        self.require("channels >= 1", self.channels >= 1)
        self.require("layers >= 1", self.layers >= 1)

    @property
    def smallest(self) -> int:
        return 2 ** (self.layers + 1) if self.blur else 3 * 2**self.layers

    @property
    def field(self) -> int:
        """Receptive field of one logit along each axis, in positions."""
        kernel = 3 if self.blur else 4
        field = 1 + 2 * (kernel - 1)  # the last two layers have stride 1
        for _ in range(self.layers):
            field = (2 * field + 2) + kernel - 1 if self.blur else 2 * field + 2
        return field

    def real(self, mask: Bool[Array, "b n"]) -> Bool[Array, "b _"]:
        *_, last = self.masks(mask)
        return last if self.blur else last[:, 1:]

    def masks(self, mask: Mask) -> list[Any]:
        """Returns the masks of the inputs of all layers after the first, including `out`."""
        masks: list[Any] = []
        for layer in range(self.layers + 1):
            if mask is not None:
                halves, shortens = layer < self.layers, not self.blur
                mask = mask[:, 1::2] if halves else mask[:, 1:] if shortens else mask
            masks.append(mask)
        return masks

    def _network(self) -> nn.Module:
        return _PatchGAN(self)


class _PatchGAN(nn.Module):
    config: PatchGAN

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"], mask: Mask = None) -> Float[Array, "b *grid"]:
        config, axes = self.config, x.ndim - 2
        kernel, init = (3 if config.blur else 4,) * axes, nn.initializers.normal(0.02)

        def conv(h: Array, mask: Mask, width: int, stride: int, name: str) -> Array:
            strides = (1 if config.blur else stride,) * axes
            h = nn.Conv(
                width, kernel, strides, padding=1, dtype=config.dtype, kernel_init=init, name=name
            )(zero_behind(h, mask))
            return blur_pool(h, mask) if config.blur and stride == 2 else h

        masks = [mask, *config.masks(mask)]
        h = nn.leaky_relu(conv(x, mask, config.channels, 2, "layer_0"), SLOPE)
        for layer in range(1, config.layers + 1):
            width = config.channels * min(2**layer, 8)
            stride = 2 if layer < config.layers else 1
            h = conv(h, masks[layer], width, stride, f"layer_{layer}")
            h = group_norm(h, name=f"norm_{layer}", mask=masks[layer + 1])
            h = nn.leaky_relu(h, SLOPE)
        out = nn.Conv(1, kernel, padding=1, kernel_init=init, name="out")
        return out(zero_behind(h.astype(jnp.float32), masks[-1]))[..., 0]


class StyleGAN(Discriminator):
    """A discriminator with one logit per image, whose residual blocks reduce the image to 4x4.

    Karras et al., "StyleGAN2", arXiv:1912.04958, figure 7 c, with the minibatch standard deviation
    of Karras et al., arXiv:1710.10196, section 3, but without equalised learning rates. A low-pass
    filter precedes every halving.

    Attributes:
        channels: width at full resolution; each halving of the resolution doubles the width.
        most: largest width.
        group: number of examples over which the minibatch standard deviation is computed; 1
            disables it.
        dtype: precision of the convolutions; parameters and logits stay float32.
    """

    channels: int = 64
    most: int = 512
    group: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for field in ("channels", "most", "group"):
            self.require(f"{field} >= 1", getattr(self, field) >= 1)

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

    A small value reveals a generator that always produces the same sample.

    Args:
        h: activations.
        group: largest number of examples per group; the largest divisor of b up to this number is
            used.
    """
    size = next(g for g in range(min(group, len(h)), 0, -1) if len(h) % g == 0)
    groups = h.reshape(size, -1, *h.shape[1:])  # example i is in group i mod (b / size)
    variance = jnp.mean((groups - jnp.mean(groups, axis=0)) ** 2, axis=0)
    spread = jnp.mean(jnp.sqrt(variance + 1e-8), axis=tuple(range(1, h.ndim)))
    return jnp.tile(spread, size).reshape(-1, *(1,) * (h.ndim - 1))
