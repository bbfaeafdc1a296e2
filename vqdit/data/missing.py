"""A source of whose examples a share lacks one modality, to see what paired data are worth."""

from typing import Any

import numpy as np

from vqdit.data.digits import Digits
from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split
from vqdit.typing import Named


class Missing(Source):
    """Takes a column away from a share of the training examples.

    Attributes:
        source: the examples.
        column: which modality is taken away.
        share: of the training examples, drawn by the seed: the same ones in every epoch.
        seed: of the choice.
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
                f"Missing cannot take {self.column!r} away; the data have: {', '.join(features)}"
            )
        return features

    def split(self, name: str) -> Split:
        split = self.source.split(name)
        if name != "train":
            return split
        draws = np.random.Generator(np.random.Philox(self.seed)).random(len(split))
        return _Without(split, self.column, draws < self.share)

    def fingerprint(self) -> dict[str, Any]:
        return {
            "missing": [self.column, self.share, self.seed],
            "source": self.source.fingerprint(),
        }


class _Without:
    """A split that lacks a column in some rows."""

    def __init__(self, split: Split, column: str, lacks: np.ndarray) -> None:
        self._split, self._column, self._lacks = split, column, lacks

    def __len__(self) -> int:
        return len(self._split)

    def take(self, rows: np.ndarray) -> Arrays:
        arrays = self._split.take(rows)
        lacks = self._lacks[rows]
        values, present = arrays[self._column].copy(), arrays[PRESENT + self._column] & ~lacks
        values[lacks] = 0
        return arrays | {self._column: values, PRESENT + self._column: present}
