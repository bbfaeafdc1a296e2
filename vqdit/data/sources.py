"""The contract of a data source, and where prepared data are kept."""

import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from vqdit.typing import Component, Named

SPLITS = ("train", "validation", "test")
DTYPES = ("uint8", "int16", "int32", "float32")
"""How columns can be stored."""
OPTION = "(in a training, --data.source.path)"
"""How a path is given, for messages."""
PRESENT = "present_"
"""Before the name of a column: another, which is True where an example has it."""
MIRRORED = "_mirrored"
"""After the name of a column of encoded images: the tokens of their mirror images."""

Arrays = dict[str, np.ndarray]


class Feature(NamedTuple):
    """What a column holds.

    Attributes:
        shape: of one example.
        classes: number of classes of a label, else 0.
        names: of the classes, if they have names.
        dtype: "uint8", "int16", "int32" or "float32"; empty for the usual one: uint8 for arrays,
            int32 for scalars.
        encoded: fingerprint of the tokenizer whose tokens these are; empty for all other data.
    """

    shape: tuple[int, ...]
    classes: int = 0
    names: tuple[str, ...] = ()
    dtype: str = ""
    encoded: str = ""

    @property
    def stored(self) -> np.dtype:
        """The dtype of its arrays.

        Raises:
            ValueError: `dtype` is none of those that can be stored.
        """
        if self.dtype not in ("", *DTYPES):
            raise ValueError(
                f"a column cannot be stored as {self.dtype!r}; one of: {', '.join(DTYPES)}"
            )
        return np.dtype(self.dtype or ("uint8" if self.shape else "int32"))


@runtime_checkable
class Split(Protocol):
    """Random access to the examples of one split."""

    def __len__(self) -> int: ...

    def take(self, rows: np.ndarray) -> Arrays:
        """Returns the examples of these row numbers, stacked."""
        ...


class Source(Component):
    """Where examples come from. Every source has the splits train, validation and test."""

    def features(self) -> Named[Feature]:
        """Returns what an example holds."""
        raise TypeError(f"{type(self).__name__} must define features")

    def split(self, name: str) -> Split:
        """Returns one split, preparing the data first if that can be done without being asked.

        Raises:
            ValueError: there are too few examples, or one is bad.
            OSError: the data cannot be found or written.
        """
        raise TypeError(f"{type(self).__name__} must define split")

    def fingerprint(self) -> dict[str, Any]:
        """Returns what identifies the prepared data, JSON-able."""
        raise TypeError(f"{type(self).__name__} must define fingerprint")


def root() -> Path:
    """Returns the folder of prepared data: $VQDIT_DATA, or ~/.cache/vqdit/data."""
    given = os.environ.get("VQDIT_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "vqdit" / "data"


def check_split(name: str) -> None:
    """Raises ValueError unless it is the name of a split."""
    if name not in SPLITS:
        raise ValueError(f"unknown split {name!r}; one of: {', '.join(SPLITS)}")


def divide(count: int, what: str) -> dict[str, np.ndarray]:
    """Divides rows 0 to count - 1 at random, the same way each time: 80 % train, 10 %, 10 %.

    Raises:
        ValueError: there are fewer than 10.
    """
    if count < 10:
        raise ValueError(
            f"{what} has {count} examples; at least 10 are needed for training, validation and test"
        )
    order = np.random.Generator(np.random.Philox(0)).permutation(count)
    tenth = count // 10
    parts = order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth]
    return {name: np.sort(part) for name, part in zip(SPLITS, parts, strict=True)}
