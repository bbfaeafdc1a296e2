"""The contract of a modality: from stored arrays to what networks take, and back to files."""

from pathlib import Path

import numpy as np

from vqdit.typing import Array, Component


class Modality(Component):
    """What one kind of data is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stored example."""
        raise TypeError(f"{type(self).__name__} must define shape")

    def standardize(self, raw: Array) -> Array:
        """Turns a batch of stored arrays into what a tokenizer (or the DiT) takes."""
        raise TypeError(f"{type(self).__name__} must define standardize")

    def restore(self, x: Array) -> Array:
        """The inverse of `standardize`, rounded and clipped to what can be stored."""
        raise TypeError(f"{type(self).__name__} must define restore")

    def read(self, value: str) -> list[np.ndarray]:
        """Reads what a user gave on the command line: a literal, a file, or a folder of files.

        Returns:
            One stored array per item, in sorted order of the files.

        Raises:
            ValueError: naming the value and the rule it breaks.
        """
        raise TypeError(f"{type(self).__name__} must define read")

    def write(self, samples: np.ndarray, folder: Path) -> None:
        """Writes one file per sample, and an overview where there is one."""
        raise TypeError(f"{type(self).__name__} must define write")
