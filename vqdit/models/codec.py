"""The interface of neural audio codecs: autoencoders of waveforms that are chains of stages.

A stage is either *windowed*, so that an output depends only on inputs within a fixed distance, or
*recurrent*, so that a state summarises all earlier inputs. A recording of any length can therefore
be encoded and decoded piece by piece, with the same result as for the whole recording
(`vqdit.inference.pieces`).
"""

from fractions import Fraction
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.base import Autoencoder
from vqdit.nn.conv import Mask, zero_behind
from vqdit.nn.conv1d import Length
from vqdit.typing import Array, Float, Params


class Stage(NamedTuple):
    """A part of an encoder or a decoder.

    Attributes:
        module: if windowed, maps activations and their lengths to the activations and lengths of
            the next stage; if recurrent, maps activations and a state (None at the start) to
            activations and the next state.
        before: an output depends on this many inputs before its own position.
        after: an output depends on this many inputs after its own position.
        rate: outputs per input.
        mirrored: number of inputs that the first output needs because the start is padded by
            reflection.
        is_recurrent: whether the stage is recurrent.
    """

    module: nn.Module
    before: int = 0
    after: int = 0
    rate: Fraction = Fraction(1)
    mirrored: int = 0
    is_recurrent: bool = False

    def apply(self, params: Params, *arguments: Any) -> Any:
        """Applies the module; `params` are those of the encoder or decoder that has the stage."""
        return self.module.apply({"params": params[self.module.name]}, *arguments)


class Codec(Autoencoder):
    """Base class of codecs. A subclass defines the stages of the encoder and of the decoder."""

    @property
    def is_causal(self) -> bool:
        """Whether codes and decoded samples depend only on their own and earlier positions."""
        return False

    @property
    def whole_only(self) -> str:
        """Why recordings can only be encoded as a whole; empty if pieces are supported."""
        return ""

    @property
    def fills_tokens(self) -> bool:
        """Whether silence is appended to fill the last token, before the first layer."""
        return False

    def encoder_stages(self, width: int) -> list[Stage]:
        """Returns the stages from samples [b, n, c] to vectors [b, l, width]."""
        raise TypeError(f"{type(self).__name__} must define the method 'encoder_stages'")

    def decoder_stages(self, channels: int) -> list[Stage]:
        """Returns the stages from vectors [b, l, d] to samples [b, n, channels]."""
        raise TypeError(f"{type(self).__name__} must define the method 'decoder_stages'")

    def encoder(self, width: int) -> nn.Module:
        return _Chain(self, width, is_encoder=True)

    def decoder(self, channels: int) -> nn.Module:
        return _Chain(self, channels, is_encoder=False)

    def encode(
        self,
        params: dict[str, Params],
        x: Float[Array, "b *size c"],
        width: int,
        mask: Mask = None,
    ) -> Float[Array, "b *grid w"]:
        """Returns the encoder's output, float32; x may have any length."""
        length: Length = None if mask is None else jnp.maximum(jnp.sum(mask, axis=1), 1)
        if self.fills_tokens:
            x = self._rounded(x if mask is None else zero_behind(x, mask))
            length = None if length is None else self.real(length) * self.downsampling
        z: Any = self.encoder(width).apply({"params": params["encoder"]}, x, length)
        return z if mask is None else zero_behind(z, self.token_mask(mask))

    def decode(
        self,
        params: dict[str, Params],
        z: Float[Array, "b *grid d"],
        channels: int,
        mask: Mask = None,
    ) -> Float[Array, "b *size c"]:
        length: Length = None
        if mask is not None:
            length = jnp.maximum(self.real(jnp.sum(mask, axis=1)), 1)
            z = zero_behind(z, self.token_mask(mask))
        x: Any = self.decoder(channels).apply({"params": params["decoder"]}, z, length)
        return x if mask is None else zero_behind(x[:, : mask.shape[1]], mask)


class _Chain(nn.Module):
    codec: Codec
    width: int
    is_encoder: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *size c"], length: Any = None
    ) -> Float[Array, "b *grid w"]:
        codec = self.codec
        make = codec.encoder_stages if self.is_encoder else codec.decoder_stages
        for stage in make(self.width):
            if stage.is_recurrent:
                x, _ = stage.module(x)
            else:
                x, length = stage.module(x, length)
        return x
