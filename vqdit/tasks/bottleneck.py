"""The interface of a tokenizer's bottleneck, the part between its encoder and its decoder.

Tokenizers differ in their bottleneck: `TokenizerTask` has codes of a codebook, `KLTask` has
continuous latents. Both are called *tokens*.
"""

from typing import Any, NamedTuple

import numpy as np

from vqdit.metrics import Metrics
from vqdit.tasks.base import Task
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class BottleneckOutput(NamedTuple):
    """Result of a bottleneck in training.

    Attributes:
        z: input of the decoder.
        losses: unweighted scalars by name.
        metrics: further scalars to log.
        update: arguments of `Bottleneck.update_bottleneck`.
    """

    z: Float[Array, "b *grid d"]
    losses: Named[Float[Array, ""]]
    metrics: Named[Float[Array, ""]]
    update: Any


class Bottleneck(Task):
    """A task with a bottleneck; `AutoencoderTask` puts an encoder and a decoder around it.

    In the methods of this class, `stats` has only the statistics of the bottleneck.
    """

    @property
    def weights(self) -> Named[float]:
        """Weight of each of the bottleneck's losses."""
        raise TypeError(f"{type(self).__name__} must define the property 'weights'")

    @property
    def dim(self) -> int:
        """Width d of the latents that the decoder takes."""
        raise TypeError(f"{type(self).__name__} must define the property 'dim'")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Sizes of the q codebooks; empty if the tokens are latents."""
        return ()

    @property
    def width(self) -> int:
        """Channels of the encoder's output."""
        return self.dim

    def start(
        self,
        key: Key[Array, ""],
        params: Params,
        x: Float[Array, "b *size c"],
        mask: Bool[Array, "b n"] | None = None,
    ) -> tuple[Params, Stats]:
        """Returns `params` with the bottleneck's parameters added, and its initial statistics.

        Args:
            key: random key of the initialisation.
            params: parameters of the encoder and the decoder.
            x: standardised examples, for initialisation from data.
            mask: True at positions that are not padding, for examples that differ in length.
        """
        del key, x, mask
        return params, {}

    def bottleneck(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        mask: Bool[Array, "b *grid"],
    ) -> BottleneckOutput:
        """Passes the encoder's output through the bottleneck, in training.

        Losses and statistics are over the positions where `mask` is True.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'bottleneck'")

    def tokens(self, params: Params, stats: Stats, h: Float[Array, "b *grid w"]) -> Array:
        """Returns the tokens of the encoder's output."""
        raise TypeError(f"{type(self).__name__} must define the method 'tokens'")

    def lookup(self, params: Params, stats: Stats, tokens: Array) -> Float[Array, "b *grid d"]:
        """Returns the decoder's input for tokens."""
        raise TypeError(f"{type(self).__name__} must define the method 'lookup'")

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Checks tokens from a user, and returns them in the type that `decode` expects.

        Raises:
            ValueError: shape, type or values are not valid for tokens of this task.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'checked'")

    def measure(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        tokens: Array,
        valid: Bool[Array, " b"],
        mask: Bool[Array, "b l"] | None = None,
    ) -> Metrics:
        """Returns accumulators of metrics of the bottleneck, for evaluation.

        Args:
            params: parameters.
            stats: statistics.
            h: the encoder's output.
            tokens: the tokens of h.
            valid: True for examples that are not padding.
            mask: True at tokens that are not padding, for examples that differ in length.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'measure'")

    def update_bottleneck(
        self, params: Params, stats: Stats, update: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        """Returns the parameters and the bottleneck's statistics after a step."""
        del update, key, step
        return params, stats
