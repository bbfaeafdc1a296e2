"""Data from a table: a JSON Lines or CSV file with one example per row.

Every column is a modality; an empty cell means that the example lacks the modality.
"""

import csv
import hashlib
import itertools
import json
import logging
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature, divide
from vqdit.files import local_path
from vqdit.modalities.classes import class_name, in_order, is_utf8, is_whole
from vqdit.modalities.pictures import check_form, read_picture
from vqdit.modalities.sounds import read_sound
from vqdit.modalities.texts import to_bytes
from vqdit.typing import Named, resumable

COLUMNS = ("image", "audio", "text", "label")
LONGEST_PATH = 4096
"""Largest number of characters in the path of a picture or sound."""

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        place: file and line, for error messages.
        cells: value of every column.
    """

    place: str
    cells: Mapping[str, Any]


class Table(Recorded):
    """Rows of a .jsonl or .csv file with the columns `image`, `audio`, `text` and `label`.

    `image` is the path of a picture and `audio` that of a mono WAV or FLAC file,
    absolute or relative to the table. `text` is stored as UTF-8, padded with zeros. `label` is the
    name or number of a class; the classes are the values that occur, sorted as numbers if all are
    whole numbers, else as text. An optional column `split` assigns each row to train, validation or
    test. Without this column, 10 % of the rows go to validation and 10 % to test. Rows without any
    value are left out.

    Attributes:
        path: path of the table.
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        samples: length of every sound in samples.
        rate: sampling rate of every sound in Hz.
        length: largest length of a text in bytes.
    """

    path: str = resumable("rows.jsonl")
    size: int = 64
    channels: int = 3
    samples: int = 8000
    rate: int = 8000
    length: int = 64

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)
        for name in ("samples", "rate", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"Table needs {name} >= 1, got {getattr(self, name)}")

    def key(self) -> str:
        file, (rows, empty) = self._file(), self._rows()
        form = (self.size, self.channels, self.samples, self.rate, self.length)
        digest = hashlib.sha256(os.fsencode(file.resolve()) + f" {form}\n".encode())
        digest.update(file.read_bytes())
        for row in rows:
            for column in ("image", "audio"):
                if _given(row, column) and self._named(row, column).is_file():
                    stat = self._named(row, column).stat()
                    digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        if empty:  # data that were prepared when empty rows were examples are not used any more
            digest.update(b"without empty rows")
        return f"table_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        rows, _ = self._rows()
        present = [column for column in COLUMNS if any(_given(row, column) for row in rows)]
        if not present:
            raise ValueError(
                f"{self.path} has no values in the columns {', '.join(COLUMNS)}; fill at least one"
            )
        names = in_order((_class(row) for row in rows if _given(row, "label")), self.path)
        features = {
            "image": Feature((self.size, self.size, self.channels)),
            "audio": Feature((self.samples,), dtype="int16"),
            "text": Feature((self.length,)),
            "label": Feature((), len(names), names),
        }
        return Named({column: features[column] for column in present})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        rows, empty = self._rows()
        if empty:
            log.warning("%s: %d empty row(s) are left out", self.path, empty)
        is_divided = any(_given(row, "split") for row in rows)
        if is_divided:
            parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
            for row in rows:
                split = str(row.cells["split"]) if _given(row, "split") else ""
                if split not in parts:
                    raise ValueError(
                        f"{row.place}: unknown split {split!r}; one of: {', '.join(SPLITS)}"
                    )
                parts[split].append(row)
            for split, part in parts.items():
                if not part:
                    raise ValueError(
                        f"{self.path} has no row of the {split} split; add some, or remove the "
                        "column split"
                    )
        else:
            labels = [_class(row) if _given(row, "label") else None for row in rows]
            numbers = divide(len(rows), self.path, labels if any(labels) else [])
            parts = {split: [rows[number] for number in numbers[split]] for split in SPLITS}
        columns = self.columns()
        for split, column in itertools.product(SPLITS, columns):
            if not any(_given(row, column) for row in parts[split]):
                self._miss(column, split, is_divided=is_divided)
        names = columns["label"].names if "label" in columns else ()
        classes = {name: number for number, name in enumerate(names)}
        return {split: self._read(part, classes) for split, part in parts.items()}

    def _miss(self, column: str, split: str, *, is_divided: bool) -> None:
        """Raises ValueError if a split cannot do without a column, else logs a warning."""
        fault = f"{self.path} has no {column} in any row of the {split} split"
        if split == "train" or (split == "validation" and is_divided and column != "label"):
            raise ValueError(f"{fault}; add some, by the column split, or remove the column")
        log.warning("%s, so there will be no metrics of it", fault)

    def _read(self, rows: list[Row], classes: Mapping[str, int]) -> Iterator[Mapping[str, Any]]:
        size = (self.size, self.size)
        for row in rows:
            example: dict[str, Any] = {}
            try:
                if _given(row, "image"):
                    picture = self._named(row, "image")
                    example["image"] = read_picture(picture, size, self.channels)
                if _given(row, "audio"):
                    sound = self._named(row, "audio")
                    example["audio"] = read_sound(sound, self.samples, self.rate)
                if _given(row, "text"):
                    example["text"] = to_bytes(str(row.cells["text"]), self.length)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{row.place}: {error}") from error
            except ValueError as error:
                raise ValueError(f"{row.place}: {error}") from error
            if _given(row, "label"):
                example["label"] = classes[_class(row)]
            yield example

    def _named(self, row: Row, column: str) -> Path:
        """Returns the file that a cell names; Unicode's other form of its name is one name."""
        file = self._file().parent / str(row.cells[column])
        if not file.exists():
            for form in ("NFC", "NFD"):
                other = Path(unicodedata.normalize(form, str(file)))
                if other.exists():
                    return other
        return file

    def _file(self) -> Path:
        file = local_path(self.path)
        if not file.is_file():
            raise FileNotFoundError(
                f"no table {file}; give the path of a .jsonl or .csv file {OPTION}"
            )
        if file.suffix.lower() not in (".jsonl", ".csv"):
            raise ValueError(f"the table {file} must end in .jsonl or .csv")
        return file

    def _rows(self) -> tuple[list[Row], int]:
        """Returns the rows that have a value, and the number of empty rows."""
        file = self._file()
        read = _read_csv if file.suffix.lower() == ".csv" else _read_json_lines
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:  # "-sig" skips a BOM
                rows = list(read(file, lines))
        except UnicodeDecodeError as error:
            raise ValueError(
                f"cannot read the table {file}: line {_first_undecoded(file)} is not UTF-8; save "
                "the table as UTF-8"
            ) from error
        except csv.Error as error:
            raise ValueError(f"cannot read the table {file}: {error}") from error
        unknown = {column for row in rows for column in row.cells} - {*COLUMNS, "split"}
        if unknown:
            name = min(unknown)
            hint = "; cells are separated by commas" if ";" in name or "\t" in name else ""
            raise ValueError(
                f"{self.path} has the unknown column {name[:100]!r}; known columns: "
                f"{', '.join(COLUMNS)}, split{hint}"
            )
        for row in rows:
            _check(row)
        filled = [row for row in rows if any(_given(row, column) for column in COLUMNS)]
        return filled, len(rows) - len(filled)


def _first_undecoded(file: Path) -> int:
    """Returns the number of the first line that is not UTF-8."""
    lines = file.read_bytes().split(b"\n")
    is_text = [line.decode(errors="ignore").encode() == line for line in lines]
    return is_text.index(False) + 1


def _read_csv(file: Path, lines: TextIO) -> Iterator[Row]:
    reader = csv.DictReader(lines, strict=True)  # refuses a quote that nothing closes
    ((name, count),) = Counter(reader.fieldnames or [""]).most_common(1)
    if count > 1:
        raise ValueError(
            f"{file} has two columns {name[:100]!r}; give each column a different name"
        )
    for row in reader:
        if None in row:  # DictReader stores surplus cells under this key
            raise ValueError(
                f"{file}:{reader.line_num} has more cells than there are columns; put cells that "
                "contain commas in quotes"
            )
        cells = {column: (value or "").strip() for column, value in row.items()}
        yield Row(f"{file}:{reader.line_num}", cells)


def _read_json_lines(file: Path, lines: TextIO) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{file}:{number} is not JSON: {error.msg} at character {error.colno}"
            ) from error
        except RecursionError:
            raise ValueError(
                f"{file}:{number} is nested too deep; a row is one flat object"
            ) from None
        except ValueError as error:  # a name given twice, or a very long number
            raise ValueError(f"{file}:{number} cannot be read: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{file}:{number} must be an object such as {{"image": ...}}')
        yield Row(f"{file}:{number}", row)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object, in which no name may occur twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"it has {name[:100]!r} twice; give each column one value")
    return found


def _check(row: Row) -> None:
    """Raises ValueError unless every cell is a text or a number that its column can have."""
    for column, value in row.cells.items():
        if isinstance(value, (dict, list, bool)):
            raise ValueError(f"{row.place} must have text or a number as its {column}")
        if isinstance(value, int | float):
            if abs(value) == math.inf:
                raise ValueError(f"{row.place} must have a finite number as its {column}")
            if column in ("image", "audio") and value == value:
                raise ValueError(f"{row.place} must have a path as its {column}, got {value}")
        elif value and not is_utf8(value):
            raise ValueError(
                f"{row.place} has half a character (a lone surrogate) in its {column}: "
                f"{value[:40]!r}; write it as UTF-8"
            )
        elif value and column in ("image", "audio") and len(value) > LONGEST_PATH:
            raise ValueError(
                f"{row.place} must have a path as its {column}, got {len(value):,} characters"
            )


def _given(row: Row, column: str) -> bool:
    value = row.cells.get(column)
    return value not in (None, "") and value == value  # NaN is not itself


def _class(row: Row) -> str:
    """Returns the class name of a row; reads 3.0 as 3, as spreadsheets may write integers."""
    name = class_name(str(row.cells["label"]), row.place)
    return name[:-2] if name.endswith(".0") and is_whole(name[:-2]) else name
