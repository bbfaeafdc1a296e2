"""Tensors in files, and errors about damaged files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

AXES = 8
"""Largest number of axes of a tensor."""
LONGEST = 500
"""Largest length of a tensor's name, and of a reason in an error."""


class Stored(NamedTuple):
    """A tensor in a file, which is read on demand.

    Attributes:
        shape: shape of the tensor.
        read: function that reads and returns the tensor.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def damaged(file: Path, reason: object) -> ValueError:
    """Returns an error that describes the damage of a file in one line."""
    return ValueError(f"{file} is damaged: {escaped(str(reason))}; download it again")


def escaped(text: str) -> str:
    """Makes text from a file printable: escapes control characters, and shortens long text."""
    return (text if text.isprintable() else repr(text))[:LONGEST]


def sizes(*numbers: Any) -> tuple[int, ...]:
    """Returns sizes, strides or an offset; raises ValueError if they are invalid."""
    are_sizes = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
    if len(numbers) > AXES or not are_sizes:
        shown = ", ".join(str(number)[:20] for number in numbers[:AXES])
        raise ValueError(f"a tensor has an invalid offset, shape or stride ({shown})")
    return numbers
