"""The interface of autoencoders, and a convolutional autoencoder for one, two or three axes.

The convolutional encoder halves every axis after each level except the last; the decoder mirrors
the encoder. The architecture is that of Esser et al., "Taming Transformers" (VQGAN),
arXiv:2012.09841, appendix A, without attention.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv import Downsample, ResidualBlock, Upsample, group_norm
from vqdit.nn.patches import fold, nearest, unfold
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Component, Float, Key, Params

Grid = Float[Array, "b ... _"]
"""Activations on a grid with one, two or three axes."""


class Autoencoder(Component):
    """Base class of autoencoders: an encoder and a decoder as pure functions of their parameters.

    The bottleneck determines how many channels the encoder returns and the decoder takes: for a
    quantizer, both are the width of a code vector; for a KL regularizer, they are 2 d (mean and log
    variance) and d (latents).
    """

    @property
    def downsampling(self) -> int:
        """Factor by which the encoder reduces each axis of the data."""
        raise TypeError(f"{type(self).__name__} must define the property downsampling")

    @property
    def reason(self) -> str:
        """Explanation of the down-sampling factor, for error messages."""
        raise TypeError(f"{type(self).__name__} must define the property reason")

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Path of the kernel of the decoder's last layer within the parameters."""
        return ("decoder", "out", "kernel")

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the grid of the latents for data of a given size.

        Raises:
            ValueError: if an edge is not divisible by the down-sampling factor.
        """
        factor = self.downsampling
        if any(axis % factor for axis in size):
            raise ValueError(
                f"size {'x'.join(map(str, size))} is not divisible by the encoder's down-sampling "
                f"{factor} ({self.reason}); nearest sizes: {nearest(size, factor)}"
            )
        return tuple(axis // factor for axis in size)

    def encoder(self, width: int) -> nn.Module:
        """Returns a module that maps float32 [b, *size, c] to float32 [b, *grid, width]."""
        raise TypeError(f"{type(self).__name__} must define the method encoder")

    def decoder(self, channels: int) -> nn.Module:
        """Returns a module that maps latents [b, *grid, d] to float32 [b, *size, channels]."""
        raise TypeError(f"{type(self).__name__} must define the method decoder")

    def init(
        self, key: Key[Array, ""], x: Float[Array, "b *size c"], dim: int, width: int = 0
    ) -> dict[str, Params]:
        """Returns fresh parameters {"encoder", "decoder"}.

        Args:
            key: random key of the initialisation.
            x: example data, of the size and the number of channels that the model will be used on.
            dim: input channels of the decoder.
            width: output channels of the encoder; 0 for `dim`.
        """
        k_encoder, k_decoder = jax.random.split(key)
        z, encoder = self.encoder(width or dim).init_with_output(k_encoder, x)
        decoder = self.decoder(x.shape[-1]).init(k_decoder, z[..., :dim])
        return {"encoder": encoder["params"], "decoder": decoder["params"]}

    def encode(
        self, params: dict[str, Params], x: Float[Array, "b *size c"], width: int
    ) -> Float[Array, "b *grid w"]:
        """Returns the encoder's output, float32; `width` must be that of `init`."""
        z: Any = self.encoder(width).apply({"params": params["encoder"]}, x)
        return z

    def decode(
        self, params: dict[str, Params], z: Float[Array, "b *grid d"], channels: int
    ) -> Float[Array, "b *size c"]:
        """Returns the decoder's output with the given number of channels, float32."""
        x: Any = self.decoder(channels).apply({"params": params["decoder"]}, z)
        return x


class LeveledAutoencoder(Autoencoder):
    """Base class of convolutional autoencoders, whose levels each halve the resolution.

    Attributes:
        channels: width of each level, from the data's resolution to that of the latents. Every
            level except the last halves the resolution, so (64, 128, 256) reduces each axis by 4.
        blocks: residual blocks per level.
        dtype: precision of the convolutions; parameters and norms stay float32.
        remat: recompute each residual block in the backward pass, which takes much less memory and
            a third more time.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    # Constants of an architecture; a subclass overrides them, or makes them fields.
    patch = 1  # edge of the patches that are folded into channels before the first level
    groups = 0  # number of groups of the norms, see `group_norm`
    extra_blocks = 1  # further residual blocks per level in the decoder
    use_bias = True  # of the first convolution and those of the residual blocks

    def __post_init__(self) -> None:
        has_channels = bool(self.channels) and min(self.channels) >= 1
        self.require("channels to be positive", has_channels)
        self.require("blocks >= 1", self.blocks >= 1)

    @property
    def downsampling(self) -> int:
        return 2 ** (len(self.channels) - 1)

    @property
    def reason(self) -> str:
        return f"{len(self.channels)} levels of channels"

    def check_groups(self) -> None:
        """Raises ValueError unless the number of groups of the norms divides every width."""
        self.require("groups >= 1", self.groups >= 1)
        rule = f"channels to be multiples of groups={self.groups}"
        self.require(rule, all(width % self.groups == 0 for width in self.channels))

    def encoder(self, width: int) -> nn.Module:
        return _Encoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _Decoder(self, channels)

    # The methods below apply layers; they are called in compact methods of encoder and decoder.

    def block(self, h: Grid, width: int, name: str) -> Grid:
        """Applies a residual block."""
        cls = nn.remat(ResidualBlock) if self.remat and not platform().is_counted else ResidualBlock
        return cls(width, h.ndim - 2, self.dtype, self.groups, self.use_bias, name=name)(h)

    def level(self, h: Grid, level: int, blocks: int) -> Grid:
        """Applies the blocks of a level."""
        for number in range(blocks):
            h = self.block(h, self.channels[level], f"level_{level}_block_{number}")
        return h

    def middle(self, h: Grid) -> Grid:
        """Applies the layers between the levels and the latents; by default there are none."""
        return h

    def to_latents(self, h: Grid, width: int) -> Grid:
        """Applies the last convolutions of the encoder."""
        return nn.Conv(width, (1,) * (h.ndim - 2), name="out")(h)

    def from_latents(self, z: Grid) -> Grid:
        """Applies the first convolutions of the decoder; by default there are none."""
        return z


class _Encoder(nn.Module):
    config: LeveledAutoencoder
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"]) -> Float[Array, "b *grid w"]:
        config, axes = self.config, x.ndim - 2
        fields = {"dtype": config.dtype, "use_bias": config.use_bias, "name": "in"}
        h = nn.Conv(config.channels[0], (3,) * axes, **fields)(_fold(x, config.patch))
        for level, channels in enumerate(config.channels):
            h = config.level(h, level, config.blocks)
            if level < len(config.channels) - 1:
                h = Downsample(channels, axes, config.dtype, name=f"level_{level}_down")(h)
        h = nn.silu(group_norm(config.middle(h), "norm", config.groups))
        return config.to_latents(h.astype(jnp.float32), self.width)


class _Decoder(nn.Module):
    config: LeveledAutoencoder
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b *grid d"]) -> Float[Array, "b *size c"]:
        config, axes, kernel = self.config, z.ndim - 2, (3,) * (z.ndim - 2)
        z = config.from_latents(z)
        h = nn.Conv(config.channels[-1], kernel, dtype=config.dtype, name="in")(z)
        h = config.middle(h)
        for level, channels in reversed(list(enumerate(config.channels))):
            h = config.level(h, level, config.blocks + config.extra_blocks)
            if level > 0:
                h = Upsample(channels, axes, config.dtype, name=f"level_{level}_up")(h)
        h = nn.silu(group_norm(h, "norm", config.groups)).astype(jnp.float32)
        h = nn.Conv(self.channels * config.patch**axes, kernel, name="out")(h)
        return _unfold(h, config.patch)


def _fold(x: Grid, patch: int) -> Grid:
    size = x.shape[1:-1]
    h = fold(x.reshape(len(x), -1, x.shape[-1]), size, patch)
    return h.reshape(len(x), *(edge // patch for edge in size), -1)


def _unfold(x: Grid, patch: int) -> Grid:
    size = tuple(edge * patch for edge in x.shape[1:-1])
    return unfold(x.reshape(len(x), -1, x.shape[-1]), size, patch).reshape(len(x), *size, -1)


class ConvAutoencoder(LeveledAutoencoder):
    """A residual convolutional autoencoder for signals, images and volumes.

    The decoder has one more residual block per level than the encoder.

    Attributes:
        patch: edge of the patches that are folded into channels before the first level, which
            makes long signals cheap; must divide the size of the data.
    """

    patch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("patch >= 1", self.patch >= 1)

    @property
    def downsampling(self) -> int:
        return self.patch * super().downsampling

    @property
    def reason(self) -> str:
        patch = f"patch {self.patch}, " if self.patch > 1 else ""
        return f"{patch}{super().reason}"
