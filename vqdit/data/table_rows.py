"""Reading the rows of tables: CSV, JSON Lines and Parquet files."""

import csv
import functools
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from vqdit.modalities.classes import is_utf8

ENDINGS = (".jsonl", ".csv", ".parquet")
LONGEST_PATH = 4096
"""Largest number of characters in the path of a file."""
LARGEST_COLUMN, RATIO = 2**28, 1000
"""Column chunks of more than LARGEST_COLUMN bytes may be compressed at most by RATIO."""
BYTES, PATH = "bytes", "path"
"""Fields of a Parquet column that holds files, as the data sets of the Hugging Face hub do."""


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        place: file and row, for error messages.
        cells: value of every column.
    """

    place: str
    cells: Mapping[str, Any]


class Embedded(NamedTuple):
    """A file whose bytes are in a Parquet table; they are read on demand.

    Attributes:
        file: the table.
        column: name of the column.
        group: number of the row group.
        row: number of the row within its group.
    """

    file: Path
    column: str
    group: int
    row: int

    def read(self) -> bytes | str | None:
        """Returns the bytes; the path if there are no bytes; None if there is no path either."""
        value = _group(self.file, self.group, self.column)[self.row].as_py()
        if isinstance(value, Mapping):
            return value.get(BYTES) or value.get(PATH)
        return value


def read_rows(file: Path, wanted: Collection[str]) -> tuple[list[str], list[Row]]:
    """Returns the names of all columns of a table, and its rows with the wanted columns.

    Raises:
        ValueError: the table or a wanted column cannot be read; the message names the line.
    """
    if file.suffix.lower() == ".parquet":
        return _read_parquet(file, wanted)
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
    return list(dict.fromkeys(column for row in rows for column in row.cells)), rows


def is_given(row: Row, column: str) -> bool:
    """Returns whether a row has a value in a column; None, "" and NaN do not count."""
    value = row.cells.get(column)
    return value not in (None, "") and value == value  # NaN differs from itself


def check_cell(row: Row, column: str, *, is_file: bool) -> None:
    """Raises ValueError unless a cell has a text or number or, if `is_file`, a path or file."""
    value = row.cells.get(column)
    if isinstance(value, Embedded):
        if not is_file:
            raise ValueError(
                f"{row.place} must have a text or a number in the column {column}, got bytes"
            )
    elif isinstance(value, (dict, list, bool)):
        raise ValueError(f"{row.place} must have a text or a number in the column {column}")
    elif isinstance(value, int | float):
        if abs(value) == math.inf:
            raise ValueError(f"{row.place} must have a finite number in the column {column}")
        if is_file and value == value:
            raise ValueError(f"{row.place} must have a path in the column {column}, got {value}")
    elif value and not is_utf8(value):
        raise ValueError(
            f"{row.place} has a lone surrogate (half a character) in the column {column}: "
            f"{value[:40]!r}; write it as UTF-8"
        )
    elif value and is_file and len(value) > LONGEST_PATH:
        raise ValueError(
            f"{row.place} must have a path in the column {column}, got a text of "
            f"{len(value):,} characters"
        )


def _read_parquet(file: Path, wanted: Collection[str]) -> tuple[list[str], list[Row]]:
    from pyarrow import ArrowException, parquet, types

    _group.cache_clear()  # the file may have changed
    try:
        opened = parquet.ParquetFile(file)
        _check_sizes(file, opened.metadata, wanted)
        schema = opened.schema_arrow
        for name, count in Counter(schema.names).items():
            if count > 1 and name in wanted:
                raise ValueError(f"{file} has two columns named {name[:100]!r}; rename one of them")
        kinds = {name: schema.field(name).type for name in schema.names if name in wanted}
        files = {name for name, kind in kinds.items() if _holds_files(file, name, kind)}
        texts = [name for name, kind in kinds.items() if types.is_string(kind)]
        opened = parquet.ParquetFile(file, read_dictionary=texts)  # shares equal texts
        names = _class_names(schema)
        rows = []
        for group in range(opened.num_row_groups):
            found = opened.read_row_group(group, [_present(name, kinds[name]) for name in kinds])
            columns = {name: _values(found[name]) for name in kinds if name not in files}
            present = {name: found[name].is_valid().to_pylist() for name in files}
            for row in range(found.num_rows):
                cells = {name: values[row] for name, values in columns.items()}
                for name in names.keys() & cells.keys():
                    cells[name] = names[name].get(cells[name])  # -1 means no label
                for name, is_there in present.items():
                    cells[name] = Embedded(file, name, group, row) if is_there[row] else None
                rows.append(Row(f"{file}:{len(rows) + 1}", cells))
    except (ArrowException, OSError) as error:
        raise ValueError(f"cannot read the table {file}: {error}") from error
    return schema.names, rows


def unusable(file: Path) -> dict[str, str]:
    """Returns the reasons why columns of a Parquet file cannot be used, keyed by name."""
    from pyarrow import parquet

    found, schema = {}, parquet.ParquetFile(file).schema_arrow
    for part in schema:
        try:
            _holds_files(file, part.name, part.type)
        except ValueError as error:
            found[part.name] = str(error)
    twice = (name for name, count in Counter(schema.names).items() if count > 1)
    return found | {name: f"{file} has two columns named {name[:100]!r}" for name in twice}


def _values(column: Any) -> list[Any]:
    """Returns the values of a Parquet column; equal dictionary-encoded texts share one object."""
    found: list[Any] = []
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            texts = [*chunk.dictionary.to_pylist(), None]
            found += [texts[-1 if at is None else at] for at in chunk.indices.to_pylist()]
        else:
            found += chunk.to_pylist()
    return found


def _check_sizes(file: Path, metadata: Any, wanted: Collection[str]) -> None:
    """Raises ValueError if a Parquet file declares more data than its size allows."""
    size = file.stat().st_size
    if metadata.num_rows > size:
        raise ValueError(
            f"{file} declares {metadata.num_rows:,} rows in {size:,} bytes, but a row takes "
            "at least one byte; write the table again"
        )
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            claimed, stored = column.total_uncompressed_size, column.total_compressed_size
            if column.path_in_schema.split(".")[0] in wanted and claimed > max(
                LARGEST_COLUMN, RATIO * stored
            ):
                raise ValueError(
                    f"{file} declares {claimed:,} bytes for the {stored:,} compressed bytes "
                    f"of its column {column.path_in_schema!a}; write the table again"
                )


def _holds_files(file: Path, name: str, kind: Any) -> bool:
    """Returns whether a Parquet column holds files; raises ValueError for unsupported types."""
    from pyarrow import types

    if types.is_struct(kind):
        parts = {part.name: part.type for part in kind}
        allowed = {
            BYTES: ("binary", "large_binary", "null"),
            PATH: ("string", "large_string", "null"),
        }
        is_file = all(str(part) in allowed.get(name, ()) for name, part in parts.items())
        if is_file and BYTES in parts and len(parts) == kind.num_fields:
            return True
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    kind = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if is_text or types.is_integer(kind) or types.is_floating(kind) or types.is_null(kind):
        return False
    raise ValueError(
        f"{file} has the type {kind} in its column {name!r}, but a column must hold texts, "
        'numbers, or files as their bytes or {"bytes", "path"}'
    )


def _present(name: str, kind: Any) -> str:
    """Returns the path of a column's smallest part that shows which rows have a value."""
    from pyarrow import types

    return f"{name}.{PATH}" if types.is_struct(kind) and kind.num_fields > 1 else name


def _class_names(schema: Any) -> dict[str, dict[int, str]]:
    """Returns class names by column, which a schema has in data sets of the Hugging Face hub."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        labels = {name: one for name, one in features.items() if one["_type"] == "ClassLabel"}
        return {name: dict(enumerate(map(str, one["names"]))) for name, one in labels.items()}
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ):  # written by another program
        return {}


@functools.lru_cache(maxsize=4)
def _group(file: Path, group: int, column: str) -> Any:
    """Returns a column of one row group; caches only a few, as rows are read in order."""
    from pyarrow import parquet

    return parquet.ParquetFile(file).read_row_group(group, [column])[column]


def _first_undecoded(file: Path) -> int:
    """Returns the number of the first line that is not UTF-8."""
    lines = file.read_bytes().split(b"\n")
    is_text = [line.decode(errors="ignore").encode() == line for line in lines]
    return is_text.index(False) + 1


def _read_csv(file: Path, lines: TextIO) -> Iterator[Row]:
    reader = csv.DictReader(lines, strict=True)  # an unclosed quote is an error
    ((name, count),) = Counter(reader.fieldnames or [""]).most_common(1)
    if count > 1:
        raise ValueError(
            f"{file} has two columns named {name[:100]!r}; give each column a different name"
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
                f"{file}:{number} is nested too deeply; a row must be one flat object"
            ) from None
        except ValueError as error:  # a name given twice, or a very long number
            raise ValueError(f"{file}:{number} cannot be read: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{file}:{number} must be a JSON object such as {{"image": ...}}')
        yield Row(f"{file}:{number}", row)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object, in which no name may occur twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the row has the name {name[:100]!r} twice; give each column one value")
    return found
