"""A source in memory whose every example says which one it is."""

from typing import Any

import numpy as np

from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split
from vqdit.typing import Named


class Rows(Source):
    """Row i has the label `first` + i, and an image that is random but its own.

    Attributes:
        count: examples of the training split; the others have a quarter.
        first: label of row 0.
        classes: number of classes.
        edge: of the image.
        names: of the classes.
        has_label: whether there are labels.
        dtype: of the image, if it is not the usual one.
    """

    count: int = 12
    first: int = 0
    classes: int = 100
    edge: int = 4
    names: tuple[str, ...] = ()
    has_label: bool = True
    dtype: str = ""

    def features(self) -> Named[Feature]:
        features = {"image": Feature((self.edge, self.edge, 1), dtype=self.dtype)}
        if self.has_label:
            features["label"] = Feature((), self.classes, self.names)
        return Named(features)

    def split(self, name: str) -> Split:
        return _Rows(self, self.count if name == "train" else self.count // 4)

    def fingerprint(self) -> dict[str, Any]:
        return {"count": self.count, "first": self.first}

    def image(self, row: int) -> np.ndarray:
        """The image of a row."""
        generator = np.random.default_rng([self.first, row])
        return generator.integers(0, 256, (self.edge, self.edge, 1), dtype=np.uint8)


class _Rows:
    def __init__(self, source: Rows, count: int) -> None:
        self._source, self._count = source, count

    def __len__(self) -> int:
        return self._count

    def take(self, rows: np.ndarray) -> Arrays:
        if rows.max() >= self._count:
            raise IndexError(rows.max())
        images = np.stack([self._source.image(int(row)) for row in rows])
        stored = self._source.features()["image"].stored
        arrays: Arrays = {"image": images.astype(stored)}
        if self._source.has_label:
            arrays["label"] = (self._source.first + rows).astype(np.int32)
        return arrays | {PRESENT + name: np.ones(len(rows), bool) for name in arrays}
