"""An autoencoder as other parts use it: examples to tokens and back.

    tokens = b(E(x)),        y = D(tokens),

with encoder E, bottleneck b and decoder D. Its training is in `vqdit.tasks.autoencoder_training`.
"""

from typing import TypeVar

from vqdit.modalities import Image, Modality
from vqdit.models.autoencoder import Autoencoder, ConvAutoencoder
from vqdit.tasks.bottleneck import Bottleneck
from vqdit.typing import Array, Float, Named, Params, Stats

T = TypeVar("T", bound="AutoencoderTask")


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

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions of the tokens along each axis."""
        return self.model.grid(self.modality.grid)

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of an example in encoded data: its codes, or mean and deviation of its latents."""
        return *self.grid, len(self.codebook_sizes) or 2 * self.dim

    @property
    def without_training(self: T) -> T:
        """The task without the components that only training needs."""
        return self

    def bottleneck_stats(self, stats: Stats) -> Stats:
        """Returns the bottleneck's part of the task's statistics."""
        return stats

    def for_inference(self: T, params: Params, stats: Stats) -> tuple[T, Params, Stats]:
        """Returns task, parameters and statistics without what only training needs."""
        return self.without_training, params, self.bottleneck_stats(stats)

    def encode(self, params: Params, stats: Stats, raw: Array) -> Array:
        """Returns the tokens of stored examples."""
        return self.encode_standardized(params, stats, self.modality.standardize(raw))

    def moments(self, params: Params, stats: Stats, raw: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation of the normal posterior of stored examples.

        Only tokenizers with a posterior define it; their tokens are its mean.
        """
        raise TypeError(f"a {type(self).__name__} has no posterior")

    def encode_standardized(
        self, params: Params, stats: Stats, x: Float[Array, "b *size c"]
    ) -> Array:
        """Returns the tokens of standardised examples."""
        h = self.model.encode(params, x, self.width)
        return self.tokens(params, self.bottleneck_stats(stats), h)

    def decode(self, params: Params, stats: Stats, tokens: Array) -> Array:
        """Returns stored examples from tokens."""
        return self.modality.restore(self.decode_standardized(params, stats, tokens))

    def decode_latents(self, params: Params, stats: Stats, z: Float[Array, "b *grid d"]) -> Array:
        """Returns stored examples from generated latents."""
        raise TypeError(f"{type(self).__name__} must define the method decode_latents")

    def decode_standardized(
        self, params: Params, stats: Stats, tokens: Array
    ) -> Float[Array, "b *size c"]:
        """Returns standardised examples from tokens, not clipped to [-1, 1]."""
        z = self.lookup(params, self.bottleneck_stats(stats), tokens)
        return self.model.decode(params, z, self.modality.channels)
