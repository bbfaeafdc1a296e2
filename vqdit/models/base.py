"""The interface of autoencoders: an encoder and a decoder around a bottleneck."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.conv import Mask, never_empty, zero_behind
from vqdit.nn.patches import nearest
from vqdit.typing import Array, Bool, Component, Float, Key, Params


class Autoencoder(Component):
    """Base class of autoencoders, whose encoder and decoder are pure functions of parameters.

    A batch may have sequences of different lengths, padded at the end; `mask` is then False at
    padding. A sequence is padded with zeros to a whole number of tokens. The result for a sequence
    does not depend on the rest of the batch.

    The bottleneck determines the number of output channels of the encoder and of input channels of
    the decoder. For a quantizer, both are the width of a code vector. For a KL regularizer, they
    are 2 d (mean and log variance) and d (latents).
    """

    @property
    def downsampling(self) -> int:
        """Factor by which the encoder reduces each axis of the data."""
        raise TypeError(f"{type(self).__name__} must define the property 'downsampling'")

    @property
    def reason(self) -> str:
        """Explanation of the downsampling factor, for error messages."""
        raise TypeError(f"{type(self).__name__} must define the property 'reason'")

    @property
    def last_layer(self) -> tuple[str, ...]:
        """Path of the kernel of the decoder's last layer in the tree of parameters."""
        return ("decoder", "out", "kernel")

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the grid of the latents for data of a given size.

        Raises:
            ValueError: if an edge is not divisible by the downsampling factor.
        """
        factor = self.downsampling
        if any(axis % factor for axis in size):
            raise ValueError(
                f"size {'x'.join(map(str, size))} is not divisible by the encoder's down-sampling "
                f"{factor} ({self.reason}); nearest sizes: {nearest(size, factor)}"
            )
        return tuple(axis // factor for axis in size)

    def size(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the size of the data to which a grid of latents decodes."""
        return tuple(axis * self.downsampling for axis in grid)

    def real(self, length: Any) -> Any:
        """Returns the number of tokens of sequences with `length` positions, an int or an array.

        Raises:
            ValueError: if the number of tokens does not depend on the length.
        """
        return -(-length // self.downsampling)

    def encoder(self, width: int) -> nn.Module:
        """Returns a module that maps float32 [b, *size, c] to float32 [b, *grid, width].

        The module's second argument, `mask`, is None, or False at tokens that are padding.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'encoder'")

    def decoder(self, channels: int) -> nn.Module:
        """Returns a module that maps latents [b, *grid, d] to float32 [b, *size, channels].

        The module's second argument, `mask`, is None, or False at tokens that are padding.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'decoder'")

    def init(
        self, key: Key[Array, ""], x: Float[Array, "b *size c"], dim: int, width: int = 0
    ) -> dict[str, Params]:
        """Returns fresh parameters {"encoder", "decoder"}.

        Args:
            key: random key of the initialisation.
            x: example data with the size and the number of channels of the data; sequences are
                padded to a whole number of tokens.
            dim: input channels of the decoder.
            width: output channels of the encoder; 0 means `dim`.
        """
        k_encoder, k_decoder = jax.random.split(key)
        x = self._rounded(x) if x.ndim == 3 else x
        z, encoder = self.encoder(width or dim).init_with_output(k_encoder, x)
        decoder = self.decoder(x.shape[-1]).init(k_decoder, z[..., :dim])
        return {"encoder": encoder["params"], "decoder": decoder["params"]}

    def encode(
        self,
        params: dict[str, Params],
        x: Float[Array, "b *size c"],
        width: int,
        mask: Mask = None,
    ) -> Float[Array, "b *grid w"]:
        """Returns the encoder's output, float32.

        Args:
            params: parameters, from `init` or the optimizer.
            x: data.
            width: channels of the output; must equal the `width` that `init` got.
            mask: False at padding of sequences x [b, n, c], where n may be any number; the output
                [b, real(n), width] is 0 after the end of each sequence.
        """
        encoder, variables = self.encoder(width), {"params": params["encoder"]}
        if mask is None:
            z: Any = encoder.apply(variables, x)
            return z
        tokens = self.token_mask(mask)
        z = encoder.apply(variables, self._rounded(zero_behind(x, mask)), never_empty(tokens))
        return zero_behind(z, tokens)

    def decode(
        self,
        params: dict[str, Params],
        z: Float[Array, "b *grid d"],
        channels: int,
        mask: Mask = None,
    ) -> Float[Array, "b *size c"]:
        """Returns the decoder's output with the given number of channels, float32.

        Args:
            params: parameters, from `init` or the optimizer.
            z: latents.
            channels: channels of the output.
            mask: False at padding [b, n] of the sequences that correspond to the latents [b,
                real(n), d]; the output [b, n, channels] is 0 after the end of each sequence.
        """
        decoder, variables = self.decoder(channels), {"params": params["decoder"]}
        if mask is None:
            x: Any = decoder.apply(variables, z)
            return x
        tokens = self.token_mask(mask)
        x = decoder.apply(variables, zero_behind(z, tokens), never_empty(tokens))
        return zero_behind(x[:, : mask.shape[1]], mask)

    def token_mask(self, mask: Bool[Array, "b n"]) -> Bool[Array, "b l"]:
        """Returns the mask of tokens of sequences with this mask of positions."""
        return mask[:, :: self.downsampling]

    def _rounded(self, x: Float[Array, "b n c"]) -> Float[Array, "b m c"]:
        """Pads sequences with zeros to a whole number of tokens."""
        more = -x.shape[1] % self.downsampling
        return jnp.pad(x, ((0, 0), (0, more), (0, 0))) if more else x
