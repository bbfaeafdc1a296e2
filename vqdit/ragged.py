"""Columns of variable length: *ragged* columns on the host, padded arrays in batches.

A ragged column is a one-dimensional NumPy array of objects. Each object is the array [n, ...] of
one example, with its own length n.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vqdit.typing import Bool, Shaped


def ragged(values: Iterable[Any]) -> np.ndarray:
    """Makes one ragged column from examples of any lengths."""
    items = list(values)
    column = np.empty(len(items), object)
    for number, item in enumerate(items):
        column[number] = item
    return column


def is_ragged(values: np.ndarray) -> bool:
    """Returns whether a column is ragged."""
    return values.dtype == object


def lengths(column: np.ndarray) -> np.ndarray:
    """Returns the length of every example of a ragged column: int32 [b]."""
    return np.asarray([len(item) for item in column], np.int32)


def cut(values: Any, length: Any) -> np.ndarray:
    """Converts padded examples and their lengths to a ragged column: the inverse of `padded`."""
    pairs = zip(np.asarray(values), np.asarray(length), strict=True)
    return ragged(row[:count] for row, count in pairs)


def padded_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replaces each ragged column NAME by a padded array NAME and an array NAME_length."""
    found = {}
    for name, column in columns.items():
        found[f"{name}_length"] = lengths(column)
        found[name], _ = padded(column, int(found[f"{name}_length"].max()))
    return found


def padded(
    column: np.ndarray, length: int
) -> tuple[Shaped[np.ndarray, "b n ..."], Bool[np.ndarray, "b n"]]:
    """Pads each example with zeros to `length`; returns the array and its mask, False at padding.

    Raises:
        ValueError: an example is longer than `length`.
    """
    longest = max(map(len, column))
    if longest > length:
        raise ValueError(
            f"an example has {longest} positions, more than the padded length {length} of its batch"
        )
    first = column[0]
    values = np.zeros((len(column), length, *first.shape[1:]), first.dtype)
    for place, item in zip(values, column, strict=True):
        place[: len(item)] = item
    return values, np.arange(length) < lengths(column)[:, None]
