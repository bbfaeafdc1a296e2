"""A trained tokenizer as a Python object: examples in, tokens out, and back."""

import dataclasses
from typing import Any

import jax
import numpy as np

from vqdit.modalities import Image
from vqdit.runs.restoring import Restored
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Array

SLACK = 1e-3
"""How far a standardised value may be beyond [-1, 1]: rounding, not another range."""


class Tokenizer:
    """A trained tokenizer. Its methods are jitted; each new batch shape compiles once.

    Standardised images may have any size that the model divides, and their tokens any such grid.

    *Tokens* are codes int32 [b, *grid, q], or float32 latents [b, *grid, d] of a `KLTask`.
    *Stored* examples are as data sets keep them (uint8 images [b, h, w, c], int16 audio [b, t]),
    *standardised* ones float32 in [-1, 1] with channels last (images [b, h, w, c], audio
    [b, t, 1]).

    Attributes:
        task: what it is.
        model: its encoder and decoder.
        params: its parameters.
        stats: its codebook and counts.
        step: training steps behind it.
        standardized: `decode` gives standardised examples unless it is told otherwise.
    """

    def __init__(self, restored: Restored, *, standardized: bool = False) -> None:
        if not isinstance(restored.task, AutoencoderTask):
            raise ValueError(f"the run is a {type(restored.task).__name__}, not a tokenizer")
        stripped = restored.task.for_inference(restored.params, restored.stats)
        self.task, self.params, self.stats = stripped
        self.model, self.step = self.task.model, restored.step
        self.standardized = standardized
        self._encode = jax.jit(self.task.encode)
        self._encode_standardized = jax.jit(self.task.encode_standardized)
        self._decode = jax.jit(self.task.decode)
        self._decode_standardized = jax.jit(self.task.decode_standardized)

    def encode(self, x: Any) -> Array:
        """Returns the tokens of stored or of standardised examples.

        Raises:
            ValueError: shape or type are those of neither, the size does not divide, or a
                standardised value is NaN or outside of [-1, 1].
        """
        x, modality = np.asarray(x), self.task.modality
        if x.shape[1:] == modality.shape and x.dtype == modality.dtype:
            return self._encode(self.params, self.stats, x)
        standard = (*modality.grid, modality.channels)
        may_differ = isinstance(modality, Image) and x.ndim == 4 and x.shape[-1] == standard[-1]
        if x.dtype != np.float32 or not (may_differ or x.shape[1:] == standard):
            raise ValueError(
                f"encode takes {modality.dtype} [b, {', '.join(map(str, modality.shape))}] or "
                f"float32 [b, {', '.join(map(str, standard))}] in [-1, 1], "
                f"got {x.dtype} {list(x.shape)}"
            )
        self.model.grid(x.shape[1:-1])  # sizes that do not divide
        _require_finite(x, "encode")
        if x.size and np.abs(x).max() > 1.0 + SLACK:
            raise ValueError(
                f"encode takes float32 in [-1, 1], got {x.min():.4g} to {x.max():.4g}; scale it "
                f"(x / 127.5 - 1 for 0 to 255) or give it as {modality.dtype}"
            )
        return self._encode_standardized(self.params, self.stats, x)

    def decode(self, tokens: Any, *, standardized: bool | None = None) -> Array:
        """Returns the examples of tokens.

        Args:
            tokens: what `encode` returned, or generated ones.
            standardized: give the decoder's very numbers, which are not clipped to [-1, 1], or
                stored examples; None takes the attribute.

        Raises:
            ValueError: the shape is not that of the tokens, a code is not in the codebook, or a
                latent is not finite.
        """
        tokens = np.asarray(tokens)
        tokens = self._task_of(tokens).checked(tokens)
        if tokens.dtype == np.float32:
            _require_finite(tokens, "decode")
        standardized = self.standardized if standardized is None else standardized
        decode = self._decode_standardized if standardized else self._decode
        return decode(self.params, self.stats, tokens)

    def _task_of(self, tokens: np.ndarray) -> AutoencoderTask:
        """Returns the task for images of the size that a grid of tokens makes."""
        size = tuple(axis * self.model.downsampling for axis in tokens.shape[1:-1])
        modality = self.task.modality
        if not isinstance(modality, Image) or len(size) != 2 or min(size) < 1:
            return self.task
        return dataclasses.replace(self.task, modality=dataclasses.replace(modality, size=size))


def _require_finite(x: np.ndarray, method: str) -> None:
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        where = ", ".join(map(str, wrong[0]))
        raise ValueError(
            f"{method} takes finite numbers, got {x[tuple(wrong[0])]} at [{where}], the first of "
            f"{len(wrong)}; look where they come from"
        )
