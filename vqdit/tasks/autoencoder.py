"""Autoencoders: encode examples to tokens, and decode tokens to examples.

    tokens = b(E(x)),        y = D(tokens),

with encoder E, bottleneck b and decoder D. Examples of different lengths are padded at the end to
arrays of one shape. `mask` is then True at the stored positions that are not padding, and the
padding has no influence on the tokens. Training is in `vqdit.tasks.autoencoder_training`.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from vqdit.data.sources import Feature
from vqdit.modalities import Image, Modality
from vqdit.models.autoencoder import ConvAutoencoder
from vqdit.models.base import Autoencoder
from vqdit.tasks.adoption import with_adopted
from vqdit.tasks.bottleneck import Bottleneck
from vqdit.typing import Array, Bool, Float, Named, Params, Stats

T = TypeVar("T", bound="AutoencoderTask")
Mask = Bool[Array, "b n"] | None
"""True at stored positions that are not padding; None if the length is fixed."""


class AutoencoderTask(Bottleneck):
    """An autoencoder of one modality; subclasses define the bottleneck.

    Attributes:
        name: column of the data that is tokenized.
        modality: modality of that column.
        model: encoder and decoder.
    """

    name: str = "image"
    modality: Modality = Image()
    model: Autoencoder = ConvAutoencoder()

    @property
    def modalities(self) -> Named[Modality]:
        return Named({self.name: self.modality})

    def adopt(self: T, features: Named[Feature]) -> T:
        return with_adopted(self, features.get(self.name))

    @property
    def channels(self) -> int:
        """Number of channels of the encoder's input and the decoder's output."""
        return self.modality.vocabulary or self.modality.channels

    def input(self, raw: Array) -> Float[Array, "b *size c"]:
        """Converts stored examples to the encoder's input: standardized data, or one-hot codes.

        The decoder correspondingly returns standardized data, or logits of the codes.
        """
        x = self.modality.standardize(raw)
        return jax.nn.one_hot(x[..., 0], self.channels) if self.modality.vocabulary else x

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of tokens along each axis; of the longest example if lengths vary."""
        if self.modality.lengths is None:
            return self.model.grid(self.modality.grid)
        return (self.token_lengths(self.modality.lengths[1]),)

    def token_lengths(self, lengths: Any) -> Any:
        """Returns the numbers of tokens of examples that have `lengths` stored positions."""
        return self.model.real(lengths)

    def stored_lengths(self, tokens: Any) -> Any:
        """Converts numbers of tokens to the numbers of stored positions that they decode to.

        The result is the length of whole tokens, but at most the largest length of the modality.
        """
        longest = self.modality.lengths[1] if self.modality.lengths else self.modality.grid[0]
        return jnp.minimum(jnp.asarray(tokens) * self.model.downsampling, longest)

    def is_grid(self, grid: tuple[int, ...]) -> bool:
        """Returns whether this is a possible grid of tokens."""
        if self.modality.lengths is None:
            return grid == self.grid
        return len(grid) == 1 and grid[0] <= self.grid[0]

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of an encoded example: [*grid, q] or [*grid, 2 d].

        It has q codes per token, or the mean and the standard deviation of d latent channels.
        """
        return *self.grid, len(self.codebook_sizes) or 2 * self.dim

    @property
    def without_training(self: T) -> T:
        """The task without components that are used only in training."""
        return self

    def bottleneck_stats(self, stats: Stats) -> Stats:
        """Returns the bottleneck's part of the task's statistics."""
        return stats

    def for_inference(self: T, params: Params, stats: Stats) -> tuple[T, Params, Stats]:
        """Returns task, parameters and statistics without the parts that only training uses."""
        return self.without_training, params, self.bottleneck_stats(stats)

    def encode(self, params: Params, stats: Stats, raw: Array, mask: Mask = None) -> Array:
        """Returns the tokens of stored examples; padding is -1 for codes and 0 for latents."""
        return self.encode_standardized(params, stats, self.input(raw), mask)

    def moments(
        self, params: Params, stats: Stats, raw: Array, mask: Mask = None
    ) -> tuple[Array, Array]:
        """Returns mean and standard deviation of the normal posterior of stored examples.

        Only tokenizers with a posterior define this method; their tokens are the posterior's mean.
        """
        raise TypeError(
            "the moments of latents need a normal posterior, which the task "
            f"{type(self).__name__} lacks; use a KLTask"
        )

    def encode_standardized(
        self, params: Params, stats: Stats, x: Float[Array, "b *size c"], mask: Mask = None
    ) -> Array:
        """Returns the tokens of examples that are results of `input`."""
        h = self.model.encode(params, x, self.width, mask)
        return self.tokens_within(params, stats, h, mask)

    def tokens_within(
        self, params: Params, stats: Stats, h: Float[Array, "b *grid w"], mask: Mask
    ) -> Array:
        """Returns the tokens of the encoder's output; padding is -1 for codes and 0 for latents."""
        tokens = self.tokens(params, self.bottleneck_stats(stats), h)
        if mask is None:
            return tokens
        nothing = -1 if self.codebook_sizes else 0
        return jnp.where(self.model.token_mask(mask)[..., None], tokens, nothing)

    def decode(self, params: Params, stats: Stats, tokens: Array, mask: Mask = None) -> Array:
        """Returns stored examples from tokens; padding is the stored form of 0."""
        y = self.decode_standardized(params, stats, tokens, mask)
        if self.modality.vocabulary:
            y = jnp.argmax(y, axis=-1, keepdims=True)
        return self.modality.restore(y)

    def decode_latents(
        self, params: Params, stats: Stats, z: Float[Array, "b *grid d"], mask: Mask = None
    ) -> Array:
        """Returns stored examples from generated latents."""
        raise TypeError(f"{type(self).__name__} must define the method 'decode_latents'")

    def decode_standardized(
        self, params: Params, stats: Stats, tokens: Array, mask: Mask = None
    ) -> Float[Array, "b *size c"]:
        """Decodes tokens to standardized examples, not clipped, or to logits of codes."""
        z = self.lookup(params, self.bottleneck_stats(stats), tokens)
        return self.model.decode(params, z, self.channels, mask)
