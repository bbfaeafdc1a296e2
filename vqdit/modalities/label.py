"""Labels: one of a fixed set of classes. A label is a one-token modality, codes [b, 1, 1]."""

import dataclasses
import difflib
import functools
import html
import itertools
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vqdit.escapes import escaped
from vqdit.modalities.base import Cell, Modality, Value, plural
from vqdit.modalities.classes import class_name, in_order, is_whole
from vqdit.modalities.drawing import text_picture
from vqdit.typing import Array, Int

SHOWN = 20
"""Maximum number of class names in an error message."""


NONE = ("none", "-1")
"""Text that means "no label", unless a class has this name."""


class Label(Modality):
    """Class labels.

    A label is given as the name or the number of its class; numbers count from 0. If any class has
    a number as its name, numbers are always read as names. This holds for the command line and for
    Python, where 2 and "2" are equivalent. "none" and -1 mean no label, unless a class has this
    name. `read` and `unpack` return the numbers of classes; if numbers are names, they return the
    names, as int32 if all names are whole numbers, and as str otherwise.

    Attributes:
        classes: number of classes.
        names: names of the classes; empty if they have none.
    """

    classes: int = 10
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"Label needs classes >= 1, got {self.classes}")
        if self.names and len(self.names) != self.classes:
            raise ValueError(
                f"Label has {self.classes} classes but {len(self.names)} names; give one name per "
                "class"
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

    def complete(
        self, training: Iterable[tuple[str, Any]], others: Iterable[tuple[str, Any]] = ()
    ) -> "Label":
        """Returns the label with names of classes; if the label has none, the cells determine them.

        If all cells are valid numbers of classes, all numbers of classes become names, even
        if some do not occur.
        """
        if self.names:
            return self
        found = {}
        for place, value in itertools.chain(training, others):
            found.setdefault(class_of(value, place), place)
        numbers = tuple(map(str, range(self.classes)))
        names = numbers if found.keys() <= {*numbers} else in_order(found, min(found.values()))
        return dataclasses.replace(self, classes=len(names), names=names)

    def read_cell(self, value: Value) -> Cell:
        label = self._class(class_of(value, ""))
        return Cell(np.asarray(label, np.int32) if label >= 0 else None)

    def standardize(self, raw: Int[Array, " b"]) -> Int[Array, "b 1 1"]:
        return raw.astype(jnp.int32)[:, None, None]

    def restore(self, x: Int[Array, "b 1 1"]) -> Int[Array, " b"]:
        return x[:, 0, 0]

    def pack(self, values: Any) -> np.ndarray:
        labels = np.asarray(values)
        if labels.dtype.kind == "U" or (labels.dtype.kind in "iu" and self._are_names):
            labels = np.vectorize(lambda label: self._class(str(label)), [np.int32])(labels)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be integers, got {labels.dtype}")
        wrong = labels[(labels < -1) | (labels >= self.classes)]
        if len(wrong):
            raise ValueError(
                f"label {wrong[0]} is out of range; use 0 to {self.classes - 1}, or -1 for no label"
            )
        return super().pack(labels.astype(np.int32))

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        if not self._are_names:
            return stored
        if all(re.fullmatch("0|[1-9][0-9]{0,8}", name) for name in self.names):
            return np.asarray([*map(int, self.names), -1], np.int32)[stored]
        return np.asarray([self.name(label) for label in stored])

    def captions(self, values: np.ndarray) -> list[str]:
        return [self.name(label) for label in self.pack(values)]

    def read(self, value: str) -> list[np.ndarray]:
        parts = [value] if value in self._numbers else value.split(",")  # a name may contain commas
        labels = [self._class(part.strip()) for part in parts]
        return [np.asarray(one) for one in self.unpack(np.asarray(labels, np.int32))]

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        """The number of every class, keyed by name."""
        return {name: number for number, name in enumerate(self.names)}

    @functools.cached_property
    def _are_names(self) -> bool:
        """Whether the classes are named by numbers that differ from their numbers 0, 1, 2, ..."""
        return not self._is_range and any(is_whole(name) for name in self.names)

    @functools.cached_property
    def _is_range(self) -> bool:
        return self.names == tuple(map(str, range(self.classes)))

    def _class(self, value: str) -> int:
        """Returns the number of a class, or -1 for no label."""
        for form in (value, unicodedata.normalize("NFC", value)):
            if form in self._numbers:
                return self._numbers[form]
        if value in NONE:
            return -1
        if value.removeprefix("-").isdecimal() and not self._are_names:
            if not 0 <= int(value) < self.classes:
                raise ValueError(
                    f"label {value} is out of range; labels go from 0 to {self.classes - 1}"
                )
            return int(value)
        folded = {name.casefold(): name for name in self.names}
        near = [folded[name] for name in difflib.get_close_matches(value.casefold(), folded, n=3)]
        hint = f"; nearest: {', '.join(near)}" if near else ""
        known = [] if self._are_names else [f"a number from 0 to {self.classes - 1}"]
        if self.names and not self._is_range:
            few = len(self.names) <= SHOWN
            known.append(f"one of {', '.join(self.names)}" if few else "a name")
        raise ValueError(f"unknown label {value!r}; give {' or '.join(known)}{hint}")

    def write(self, values: np.ndarray, folder: Path, name: str = "label") -> None:
        lines = "".join(f"{escaped(caption)}\n" for caption in self.captions(values))
        (folder / f"{plural(name)}.txt").write_text(lines, encoding="utf-8")

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return np.stack([text_picture(self.name(label)) for label in stored])

    def html(self, stored: np.ndarray | np.generic) -> str:
        return html.escape(self.name(stored))

    def regions(
        self, stored: np.ndarray | np.generic, tokens: tuple[int, ...]
    ) -> list[tuple[str, np.ndarray]]:
        """Returns one region: the label."""
        del tokens
        return [(self.name(stored), np.ones(1, bool))]

    def name(self, stored: np.ndarray | np.generic) -> str:
        """Returns the name of a stored label's class, or its number if classes have no names."""
        label = int(stored)
        if label < 0:
            return next((name for name in NONE if name not in self._numbers), "")
        return self.names[label] if self.names else str(label)


def class_of(value: Value, place: str) -> str:
    """Returns the name of a class from a cell; 3.0, as spreadsheets may write 3, is read as 3."""
    name = class_name(str(value), place)
    return name[:-2] if name.endswith(".0") and is_whole(name[:-2]) else name
