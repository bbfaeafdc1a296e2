"""The base class of sources with rows; the modality of each column reads its cells."""

import dataclasses
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature, divide
from vqdit.data.table_columns import SPLIT
from vqdit.data.table_rows import Row, is_given
from vqdit.modalities import Label, Modality, Text
from vqdit.modalities.base import LeftOut, Value
from vqdit.modalities.label import class_of
from vqdit.typing import Named

log = logging.getLogger(__name__)


class RowSource(Recorded):
    """Base class of sources with rows; an optional column `split` assigns a row to a split.

    A cell is a text, a number, or a file that the data contain. The method `read` of such a file
    returns its bytes, or its path if it has no bytes, or None if it has neither.
    """

    @property
    def shown(self) -> str:
        """Name of the data, for messages."""
        raise TypeError(f"{type(self).__name__} must define the property 'shown'")

    @property
    def needs_all(self) -> bool:
        """Whether a column without values is an error."""
        return True

    @property
    def may_lack_splits(self) -> bool:
        """Whether a split without rows gets a tenth of the rows of train."""
        return False

    def column_modalities(self) -> dict[str, Modality]:
        """Returns the modality of every possible column."""
        raise TypeError(f"{type(self).__name__} must define the method 'column_modalities'")

    def rows(self) -> tuple[list[Row], int]:
        """Returns the rows that have a value, and the number of empty rows."""
        raise TypeError(f"{type(self).__name__} must define the method 'rows'")

    def file_of(self, name: str) -> Path:
        """Returns the file that a cell names."""
        raise TypeError(f"{type(self).__name__} must define the method 'file_of'")

    def raw_features(self) -> Named[Feature]:
        modalities = self._complete(self._divided(self.rows()[0]))
        return Named({name: feature_of(modality) for name, modality in modalities.items()})

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        rows, empty = self.rows()
        if empty:
            log.warning("%s: %d empty row(s) are left out", self.shown, empty)
        parts = self._divided(rows)
        modalities, is_divided = self._complete(parts), any(is_given(row, SPLIT) for row in rows)
        if is_divided and (absent := {*SPLITS} - {str(row.cells.get(SPLIT)) for row in rows}):
            names = " and no ".join(sorted(absent))
            log.warning("%s has no %s split; a tenth of train is used for it", self.shown, names)
        for split, column in itertools.product(SPLITS, modalities):
            if not any(is_given(row, column) for row in parts[split]):
                is_label = isinstance(modalities[column], Label)
                self._miss(column, split, refuse=is_divided and not is_label)
        changes: Counter[str] = Counter()
        found = {split: self._read(part, modalities, changes) for split, part in parts.items()}
        return found | {SPLITS[-1]: itertools.chain(found[SPLITS[-1]], summary(changes))}

    def _divided(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Divides rows by the column `split`, or at random if this column does not exist."""
        if not any(is_given(row, SPLIT) for row in rows):
            return self._at_random(rows)
        parts: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for row in rows:
            split = str(row.cells[SPLIT]) if is_given(row, SPLIT) else ""
            if split not in parts:
                raise ValueError(
                    f"{row.place}: unknown split {split!r}; choose one of: {', '.join(SPLITS)}"
                )
            parts[split].append(row)
        absent = [split for split in SPLITS[1:] if not parts[split]]
        if absent and parts["train"] and self.may_lack_splits:
            found = self._at_random(parts["train"])
            kept = [split for split in SPLITS if split not in absent]
            parts["train"] = list(itertools.chain(*(found[split] for split in kept)))
            parts |= {split: found[split] for split in absent}
        for split, part in parts.items():
            if not part:
                raise ValueError(
                    f"{self.shown} has no row of the {split} split; add some rows, or remove "
                    "the column split"
                )
        return parts

    def _at_random(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Divides rows at random, stratified by the classes of the first label."""
        modalities = self.column_modalities().items()
        label = next((name for name, modality in modalities if isinstance(modality, Label)), "")
        classes = [
            class_of(row.cells[label], row.place) if is_given(row, label) else "" for row in rows
        ]
        numbers = divide(len(rows), self.shown, classes if any(classes) else [])
        return {split: [rows[number] for number in numbers[split]] for split in SPLITS}

    def _miss(self, column: str, split: str, *, refuse: bool) -> None:
        """Reports that a column has no values in a split.

        Raises:
            ValueError: the split is train, or it is validation and `refuse` is True. For other
                splits, a warning is logged.
        """
        fault = f"{self.shown} has no {column} in any row of the {split} split"
        if split == "train" or (split == "validation" and refuse):
            raise ValueError(
                f"{fault}; assign rows with this column to the split, or remove the column"
            )
        log.warning("%s, so it will have no metrics there", fault)

    def _read(
        self, rows: list[Row], modalities: Mapping[str, Modality], changes: Counter[str]
    ) -> Iterator[Mapping[str, Any]]:
        """Reads rows, and counts the conversions of their values."""
        for row in rows:
            example, done, name = {}, [], ""
            try:
                for name, modality in modalities.items():
                    if (value := self._value(row, name, modality)) is not None:
                        cell = modality.read_cell(value)
                        done += [f"{name}: {change}" for change in cell.changes]
                        example[name] = cell.stored
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{row.place}, {name}: {error}") from error
            except LeftOut as error:
                changes[f"{name}: left out, {error}"] += 1
                continue
            except ValueError as error:
                raise ValueError(f"{row.place}, {name}: {error}") from error
            changes.update(done)
            yield example

    def _value(self, row: Row, column: str, modality: Modality) -> Value | None:
        """Returns the value that a modality reads from a cell; None for an empty cell."""
        if not is_given(row, column):
            return None
        value = row.cells[column]
        if not isinstance(value, str | int | float):  # a file within the data
            value = value.read()
        return self.file_of(value) if modality.reads_files and isinstance(value, str) else value

    def _complete(self, parts: Mapping[str, list[Row]]) -> dict[str, Modality]:
        """Returns the modality of each column that has values.

        Fields that the config leaves open, such as the classes of a label, are set from the data.
        """
        found = {}
        for name, modality in self.column_modalities().items():
            train, *others = (
                [(row.place, row.cells[name]) for row in parts[split] if is_given(row, name)]
                for split in SPLITS
            )
            if train or any(others):
                found[name] = modality.complete(train, itertools.chain(*others))
            elif self.needs_all:
                raise ValueError(
                    f"{self.shown} has no value in its column {name!r}; remove this column from "
                    "the config"
                )
        return dict(Named(found))


def summary(changes: Counter[str]) -> Iterator[str]:
    """Yields a line for each kind of conversion of values, with its count."""
    for change, count in sorted(changes.items()):
        yield f"{change}: {count:,}"


def form(modality: Modality) -> str:
    """Returns a modality as Python source, without fields that have their default values."""
    fields = dataclasses.fields(modality)
    values = {field.name: getattr(modality, field.name) for field in fields}
    given = [f"{f.name}={values[f.name]!r}" for f in fields if values[f.name] != f.default]
    return f"{type(modality).__name__}({', '.join(given)})"


def feature_of(modality: Modality) -> Feature:
    """Returns the `Feature` of a column whose values are of a modality."""
    feature = Feature(modality.shape, ragged=modality.lengths is not None)
    if isinstance(modality, Label):
        feature = feature._replace(classes=modality.classes, names=modality.names)
    if isinstance(modality, Text):
        feature = feature._replace(units=modality.units.learned)
    if feature.stored != modality.dtype:
        feature = feature._replace(dtype=modality.dtype.name)
    return feature
