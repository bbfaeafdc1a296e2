"""Labels: one of a fixed set of classes. A label is a one-token modality, codes [b, 1, 1]."""

import difflib
import html
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vqdit.modalities.base import Modality
from vqdit.modalities.drawing import text_picture
from vqdit.typing import Array, Int

SHOWN = 20
"""Maximum number of class names in an error message."""


class Label(Modality):
    """Class labels.

    Attributes:
        classes: number of classes.
        names: names of the classes, by which labels can be given too; empty if they have none.
    """

    classes: int = 10
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"Label needs classes >= 1, got {self.classes}")
        if self.names and len(self.names) != self.classes:
            raise ValueError(
                f"Label has {self.classes} classes but {len(self.names)} names; give one each"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    @property
    def grid(self) -> tuple[int, ...]:
        return (1,)

    @property
    def vocabulary(self) -> int:
        return self.classes

    def standardize(self, raw: Int[Array, " b"]) -> Int[Array, "b 1 1"]:
        return raw.astype(jnp.int32)[:, None, None]

    def restore(self, x: Int[Array, "b 1 1"]) -> Int[Array, " b"]:
        return x[:, 0, 0]

    def pack(self, values: Any) -> np.ndarray:
        labels = np.asarray(values)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"must be integer, got {labels.dtype}")
        wrong = labels[(labels < -1) | (labels >= self.classes)]
        if len(wrong):
            raise ValueError(f"{wrong[0]} is out of range; 0 to {self.classes - 1}, or -1")
        return super().pack(labels.astype(np.int32))

    def read(self, value: str) -> list[np.ndarray]:
        parts = [value] if value in self.names else value.split(",")  # a name may contain commas
        return [np.asarray(self._class(part.strip()), np.int32) for part in parts]

    def _class(self, value: str) -> int:
        if value in self.names:
            return self.names.index(value)
        if value.removeprefix("-").isdecimal():
            if not 0 <= int(value) < self.classes:
                raise ValueError(
                    f"label {value} is out of range; labels go from 0 to {self.classes - 1}"
                )
            if any(name.isdecimal() for name in self.names):  # then numbers are names
                raise ValueError(f"unknown label {value!r}; one of: {', '.join(self.names)}")
            return int(value)
        folded = {name.casefold(): name for name in self.names}
        near = [folded[name] for name in difflib.get_close_matches(value.casefold(), folded, n=3)]
        hint = f"; nearest: {', '.join(near)}" if near else ""
        known = f"a number from 0 to {self.classes - 1}"
        if self.names:
            few = len(self.names) <= SHOWN
            known += f" or one of {', '.join(self.names)}" if few else " or a name"
        raise ValueError(f"unknown label {value!r}; give {known}{hint}")

    def write(self, values: np.ndarray, folder: Path) -> None:
        lines = "".join(f"{self._name(label)}\n" for label in values)
        (folder / "labels.txt").write_text(lines, encoding="utf-8")

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return np.stack([text_picture(self._name(label)) for label in stored])

    def html(self, stored: np.ndarray | np.generic) -> str:
        return html.escape(self._name(stored))

    def regions(
        self, stored: np.ndarray | np.generic, tokens: tuple[int, ...]
    ) -> list[tuple[str, np.ndarray]]:
        """One region: the label."""
        del tokens
        return [(self._name(stored), np.ones(1, bool))]

    def _name(self, stored: np.ndarray | np.generic) -> str:
        label = int(stored)
        if label < 0:
            return "none"
        return self.names[label] if self.names else str(label)
