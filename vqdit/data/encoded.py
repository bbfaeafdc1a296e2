"""Data sets of encoded images or sounds, on which a DiT is trained without running the encoder.

For images, the tokens of the mirror images are stored too, so that `HorizontalFlip` still works.
All other columns are copied unchanged.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.builders import records
from vqdit.data.builders.description import DESCRIPTION, describe, features_of, is_prepared
from vqdit.data.recorded import reader
from vqdit.data.sources import MIRRORED, PRESENT, SPLITS, Feature, Source, Split, check_split, take
from vqdit.files import local_path
from vqdit.typing import Named, resumable

ROWS = 64
"""Number of examples that are encoded at once."""

Encode = Callable[[np.ndarray], np.ndarray]


class Encoded(Source):
    """A data set that `vqdit encode` wrote: tokens replace one column; the others are unchanged.

    Attributes:
        path: folder of the encoded data.
    """

    path: str = resumable("encoded")

    def features(self) -> Named[Feature]:
        found = features_of(self._folder())
        return Named({name: f for name, f in found.items() if not name.endswith(MIRRORED)})

    def split(self, name: str) -> Split:
        check_split(name)
        return reader(self._folder(), name)

    def fingerprint(self) -> dict[str, Any]:
        found = describe(self._folder())
        return {part: found[part] for part in ("version", "features", "splits", "checksum")}

    def _folder(self) -> Path:
        folder = local_path(self.path)
        if not is_prepared(folder):
            why = f"{folder} has no {DESCRIPTION}" if folder.exists() else f"no {folder}"
            raise FileNotFoundError(
                f"found no encoded data: {why}; make them with `vqdit encode --workdir=TOKENIZER "
                "--out=DIR`, where DIR is a new folder"
            )
        return folder.resolve()


def write(
    folder: Path,
    source: Source,
    column: str,
    feature: Feature,
    encode: Encode,
    *,
    option: str = "folder",
) -> dict[str, int]:
    """Writes a copy of a data set in which one column is replaced by its tokens.

    Args:
        folder: where to write the data; must not exist yet.
        source: the examples.
        column: name of the column to encode.
        feature: feature of the tokens, with the tokenizer's fingerprint.
        encode: function that maps ROWS stored values of the column to their tokens.
        option: name of the option that sets the folder, for error messages.

    Returns:
        The number of examples in each split.

    Raises:
        ValueError: if the folder exists, or the data have no such column.
        OSError: if the folder cannot be written.
    """
    if folder.exists():
        raise ValueError(f"{folder} already exists; choose another {option}")
    features = source.features()
    if column not in features:
        raise ValueError(
            f"the data have no column {column!r} to encode; choose one of: {', '.join(features)}"
        )
    columns = {**features, column: feature}
    is_picture = features[column].is_picture
    if is_picture:
        columns[column + MIRRORED] = feature
    examples = {split: _examples(source.split(split), features, column, encode) for split in SPLITS}
    records.write(folder, "encoded", Named(columns), examples)
    return describe(folder)["splits"]


def _examples(
    split: Split, features: Named[Feature], column: str, encode: Encode
) -> Iterator[dict[str, Any]]:
    is_picture = features[column].is_picture
    for start in range(0, len(split), ROWS):
        index = start + np.arange(ROWS)
        arrays = take(split, np.where(index < len(split), index, 0), features)
        tokens = {column: encode(arrays[column])}
        if is_picture:
            tokens[column + MIRRORED] = encode(arrays[column][:, :, ::-1])
        for row in range(min(ROWS, len(split) - start)):
            present = {name for name in features if arrays[PRESENT + name][row]}
            kept = {name: arrays[name][row] for name in present}
            yield kept | {name: values[row] for name, values in tokens.items() if column in present}
