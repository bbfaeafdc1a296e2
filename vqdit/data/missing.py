"""A source that hides one modality in some examples, to measure the value of paired data."""

from typing import Any

import numpy as np

from vqdit.data.digits import Digits
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, take
from vqdit.typing import Named


class Missing(Source):
    """Removes a column from a fraction of the training examples.

    Attributes:
        source: the examples.
        column: name of the column that is removed.
        share: fraction of the training examples that lose the column; these are the same examples
            in every epoch.
        seed: seed of the choice of these examples.
    """

    source: Source = Digits()
    column: str = "audio"
    share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"Missing needs share in [0, 1], got {self.share}")

    def features(self) -> Named[Feature]:
        features = self.source.features()
        if self.column not in features:
            raise ValueError(
                f"Missing cannot remove the column {self.column!r}, which the data do not have; "
                f"choose one of: {', '.join(features)}"
            )
        return features

    def split(self, name: str) -> Split:
        split = self.source.split(name)
        if name != "train":
            return split
        draws = np.random.Generator(np.random.Philox(self.seed)).random(len(split))
        return _Without(split, self.source.features(), self.column, draws < self.share)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "missing": [self.column, self.share, self.seed],
            "source": self.source.fingerprint(),
        }


class _Without:
    def __init__(
        self, split: Split, features: Named[Feature], column: str, lacks: np.ndarray
    ) -> None:
        self._split, self._features, self._column, self._lacks = split, features, column, lacks

    def __len__(self) -> int:
        return len(self._split)

    def take(self, rows: np.ndarray) -> Arrays:
        arrays = take(self._split, rows, self._features)
        lacks = self._lacks[rows]
        values, present = arrays[self._column].copy(), arrays[PRESENT + self._column] & ~lacks
        values[lacks] = self._features[self._column].blank(int(lacks.sum()))
        return arrays | {self._column: values, PRESENT + self._column: present}
