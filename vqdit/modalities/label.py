"""Labels: one of a fixed set of classes. A label is a one-token modality, codes [b, 1, 1]."""

import difflib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vqdit.modalities.base import Modality
from vqdit.typing import Array, Int


class Label(Modality):
    """Class labels.

    Attributes:
        classes: number of classes.
        names: their names, if they have any; then they can be given by name too.
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

    def standardize(self, raw: Int[Array, " b"]) -> Int[Array, "b 1 1"]:
        return raw.astype(jnp.int32)[:, None, None]

    def restore(self, x: Int[Array, "b 1 1"]) -> Int[Array, " b"]:
        return x[:, 0, 0]

    def read(self, value: str) -> list[np.ndarray]:
        parts = [value] if value in self.names else value.split(",")  # a name may have commas
        return [np.asarray(self._class(part.strip()), np.int32) for part in parts]

    def _class(self, value: str) -> int:
        if value in self.names:
            return self.names.index(value)
        if value.removeprefix("-").isdecimal():
            if not 0 <= int(value) < self.classes:
                raise ValueError(
                    f"label {value} is out of range; labels go from 0 to {self.classes - 1}"
                )
            if any(name.isdecimal() for name in self.names):  # then a number is a name
                raise ValueError(f"unknown label {value!r}; one of: {', '.join(self.names)}")
            return int(value)
        folded = {name.casefold(): name for name in self.names}
        near = [folded[name] for name in difflib.get_close_matches(value.casefold(), folded, n=3)]
        hint = f"; nearest: {', '.join(near)}" if near else ""
        known = f"a number from 0 to {self.classes - 1}"
        raise ValueError(
            f"unknown label {value!r}; give {known}{' or a name' * bool(self.names)}{hint}"
        )

    def write(self, samples: np.ndarray, folder: Path) -> None:
        named = self.names or [str(number) for number in range(self.classes)]
        lines = (named[label] if label >= 0 else "none" for label in samples)
        (folder / "labels.txt").write_text("".join(f"{line}\n" for line in lines))
