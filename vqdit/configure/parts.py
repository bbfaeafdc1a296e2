"""A column as a part of a model."""

from typing import NamedTuple

from vqdit.configure.columns import Column
from vqdit.losses import Perceptual
from vqdit.modalities import Modality
from vqdit.models import ConvAutoencoder


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
        longest: bytes of the longest text, if rows with longer ones are left out.
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
    longest: int | None = None
    comments: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name
