"""The interface of data sources, and the folder of prepared data."""

import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from vqdit.files import local_path
from vqdit.ragged import is_ragged, lengths, ragged
from vqdit.typing import Component, Named

SPLITS = ("train", "validation", "test")
DTYPES = ("uint8", "int16", "int32", "float32")
"""Data types of columns."""
OPTION = "(in training: --data.source.path)"
"""The option that sets the path of a source, for error messages."""
PRESENT = "present_"
"""Prefix of the boolean column that says which examples have a column."""
MIRRORED = "_mirrored"
"""Suffix of the column that holds the tokens of mirror images."""

Arrays = dict[str, np.ndarray]


class Feature(NamedTuple):
    """Shape, data type and meaning of a column.

    Attributes:
        shape: shape of one example.
        classes: number of classes if the column is a label, else 0.
        names: names of the classes, if they have any.
        dtype: "uint8", "int16", "int32" or "float32"; if empty, uint8 for arrays and int32 for
            scalars.
        encoded: fingerprint of the tokenizer if the column holds tokens, else empty.
        ragged: True if examples differ in length; `shape` is then the shape of the longest possible
            example, and columns are ragged (see `vqdit.ragged`).
        packed: True if the examples are windows of a stream of documents, see
            `vqdit.data.text_stream`.
        units: state that the units of a text learned from the training texts, such as the merges of
            a BPE; empty if the text is stored as bytes.
    """

    shape: tuple[int, ...]
    classes: int = 0
    names: tuple[str, ...] = ()
    dtype: str = ""
    encoded: str = ""
    ragged: bool = False
    packed: bool = False
    units: str = ""

    def blank(self, count: int) -> np.ndarray:
        """Returns a column of zeros, or of examples of length 0 if it is ragged."""
        if self.ragged:
            return ragged([np.zeros((0, *self.shape[1:]), self.stored)] * count)
        return np.zeros((count, *self.shape), self.stored)

    @property
    def is_picture(self) -> bool:
        """Whether the column holds pictures: uint8 [h, w, c], and not tokens."""
        return len(self.shape) == 3 and self.stored == np.uint8 and not self.encoded

    @property
    def is_sound(self) -> bool:
        """Whether the column holds sounds: int16 [n] or [n, c], and no codes or tokens."""
        has_codes = self.encoded or self.units or self.packed or self.classes
        return len(self.shape) in (1, 2) and self.stored == np.int16 and not has_codes

    @property
    def stored(self) -> np.dtype:
        """The NumPy data type of the column.

        Raises:
            ValueError: if `dtype` is not a supported data type.
        """
        if self.dtype not in ("", *DTYPES):
            raise ValueError(
                f"a column cannot be stored as {self.dtype!r}; use one of {', '.join(DTYPES)}"
            )
        return np.dtype(self.dtype or ("uint8" if self.shape else "int32"))


@runtime_checkable
class Split(Protocol):
    """Random access to the examples of one split."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> Arrays:
        """Returns the examples with the given row numbers, stacked along the first axis.

        A boolean column `present_NAME` says which examples have the column NAME; without it, all
        of them have it.
        """
        ...


def take(split: Split, rows: np.ndarray, features: Named[Feature]) -> Arrays:
    """Returns columns of the given rows of a split, and for each column a mask of present values.

    The mask of the column NAME is the boolean column `present_NAME`.

    Raises:
        ValueError: if the split lacks one of the features' columns, or an array has a wrong shape.
    """
    arrays = {**split.take(rows)}
    for name, feature in features.items():
        wanted, found = (len(rows), *feature.shape), arrays.get(name)
        what = f"{name!r} with the shape {list(wanted)}"
        if feature.ragged:
            wanted, what = (len(rows),), f"{name!r} as a ragged column of {len(rows)} examples"
        is_right = found is not None and found.shape == wanted
        if found is None or not is_right or is_ragged(found) != feature.ragged:
            shape = "no such column" if found is None else f"the shape {list(found.shape)}"
            raise ValueError(
                f"{type(split).__name__}.take must return {what}, as its source's features "
                f"declare; got {shape}"
            )
        arrays.setdefault(PRESENT + name, np.ones(len(rows), bool))
    return arrays


def lengths_of(split: Split, name: str, feature: Feature) -> np.ndarray:
    """Returns the length of every example of a ragged column, int32 [n]; 0 for missing examples.

    If the split has a method `lengths`, this method is called; otherwise all examples are read.
    """
    if hasattr(split, "lengths"):
        return split.lengths(name)  # pyright: ignore[reportAttributeAccessIssue]
    parts = [
        np.arange(start, min(start + 1024, len(split))) for start in range(0, len(split), 1024)
    ]
    columns = [take(split, rows, Named({name: feature}))[name] for rows in parts]
    return np.concatenate([lengths(column) for column in columns])


class Source(Component):
    """Base class of data sources, which all have the splits train, validation and test."""

    def features(self) -> Named[Feature]:
        """Returns the feature of every column."""
        raise TypeError(f"{type(self).__name__} must define the method 'features'")

    def announced(self) -> Named[Feature]:
        """Returns the features that are known without preparing data. Default: all."""
        return self.features()

    def split(self, name: str) -> Split:
        """Returns one split; sources that need no download prepare their data first.

        Raises:
            ValueError: if there are too few examples, or an example is invalid.
            OSError: if the data cannot be found or written.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'split'")

    def fingerprint(self) -> dict[str, Any]:
        """Returns a value that identifies the prepared data and can be written as JSON."""
        raise TypeError(f"{type(self).__name__} must define the method 'fingerprint'")


def root() -> Path:
    """Returns the folder of prepared data: $VQDIT_DATA, or ~/.cache/vqdit/data."""
    given = os.environ.get("VQDIT_DATA")
    return local_path(given) if given else local_path("~/.cache/vqdit/data")


def check_split(name: str) -> None:
    """Raises ValueError unless `name` is the name of a split."""
    if name not in SPLITS:
        raise ValueError(f"unknown split {name!r}; choose one of: {', '.join(SPLITS)}")


def divide(count: int, what: str, labels: Sequence[Hashable] = ()) -> dict[str, np.ndarray]:
    """Divides rows 0 to count - 1 into 80 % training, 10 % validation and 10 % test.

    The division is random, but the same for every call with the same arguments. With labels, it is
    stratified: each split has the same fraction of every class, as far as possible, and training
    has at least one row of every class.

    Args:
        count: number of rows.
        what: name of the data, for the error message.
        labels: class of every row, if there are classes.

    Raises:
        ValueError: if there are fewer than 10 rows, or too few of every class.
    """
    if count < 10:
        raise ValueError(
            f"{what} has {count} examples, but training, validation and test need at least "
            "10; add more"
        )
    order = np.random.Generator(np.random.Philox(0)).permutation(count)
    tenth = count // 10
    parts = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]
    if len(labels):
        parts = _stratified(order, labels)
        if not all(map(len, parts)):
            raise ValueError(
                f"{what} has only one example of each class, so none are left for validation "
                "and test; add examples"
            )
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}


def _stratified(order: np.ndarray, labels: Sequence[Hashable]) -> tuple[np.ndarray, ...]:
    """Divides rows: a tenth of all rows and, rounded, of each class is for validation and for test.

    Args:
        order: row numbers in random order.
        labels: class of every row.

    Returns:
        Row numbers of the training, validation and test split.
    """
    groups: dict[Hashable, list[int]] = {}
    for row in order:
        groups.setdefault(labels[row], []).append(row)
    tenths = {name: len(rows) // 10 for name, rows in groups.items()}
    more = len(order) // 10 - sum(tenths.values())
    free = {name: len(rows) - 2 * tenths[name] - 1 for name, rows in groups.items()}
    rest = {name: len(rows) % 10 for name, rows in groups.items()}
    parts: list[list[int]] = []
    for _ in ("validation", "test"):
        able = sorted((name for name in groups if free[name] > 0), key=lambda name: -rest[name])
        extra = set(able[:more])
        for name in extra:
            free[name] -= 1
            rest[name] -= 10  # the next row is taken from another class
        shares = ((rows, tenths[name] + (name in extra)) for name, rows in groups.items())
        parts.append([rows.pop() for rows, share in shares for _ in range(share)])
    parts.insert(0, [row for rows in groups.values() for row in rows])
    return tuple(np.asarray(part, int) for part in parts)
