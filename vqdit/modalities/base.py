"""The interface of modalities, which convert stored arrays for networks and for users.

A data set keeps an example in *stored* form (uint8 pixels, int16 samples, bytes of text). The
library takes and returns a *value*, which differs from the stored form only for text (str).
"""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vqdit.files import local_path
from vqdit.modalities.classes import shown
from vqdit.ragged import ragged
from vqdit.typing import Array, Component

log = logging.getLogger(__name__)

Value = Path | bytes | str | int | float
"""Types of a table's cell: a path or the bytes of a file, a text, or a number."""
M = TypeVar("M", bound="Modality")


class Cell(NamedTuple):
    """A cell of a table after a modality has read it.

    Attributes:
        stored: the stored form of one example; None if the cell means "no value".
        changes: conversions of the value, such as "cropped".
    """

    stored: np.ndarray | None
    changes: tuple[str, ...] = ()


class LeftOut(ValueError):
    """Raised by `read_cell` if the example must be left out; the message is the reason."""


class Modality(Component):
    """One kind of data."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one stored example."""
        raise TypeError(f"{type(self).__name__} must define the property 'shape'")

    @property
    def dtype(self) -> np.dtype:
        """Data type of a stored array."""
        return np.dtype(np.uint8)

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of positions (pixels, samples) along each axis of standardized data."""
        raise TypeError(f"{type(self).__name__} must define the property 'grid'")

    @property
    def lengths(self) -> tuple[int, int] | None:
        """Smallest and largest length of a stored example's first axis; None if it is fixed.

        Stored examples of variable length make a ragged column (see `vqdit.ragged`); `shape` and
        `grid` are then for the longest example.
        """
        return None

    def positions(self, length: float) -> int:
        """Converts a length in the user's unit, such as seconds of a sound, to stored positions.

        By default, the unit is positions.
        """
        return round(length)

    def shown_length(self, positions: int) -> str:
        """Returns a number of stored positions as text in the user's unit."""
        return f"{positions} positions"

    @property
    def channels(self) -> int:
        """Number of channels of standardized data."""
        return 1

    @property
    def vocabulary(self) -> int:
        """Number of codes if standardized data are codes; 0 if the data need a tokenizer."""
        return 0

    @property
    def reads_files(self) -> bool:
        """Whether cells of a table are paths or bytes of files."""
        return False

    def complete(
        self: M, training: Iterable[tuple[str, Any]], others: Iterable[tuple[str, Any]] = ()
    ) -> M:
        """Returns the modality with fields set from the data, such as the names of classes.

        Args:
            training: pairs of a place, for error messages, and a value, for every training cell of
                a table's column.
            others: the same pairs for validation and test.

        Raises:
            ValueError: a cell cannot be part of the column; the message has its place.
        """
        del training, others
        return self

    def read_cell(self, value: Value) -> Cell:
        """Reads one cell of a table.

        Args:
            value: a path or the bytes of a file if `reads_files`; else a text or a number.

        Raises:
            LeftOut: the example must be left out.
            ValueError: the value is not of this modality.
            FileNotFoundError: there is no such file.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'read_cell'")

    def require_cut(self, outside: str, subject: str, fault: str, remedy: str) -> None:
        """Raises an error for an example that is too short or too long, unless `outside` is "cut".

        Args:
            outside: the modality's field of this name: "cut", "skip" or "error".
            subject: the example, for the message.
            fault: what is wrong with the example.
            remedy: the fields to change, for the message.

        Raises:
            LeftOut: `outside` is "skip".
            ValueError: `outside` is "error".
        """
        if outside == "skip":
            raise LeftOut(fault)
        if outside == "error":
            raise ValueError(
                f"{subject} is {fault}; {remedy}, or set outside='cut' or 'skip' in its "
                f"{type(self).__name__}"
            )

    def standardize(self, raw: Array) -> Array:
        """Converts stored examples to float32 [b, *grid, channels], or to codes [b, *grid, 1]."""
        raise TypeError(f"{type(self).__name__} must define the method 'standardize'")

    def restore(self, x: Array) -> Array:
        """Inverts `standardize`; rounds and clips to the range of the stored type."""
        raise TypeError(f"{type(self).__name__} must define the method 'restore'")

    def pack(self, values: Any) -> np.ndarray:
        """Returns the stored form of one value or of a stack of values.

        Raises:
            ValueError: shape or type do not match the modality.
        """
        if self.lengths:
            return self._pack_ragged(values)
        values = np.asarray(values)
        stack = values[None] if values.shape == self.shape else values
        wanted = " or ".join(_shown(shape) for shape in (self.shape, ("n", *self.shape)))
        if stack.shape[1:] != self.shape or stack.ndim != len(self.shape) + 1 or not len(stack):
            raise ValueError(f"values must have the shape {wanted}, got {_shown(values.shape)}")
        if stack.dtype != self.dtype:
            raise ValueError(f"values must be {self.dtype}, got {stack.dtype}")
        return stack

    def _pack_ragged(self, values: Any) -> np.ndarray:
        """Converts one array [n, ...], or a list of them, to a ragged column."""
        is_array = isinstance(values, np.ndarray)
        if not (values.ndim if is_array else isinstance(values, Sequence)):
            raise ValueError(f"values must be one example, or a list of examples, got {values!r}")
        is_one = is_array and values.dtype == self.dtype and values.ndim == len(self.shape)
        items = [values] if is_one else list(values)
        low, high = self.lengths or (0, 0)
        for item in items:
            if not isinstance(item, np.ndarray) or item.dtype != self.dtype:
                raise ValueError(f"values must be arrays of {self.dtype}, got {item!r:.100}")
            if item.shape[1:] != self.shape[1:] or item.ndim != len(self.shape):
                wanted = _shown(("n", *self.shape[1:]))
                raise ValueError(
                    f"every value must have the shape {wanted}, got {_shown(item.shape)}"
                )
            if not low <= len(item) <= high:
                raise ValueError(
                    f"every value must have a length from {low} to {high}, got {len(item)}"
                )
        if not items:
            raise ValueError("at least one value is needed, got none")
        return ragged(items)

    def repack(self, values: Any) -> np.ndarray:
        """Returns the stored form of values that `unpack` returned, even of invalid ones."""
        return self.pack(values)

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        """Returns the values of a stack of stored examples."""
        return stored

    def captions(self, values: np.ndarray) -> list[str]:
        """Returns values as texts if they can be read as text, else an empty list."""
        del values
        return []

    def read(self, value: str) -> list[np.ndarray]:
        """Reads values from a command-line argument: a literal, a file, or a folder of files.

        Returns:
            One value per item; values of files are sorted by the names of the files.

        Raises:
            ValueError: the argument is not of this modality.
            FileNotFoundError: there is no such file.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'read'")

    def write(self, values: np.ndarray, folder: Path, name: str = "") -> None:
        """Writes one file per value, or one file with all values; `read` can read them.

        Args:
            values: the values.
            folder: folder of the files.
            name: name of the column, which is the beginning of the files' names.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'write'")

    def draw(self, stored: np.ndarray) -> np.ndarray:
        """Returns a picture of every stored example: uint8 [n, h, w, c]."""
        raise TypeError(f"{type(self).__name__} must define the method 'draw'")

    def html(self, stored: np.ndarray | np.generic) -> str:
        """Returns one stored example as self-contained HTML, such as an audio player."""
        raise TypeError(f"{type(self).__name__} must define the method 'html'")

    def regions(
        self, stored: np.ndarray | np.generic, tokens: tuple[int, ...]
    ) -> list[tuple[str, np.ndarray]]:
        """Divides one example into meaningful regions, such as words.

        Args:
            stored: the example.
            tokens: grid of its tokens.

        Returns:
            Pairs of a region's name and a mask bool [l], which is True at the region's tokens.
        """
        del stored
        cells = [np.unravel_index(number, tokens) for number in range(int(np.prod(tokens)))]
        names = [",".join(str(axis) for axis in cell) for cell in cells]
        return list(zip(names, np.eye(len(names), dtype=bool), strict=True))


def as_file(value: Value) -> Path | bytes:
    """Returns the path in a cell, or the bytes of a file in it.

    Raises:
        ValueError: the value is a number.
    """
    if isinstance(value, int | float):
        raise ValueError(f"the value must be a path or the bytes of a file, got {value}")
    return Path(value) if isinstance(value, str) else value


def numbered(stem: str, ending: str, count: int) -> list[str]:
    """Returns `count` file names that sort in order, such as image_0003.png."""
    digits = max(4, len(str(count - 1)))
    return [f"{stem}_{number:0{digits}d}{ending}" for number in range(count)]


def find_files(value: str, endings: tuple[str, ...], what: str) -> list[Path]:
    """Returns a file, or the files of a folder with one of these endings, in sorted order.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the folder has no such files.
    """
    path = local_path(value)
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in endings and not file.name.startswith(".")
        )
        if not files:
            raise ValueError(
                f"no {what} in the folder {value}; known endings: {', '.join(endings)}"
            )
        return files
    if not path.is_file():
        raise FileNotFoundError(f"no {what} {path}")
    return [path]


def report_fitted(files: list[Path], form: str) -> None:
    """Logs one line if files were converted to the form of the model's training data."""
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        log.info(
            "converted to the form of the training data (%s): %s%s", form, shown(files[0]), more
        )


def plural(name: str) -> str:
    """Returns the plural of a modality's name, for the names of files with many values."""
    return f"{name}es" if name.endswith("s") else f"{name}s"


def _shown(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
