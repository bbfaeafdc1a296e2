"""Inspects the columns of a table."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vqdit.configure.columns import (
    SMALLEST,
    Column,
    Form,
    Found,
    Pictures,
    Row,
    look_at_classes,
    look_at_pictures,
    look_at_sounds,
    look_at_texts,
    training_rows,
)
from vqdit.data.sources import SPLITS
from vqdit.data.table_columns import SPLIT, identifier, is_used
from vqdit.data.table_files import read_table, table_files
from vqdit.data.table_rows import Embedded
from vqdit.modalities.classes import class_name, shown
from vqdit.modalities.pictures import SUFFIXES as PICTURES
from vqdit.modalities.sounds import SUFFIXES as SOUNDS

LABELS = ("label", "class", "category", "genre", "species", "speaker", "tag")
"""Words that occur in names of columns of classes."""
IDS = ("id", "index", "key", "uuid", "number", "nr", "row")
"""Names of columns with row numbers."""
MOST_CLASSES = 1000
REPEATED = 4
"""Smallest mean number of examples per class; a column with rarer values holds texts."""
LONGEST_CLASS = 60
"""Largest number of characters in the name of a class."""


def inspect_rows(
    path: Path,
    folder: Path,
    form: Form,
    names: Sequence[str],
    rows: Sequence[Row],
    unused: Mapping[str, str] = MappingProxyType({}),
) -> Found:
    """Inspects the columns of rows.

    Args:
        path: the data, as given by the user.
        folder: folder to which paths in the rows are relative.
        form: kind of the data, see `Found`.
        names: names of the columns.
        rows: the rows.
        unused: reasons why other columns are not used, keyed by name.
    """
    cells = {name: [row[name] for row in rows if _is_given(row.get(name))] for name in names}
    splits = set(map(str, cells.get("split", ())))
    if strange := sorted(splits - set(SPLITS)):
        raise ValueError(
            f"{path} has the split {strange[0][:LONGEST_CLASS]!r}; the column split may only have "
            f"{', '.join(SPLITS)}; rename it if it means something else"
        )
    is_split = bool(splits)
    columns, unused = [], dict(unused)
    for name, values in cells.items():
        if name == "split" and is_split:
            continue
        found = _look_at(name, values, folder)
        if isinstance(found, str):
            unused[name] = found
        else:
            columns.append(found)
    if not columns:
        why = "; ".join(f"{name}: {why}" for name, why in unused.items())
        raise ValueError(
            f"{path} has no usable column{f' ({why})' if why else ''}; columns may hold paths of "
            "pictures and sounds, texts, and repeated names of classes"
        )
    used = [row for row in rows if any(_is_given(row.get(column.name)) for column in columns)]
    train = training_rows(len(used))
    if is_split:
        train = Counter(row.get("split") for row in used)["train"]
        train -= sum(split not in splits for split in SPLITS) * (train // 10)
    table: tuple[Row, ...] = ()
    renamed = _renamed([column.name for column in columns])
    if any(column.unreadable for column in columns):
        table = tuple(_readable(row, columns, folder) for row in used)
        table = tuple({renamed.get(n, n): value for n, value in row.items()} for row in table)
    columns = [column._replace(name=renamed.get(column.name, column.name)) for column in columns]
    return Found(path, form, len(used), train, tuple(columns), unused, (), table, renamed)


def _renamed(names: Sequence[str]) -> dict[str, str]:
    """Returns new names of columns whose names are not identifiers or are reserved by vqdit."""
    renamed: dict[str, str] = {}
    for name in names:
        new = identifier(f"column_{name}_" if is_used(name) else name)
        if new != name:
            while new in names or new in renamed.values():
                new = f"{new}_"
            renamed[name] = new
    return renamed


def _look_at(name: str, values: Sequence[Any], folder: Path) -> Column | str:
    """Returns the content of a column of a table, or the reason why it is not used."""
    if not values:
        return "it has no values"
    if any(isinstance(value, Embedded) for value in values):
        kinds = (look_at_pictures, look_at_sounds)
        found = max((look(name, values) for look in kinds), key=lambda c: -len(c.unreadable))
        return useless(found) or found
    if not all(isinstance(value, str | int | float) for value in values):
        return "its values are lists or objects"
    texts = [str(value).strip() for value in values]
    for endings, look in ((PICTURES, look_at_pictures), (SOUNDS, look_at_sounds)):
        if 2 * sum(text.lower().endswith(endings) for text in texts) > len(texts):
            found = look(name, [folder / text for text in texts])
            return useless(found) or found
    counts = Counter(texts)
    words = re.split(r"[^a-z]+", name.lower())
    if len(counts) == 1 and len(values) > 1:
        return f"every row has the same value, {texts[0][:LONGEST_CLASS]!r}"
    is_number = all(_is_number(text) for text in counts)
    if is_number and not all(float(text).is_integer() for text in counts):
        return "its numbers are measurements, for which there is no modality"
    is_short = max(map(len, counts)) <= LONGEST_CLASS
    is_named = any(word in words for word in LABELS) and len(counts) < len(texts)
    is_class = is_named or REPEATED * len(counts) <= len(texts)
    if is_class and is_short and len(counts) <= MOST_CLASSES:
        return look_at_classes(name, [class_name(text, name) for text in texts])
    if is_number:
        return "its numbers differ in most rows, so they are not classes"
    if any(word in words for word in IDS) and len(counts) == len(texts):
        return "it numbers or names the rows"
    return look_at_texts(name, texts)


def useless(column: Column) -> str:
    """Returns the reason why a column of files is useless; "" if it is usable."""
    if column.looked == len(column.unreadable):
        first = column.unreadable[0]
        return f"{column.given} files, none of which can be read: {shown(first.file)}, {first.why}"
    if isinstance(column.facts, Pictures):
        edges = column.facts.sizes.min(axis=1)
        if np.median(edges) < SMALLEST:
            return (
                f"pictures with edges of {edges.min()} to {edges.max()} pixels; there is nothing "
                f"to learn from fewer than {SMALLEST}"
            )
    return ""


def absolute_rows(found: Found) -> list[Row]:
    """Returns the rows with absolute paths and new names, for a table in another folder.

    The rows include their split.
    """
    headers = {new: old for old, new in found.renamed.items()}
    wanted = {name: headers.get(name, name) for name in (*(c.name for c in found.columns), SPLIT)}
    files = table_files(str(found.path))
    _, rows = read_table(files, set(wanted.values()), SPLIT)
    named = [{n: row.cells[old] for n, old in wanted.items() if old in row.cells} for row in rows]
    return [_readable(row, found.columns, next(iter(files)).parent) for row in named]


def _readable(row: Row, columns: Sequence[Column], folder: Path) -> Row:
    """Returns a row without unreadable files, and with absolute paths."""
    found = dict(row)
    for column in columns:
        if column.is_of_files and _is_given(row.get(column.name)):
            file = row[column.name]
            if isinstance(file, Embedded):
                if not column.unreadable:
                    raise ValueError(
                        f"the table {shown(file.file)} contains the bytes of its sounds, so "
                        "vqdit cannot write a copy without the sounds that are too long; "
                        "remove the rows of these sounds"
                    )
                one = column.unreadable[0]
                raise ValueError(
                    f"{shown(one.file)} contains files that cannot be read, for example in "
                    f"{one.why}; remove the rows of these files"
                )
            path = (folder / str(file)).absolute()
            is_bad = any(one.file.absolute() == path for one in column.unreadable)
            found[column.name] = None if is_bad else str(path)
    return found


def _is_given(value: Any) -> bool:
    return value not in (None, "") and value == value  # NaN is not itself


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
