"""The interface of autoencoders, and a convolutional autoencoder for one, two or three axes.

The convolutional encoder halves every axis after each level except the last; the decoder mirrors
the encoder. The architecture is that of Esser et al., "Taming Transformers" (VQGAN),
arXiv:2012.09841, appendix A, without attention.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv import Downsample, ResidualBlock, Upsample, group_norm
from vqdit.nn.patches import fold, unfold
from vqdit.parallel.target_platform import platform
from vqdit.typing import Array, Component, Float, Key, Params


class Autoencoder(Component):
    """Base class of autoencoders: an encoder and a decoder as pure functions of their parameters.

    The bottleneck between encoder and decoder determines their channels. A quantizer takes and
    returns vectors of the codes' width. A KL regularizer takes mean and log variance (2 d channels)
    and returns latents (d channels).
    """

    @property
    def downsampling(self) -> int:
        """Factor by which the encoder reduces each axis of the data."""
        raise TypeError(f"{type(self).__name__} must define downsampling")

    @property
    def reason(self) -> str:
        """Explanation of the down-sampling factor, for error messages."""
        raise TypeError(f"{type(self).__name__} must define reason")

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Path of the kernel of the decoder's last layer within the parameters."""
        return ("decoder", "out", "kernel")

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the grid of the latents for data of a given size.

        Raises:
            ValueError: if the size does not divide by the down-sampling factor.
        """
        factor = self.downsampling
        if any(axis % factor for axis in size):
            below = "x".join(str(axis // factor * factor or factor) for axis in size)
            above = "x".join(str(-(-axis // factor) * factor) for axis in size)
            near = below if below == above else f"{below} or {above}"
            raise ValueError(
                f"size {'x'.join(map(str, size))} does not divide by the encoder's down-sampling "
                f"{factor} ({self.reason}); nearest sizes: {near}"
            )
        return tuple(axis // factor for axis in size)

    def encoder(self, width: int) -> nn.Module:
        """Returns a module that maps float32 [b, *size, c] to float32 [b, *grid, width]."""
        raise TypeError(f"{type(self).__name__} must define encoder")

    def decoder(self, channels: int) -> nn.Module:
        """Returns a module that maps latents [b, *grid, d] to float32 [b, *size, channels]."""
        raise TypeError(f"{type(self).__name__} must define decoder")

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

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"{name} needs positive channels, got {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"{name} needs blocks >= 1, got {self.blocks}")

    @property
    def downsampling(self) -> int:
        return 2 ** (len(self.channels) - 1)

    @property
    def reason(self) -> str:
        return f"{len(self.channels)} levels of channels"

    @property
    def block(self) -> type[ResidualBlock]:
        """The class of the residual blocks, wrapped in `nn.remat` if `remat` is set."""
        is_recomputed = self.remat and not platform().is_counted
        return nn.remat(ResidualBlock) if is_recomputed else ResidualBlock

    def check_groups(self, groups: int) -> None:
        """Raises ValueError unless the number of groups of the norms divides every width."""
        name = type(self).__name__
        if groups < 1:
            raise ValueError(f"{name} needs groups >= 1, got {groups}")
        if any(width % groups for width in self.channels):
            raise ValueError(
                f"{name} needs channels that divide by groups={groups}, got {self.channels}; "
                "change one of them"
            )


class ConvAutoencoder(LeveledAutoencoder):
    """A residual convolutional autoencoder for signals, images and volumes.

    Attributes:
        channels: as in `LeveledAutoencoder`.
        patch: edge of the patches that are folded into channels before the first level, which
            makes long signals cheap; must divide the size of the data.
        blocks: residual blocks per level of the encoder; the decoder has one more per level, as
            published.
        dtype: as in `LeveledAutoencoder`.
        remat: as in `LeveledAutoencoder`.
    """

    patch: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1:
            raise ValueError(f"ConvAutoencoder needs patch >= 1, got {self.patch}")

    @property
    def downsampling(self) -> int:
        return self.patch * super().downsampling

    @property
    def reason(self) -> str:
        patch = f"patch {self.patch}, " if self.patch > 1 else ""
        return f"{patch}{super().reason}"

    def encoder(self, width: int) -> nn.Module:
        return _Encoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _Decoder(self, channels)


class _Encoder(nn.Module):
    config: ConvAutoencoder
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"]) -> Float[Array, "b *grid w"]:
        config, axes = self.config, x.ndim - 2
        kernel, dtype, block = (3,) * axes, config.dtype, config.block
        h = nn.Conv(config.channels[0], kernel, dtype=dtype, name="in")(_fold(x, config.patch))
        for level, channels in enumerate(config.channels):
            for number in range(config.blocks):
                h = block(channels, axes, dtype, name=f"level_{level}_block_{number}")(h)
            if level < len(config.channels) - 1:
                h = Downsample(channels, axes, dtype, name=f"level_{level}_down")(h)
        h = nn.silu(group_norm(h, name="norm"))
        return nn.Conv(self.width, (1,) * axes, name="out")(h.astype(jnp.float32))


class _Decoder(nn.Module):
    config: ConvAutoencoder
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b *grid d"]) -> Float[Array, "b *size c"]:
        config, axes = self.config, z.ndim - 2
        kernel, dtype, block = (3,) * axes, config.dtype, config.block
        h = nn.Conv(config.channels[-1], kernel, dtype=dtype, name="in")(z)
        for level, channels in reversed(list(enumerate(config.channels))):
            for number in range(config.blocks + 1):
                h = block(channels, axes, dtype, name=f"level_{level}_block_{number}")(h)
            if level > 0:
                h = Upsample(channels, axes, dtype, name=f"level_{level}_up")(h)
        h = nn.silu(group_norm(h, name="norm"))
        outputs = self.channels * config.patch**axes
        h = nn.Conv(outputs, kernel, name="out")(h.astype(jnp.float32))
        return _unfold(h, config.patch)


def _fold(x: Float[Array, "b *size c"], patch: int) -> Float[Array, "b *part e"]:
    size = x.shape[1:-1]
    part = tuple(edge // patch for edge in size)
    flat = x.reshape(x.shape[0], math.prod(size), x.shape[-1])
    return fold(flat, size, patch).reshape(x.shape[0], *part, -1)


def _unfold(x: Float[Array, "b *part e"], patch: int) -> Float[Array, "b *size c"]:
    size = tuple(edge * patch for edge in x.shape[1:-1])
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
    return unfold(flat, size, patch).reshape(x.shape[0], *size, -1)
