"""Tokens of a data set, encoded once and for all: a DiT trains from them without its encoder.

Of images there are also the tokens of their mirror images, which `HorizontalFlip` takes where it
would have mirrored the image. Everything else is kept as it is.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.builders import records
from vqdit.data.recorded import reader
from vqdit.data.sources import MIRRORED, PRESENT, SPLITS, Feature, Source, Split, check_split
from vqdit.typing import Named, resumable

ROWS = 64
"""Examples that are encoded at a time."""

Encode = Callable[[np.ndarray], np.ndarray]


class Encoded(Source):
    """What `vqdit encode` wrote: tokens in place of a column, and its other columns.

    Attributes:
        path: the folder.
    """

    path: str = resumable("encoded")

    def features(self) -> Named[Feature]:
        found = records.features_of(self._folder())
        return Named({name: f for name, f in found.items() if not name.endswith(MIRRORED)})

    def split(self, name: str) -> Split:
        check_split(name)
        return reader(self._folder(), name)

    def fingerprint(self) -> dict[str, Any]:
        found = records.describe(self._folder())
        return {part: found[part] for part in ("version", "features", "splits", "checksum")}

    def _folder(self) -> Path:
        folder = Path(self.path).expanduser()
        if not records.is_prepared(folder):
            why = f"{folder} has no {records.DESCRIPTION}" if folder.exists() else f"no {folder}"
            raise FileNotFoundError(
                f"no encoded data: {why}; make them with `vqdit encode --workdir=TOKENIZER "
                "--out=DIR`, DIR being a new folder"
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
    """Writes a data set with the tokens of a column in its place.

    Args:
        folder: where it goes; a new one.
        source: the examples.
        column: what is encoded.
        feature: of the tokens, with the tokenizer's fingerprint.
        encode: takes stored examples and returns their tokens; always ROWS of them.
        option: what the caller chooses another folder by, for messages.

    Returns:
        The number of examples in each split.

    Raises:
        ValueError: there is something in the folder, or the data have no such column.
        OSError: it cannot be written.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already; choose another {option}")
    features = source.features()
    if column not in features:
        raise ValueError(f"the data have no {column!r}; they have: {', '.join(features)}")
    columns = {**features, column: feature}
    is_image = len(features[column].shape) == 3
    if is_image:
        columns[column + MIRRORED] = feature
    examples = {split: _examples(source.split(split), features, column, encode) for split in SPLITS}
    records.write(folder, "encoded", Named(columns), examples)
    return records.describe(folder)["splits"]


def _examples(
    split: Split, features: Named[Feature], column: str, encode: Encode
) -> Iterator[dict[str, Any]]:
    is_image = len(features[column].shape) == 3
    for start in range(0, len(split), ROWS):
        index = start + np.arange(ROWS)
        arrays = split.take(np.where(index < len(split), index, 0))
        tokens = {column: encode(arrays[column])}
        if is_image:
            tokens[column + MIRRORED] = encode(arrays[column][:, :, ::-1])
        for row in range(min(ROWS, len(split) - start)):
            present = {name for name in features if arrays[PRESENT + name][row]}
            kept = {name: arrays[name][row] for name in present}
            yield kept | {name: values[row] for name, values in tokens.items() if column in present}


__all__ = ["ROWS", "Encode", "Encoded", "write"]
