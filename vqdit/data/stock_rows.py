"""Columns of a TFDS data set: texts, classes, pictures and sounds, which modalities read."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.data.builders.description import reading
from vqdit.data.row_source import RowSource, form
from vqdit.data.sources import SPLITS
from vqdit.data.stock_builders import open_stock, records_of
from vqdit.data.table_columns import SPLIT, missing
from vqdit.data.table_rows import Row
from vqdit.modalities import Audio, Image, Label, Modality, Text
from vqdit.typing import Named

TOGETHER = 1024
"""Number of records that are read at a time."""


class StockPicture(NamedTuple):
    """A picture file in a record of a TFDS data set, which is read on demand."""

    records: Any
    row: int
    feature: str

    def read(self) -> bytes:
        """Returns the bytes of the file."""
        (record,) = self.records.__getitems__([self.row])
        return _stored(record)[self.feature].bytes_list.value[0]


class StockSound(NamedTuple):
    """A sound in a record of a TFDS data set, which is read on demand.

    Attributes:
        records: the records.
        row: number of the record.
        name: name of the feature.
        feature: the feature, `tfds.features.Audio`.
        rate: sampling rate in Hz that is assumed if the feature states none.
    """

    records: Any
    row: int
    name: str
    feature: Any
    rate: int

    def read(self) -> bytes:
        """Returns the bytes of the stored sound file, or of a WAV file with the stored samples."""
        import tensorflow_datasets as tfds

        (record,) = self.records.__getitems__([self.row])
        if self.feature._lazy_decode:  # the file itself is stored
            return _stored(record)[self.name].bytes_list.value[0]
        only = tfds.features.FeaturesDict({self.name: self.feature})
        decoded: Any = only.deserialize_example_np(record)
        found = np.asarray(decoded[self.name])
        if np.issubdtype(found.dtype, np.floating):
            found = np.clip(np.round(found * 32768.0), -32768, 32767)
        elif len(found) and np.abs(found.astype(np.int64)).max() > 32768:
            raise ValueError(
                f"the samples of {self.name!r} have more than 16 bits, which is not "
                "supported; leave this feature out"
            )
        modality = Audio(rate=self.feature.sample_rate or self.rate)
        return modality.wav(found.astype(np.int16))


class StockRows(RowSource):
    """The rows of a prepared TFDS data set, for a `vqdit.data.TFDS` with columns.

    Attributes:
        name: TFDS name.
        columns: modality of every column by the name of its TFDS feature.
    """

    name: str
    columns: Named[Modality]

    @property
    def shown(self) -> str:
        return self.name

    def column_modalities(self) -> dict[str, Modality]:
        return dict(self.columns)

    def file_of(self, name: str) -> Path:
        raise TypeError(f"a column of a TFDS data set cannot hold paths of files, got {name}")

    def key(self) -> str:
        info = open_stock(self.name).info
        sizes = {name: split.num_examples for name, split in info.splits.items()}
        how = [f"{name}={form(one)}" for name, one in self.columns.items()]
        digest = hashlib.sha256(f"{info.full_name} {sizes} {how}".encode())
        return f"tfds_{digest.hexdigest()[:16]}"

    def rows(self) -> tuple[list[Row], int]:
        features = open_stock(self.name).info.features
        for column, modality in self.columns.items():
            if column not in features:
                raise ValueError(f"{self.name} has no feature {missing(column, sorted(features))}")
            _check_kind(self.name, column, features[column], modality)
        rows = []
        for split in SPLITS:
            records = records_of(self.name, split)
            for start in range(0, len(records), TOGETHER):
                numbers = range(start, min(start + TOGETHER, len(records)))
                with reading(f"the {split} split of {self.name}"):
                    found = [_stored(one) for one in records.__getitems__([*numbers])]
                for number, record in zip(numbers, found, strict=True):
                    cells = {
                        column: self._cell(records, number, column, features, record[column])
                        for column in self.columns
                    }
                    place = f"{self.name}, {split} {number}"
                    rows.append(Row(place, {**_decoded(cells, features, place), SPLIT: split}))
        return rows, 0

    def _cell(self, records: Any, row: int, column: str, features: Any, value: Any) -> Any:
        modality = self.columns[column]
        if isinstance(modality, Image):
            return StockPicture(records, row, column)
        if isinstance(modality, Audio):
            return StockSound(records, row, column, features[column], modality.rate)
        found = value.bytes_list.value or value.int64_list.value
        return found[0] if found else None


def _stored(record: bytes) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature  # pyright: ignore


def _decoded(cells: dict[str, Any], features: Any, place: str) -> dict[str, Any]:
    """Converts texts to str, and classes to their names; classes below 0 are missing."""
    found = {}
    for name, value in cells.items():
        names = getattr(features[name], "names", None)
        if isinstance(value, bytes):
            try:
                value = value.decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{place}, {name}: the text is not UTF-8 at byte {error.start}"
                ) from error
        elif isinstance(value, int) and names is not None:
            value = names[value] if value >= 0 else None
        found[name] = value
    return found


def _check_kind(name: str, column: str, feature: Any, modality: Modality) -> None:
    """Raises ValueError unless a TFDS feature can be read as a modality."""
    import tensorflow_datasets as tfds

    kinds = (
        (Text, tfds.features.Text, "a text"),
        (Label, tfds.features.ClassLabel, "a class label"),
        (Image, tfds.features.Image, "a picture"),
        (Audio, tfds.features.Audio, "a sound"),
    )
    for kind, wanted, what in kinds:
        if isinstance(modality, kind) and not isinstance(feature, wanted):
            raise ValueError(
                f"the feature {column!r} of {name} is a {type(feature).__name__}, not {what}; "
                "give it another modality, or leave it out"
            )
    if not isinstance(modality, Text | Label | Image | Audio):
        raise ValueError(
            f"a column of a TFDS data set must be a Text, a Label, an Image or an Audio, but "
            f"{column!r} is of type {type(modality).__name__}"
        )
