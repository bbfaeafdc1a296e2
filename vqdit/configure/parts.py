"""A column as a part of a model."""

from pathlib import Path
from typing import Any, NamedTuple

from vqdit.configure.columns import Column
from vqdit.losses import Perceptual
from vqdit.modalities import Modality
from vqdit.modalities.sounds import read_form
from vqdit.models import ConvAutoencoder

BYTES_OF_UNIT = 3.5
"""Mean number of bytes of a unit of a BPE, roughly."""


class Part(NamedTuple):
    """A column as a part of the model.

    Attributes:
        column: what was found.
        modality: its modality.
        is_wanted: whether it is generated, and not only given.
        tokens: number of tokens that it takes in the DiT.
        shown: one line for people.
        models: tokenizers, the largest first; empty if its data are codes already.
        codes: number of codes of the tokenizer.
        perceptual: losses of the tokenizer.
        reconstruction: loss of the tokenizer.
        longest: seconds of the longest sound, if rows with longer ones are left out.
        kept: share of the examples that are not left out as their texts are too long.
        comments: comments of the tokenizer's fields, by path; "modality" is that of the modality.
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
    comments: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name

    def is_too_long(self, value: Any) -> bool:
        """Returns whether a sound, which is given by its path, is longer than `longest`."""
        if self.longest is None or not value:
            return False
        form = read_form(Path(value))
        return form.samples / form.rate > self.longest
