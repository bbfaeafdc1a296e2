"""A column as a part of a model."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.configure.columns import Column
from vqdit.losses import Perceptual
from vqdit.modalities import Modality
from vqdit.modalities.sounds import read_form
from vqdit.models import ConvAutoencoder
from vqdit.typing import Float

BYTES_OF_UNIT = 3.5
"""Rough mean number of bytes in a unit of a BPE."""
BUCKETS = 4
"""Number of padded lengths of batches, if examples differ in length."""
SAME_LENGTH = 0.9
"""Examples are padded to one length if the shortest has at least this fraction of it."""


class Part(NamedTuple):
    """A column as a part of the model.

    Attributes:
        column: the inspected column.
        modality: modality of the column.
        is_wanted: whether the DiT generates the column; False if it is only given.
        tokens: number of the column's tokens in the DiT.
        shown: one line that describes the part for the user.
        models: candidate tokenizer networks, the largest first; empty if the data are already
            codes.
        codes: number of codes in the tokenizer's codebook.
        perceptual: perceptual losses of the tokenizer.
        reconstruction: elementwise reconstruction loss of the tokenizer.
        longest: largest length of a sound that is kept, in seconds; None keeps all.
        kept: fraction of the examples whose texts are short enough to be kept.
        fill: mean padded length in a batch as a fraction of the largest length.
        comments: comments on the tokenizer's fields, keyed by path; "modality" is the path of the
            comment on the modality.
    """

    column: Column
    modality: Modality
    is_wanted: bool
    tokens: int
    shown: str
    models: tuple[ConvAutoencoder, ...] = ()
    codes: int = 0
    perceptual: tuple[Perceptual, ...] = ()
    reconstruction: str = "l2"
    longest: float | None = None
    kept: float = 1.0
    fill: float = 1.0
    comments: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.column.name

    def is_too_long(self, value: Any) -> bool:
        """Returns whether the sound with this path is longer than `longest`."""
        if self.longest is None or not value:
            return False
        form = read_form(Path(value))
        return form.samples / form.rate > self.longest


def mean_fill(lengths: Float[np.ndarray, " b"]) -> float:
    """Returns the mean padded length in a batch, for lengths as fractions of the longest."""
    bounds = np.quantile(lengths, np.arange(1, BUCKETS + 1) / BUCKETS, method="higher")
    return float(bounds.mean())
