"""A convolutional residual encoder and decoder on grids of one, two or three axes.

The encoder halves every axis once per level but the last; the decoder mirrors it. Structure of
Esser et al., "Taming Transformers" (VQGAN), arXiv:2012.09841, appendix A, without attention.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv import Downsample, ResidualBlock, Upsample, group_norm
from vqdit.typing import Array, Component, Float, Key, Params


class ConvAutoencoder(Component):
    """Encoder and decoder, as pure functions of their parameters.

    Attributes:
        channels: width of each level, from the data's resolution to the latents'; every level
            but the last ends in a halving, so (64, 128, 256) reduces each axis by 4.
        blocks: residual blocks per level (the decoder has one more, as published).
        dtype: precision of the convolutions; parameters and norms stay float32.
        remat: recompute each residual block in the backward pass: much less memory, a third more
            time.
    """

    channels: tuple[int, ...] = (64, 128, 256)
    blocks: int = 2
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"ConvAutoencoder needs positive channels, got {self.channels}")
        if self.blocks < 1:
            raise ValueError(f"ConvAutoencoder needs blocks >= 1, got {self.blocks}")

    @property
    def block(self) -> type[ResidualBlock]:
        """The residual block, recomputed in the backward pass if that is asked for."""
        return nn.remat(ResidualBlock) if self.remat else ResidualBlock

    @property
    def downsampling(self) -> int:
        """Data positions per latent position, along each axis."""
        return 2 ** (len(self.channels) - 1)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the latent grid of data of that size.

        Raises:
            ValueError: if the size does not divide by the down-sampling.
        """
        factor = self.downsampling
        if any(axis % factor for axis in size):
            below = "x".join(str(axis // factor * factor or factor) for axis in size)
            above = "x".join(str(-(-axis // factor) * factor) for axis in size)
            near = below if below == above else f"{below} or {above}"
            raise ValueError(
                f"size {'x'.join(map(str, size))} does not divide by the encoder's down-sampling "
                f"{factor} ({len(self.channels)} levels of channels); nearest sizes: {near}"
            )
        return tuple(axis // factor for axis in size)

    def init(
        self, key: Key[Array, ""], x: Float[Array, "b *size c"], dim: int
    ) -> dict[str, Params]:
        """Returns fresh parameters {"encoder", "decoder"} for data like x and latents of `dim`."""
        k_encoder, k_decoder = jax.random.split(key)
        z, encoder = _Encoder(self, dim).init_with_output(k_encoder, x)
        decoder = _Decoder(self, x.shape[-1]).init(k_decoder, z)
        return {"encoder": encoder["params"], "decoder": decoder["params"]}

    def encode(
        self, params: dict[str, Params], x: Float[Array, "b *size c"], dim: int
    ) -> Float[Array, "b *grid d"]:
        """Returns latents, float32."""
        z: Any = _Encoder(self, dim).apply({"params": params["encoder"]}, x)
        return z

    def decode(
        self, params: dict[str, Params], z: Float[Array, "b *grid d"], channels: int
    ) -> Float[Array, "b *size c"]:
        """Returns data of that many channels, float32."""
        x: Any = _Decoder(self, channels).apply({"params": params["decoder"]}, z)
        return x


class _Encoder(nn.Module):
    config: ConvAutoencoder
    dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"]) -> Float[Array, "b *grid d"]:
        config, axes = self.config, x.ndim - 2
        kernel, dtype = (3,) * axes, config.dtype
        h = nn.Conv(config.channels[0], kernel, dtype=dtype, name="in")(x)
        for level, channels in enumerate(config.channels):
            for block in range(config.blocks):
                h = config.block(channels, axes, dtype, name=f"level_{level}_block_{block}")(h)
            if level < len(config.channels) - 1:
                h = Downsample(channels, axes, dtype, name=f"level_{level}_down")(h)
        h = nn.silu(group_norm(h, name="norm"))
        return nn.Conv(self.dim, (1,) * axes, name="out")(h.astype(jnp.float32))


class _Decoder(nn.Module):
    config: ConvAutoencoder
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b *grid d"]) -> Float[Array, "b *size c"]:
        config, axes = self.config, z.ndim - 2
        kernel, dtype = (3,) * axes, config.dtype
        h = nn.Conv(config.channels[-1], kernel, dtype=dtype, name="in")(z)
        for level, channels in reversed(list(enumerate(config.channels))):
            for block in range(config.blocks + 1):
                h = config.block(channels, axes, dtype, name=f"level_{level}_block_{block}")(h)
            if level > 0:
                h = Upsample(channels, axes, dtype, name=f"level_{level}_up")(h)
        h = nn.silu(group_norm(h, name="norm"))
        return nn.Conv(self.channels, kernel, name="out")(h.astype(jnp.float32))
