"""Several sources at once, each with its share of the examples."""

from typing import Any

import numpy as np

from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split
from vqdit.typing import Named


class Mixture(Source):
    """Draws from several sources in given proportions.

    The columns are those of all sources together; what a source lacks is a missing modality.

    Attributes:
        sources: what to mix.
        weights: share of the examples from each source, in its order; they need not sum to 1.
            Empty: in proportion to their sizes.
    """

    sources: tuple[Source, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.weights and len(self.weights) != len(self.sources):
            raise ValueError(
                f"Mixture has {len(self.sources)} sources but {len(self.weights)} weights; "
                "give one each"
            )
        if any(weight <= 0 for weight in self.weights):
            raise ValueError(f"Mixture needs weights > 0, got {self.weights}")

    def features(self) -> Named[Feature]:
        if not self.sources:
            raise ValueError("Mixture needs at least one source")
        merged: dict[str, Feature] = {}
        for source in self.sources:
            for name, feature in source.features().items():
                other = merged.setdefault(name, feature)
                if other.shape != feature.shape or other.classes != feature.classes:
                    raise ValueError(
                        f"the sources of the mixture disagree on {name!r}: "
                        f"{tuple(other)} and {tuple(feature)}"
                    )
        return Named(merged)

    def split(self, name: str) -> Split:
        splits = [source.split(name) for source in self.sources]
        return Joined(splits, self.features(), self.weights)

    def fingerprint(self) -> dict[str, Any]:
        return {"mixture": [source.fingerprint() for source in self.sources]}


class Joined:
    """The splits one after the other; `sizes` and `weights` let the pipeline draw from each."""

    def __init__(
        self, splits: list[Split], features: Named[Feature], weights: tuple[float, ...]
    ) -> None:
        self._splits, self._features = splits, features
        self.sizes = [len(split) for split in splits]
        self.weights = weights or tuple(float(size) for size in self.sizes)
        self._starts = np.cumsum([0, *self.sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> Arrays:
        arrays: Arrays = {}
        for name, feature in self._features.items():
            dtype = np.uint8 if feature.shape else np.int32
            arrays[name] = np.zeros((len(rows), *feature.shape), dtype)
            arrays[PRESENT + name] = np.zeros(len(rows), bool)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number, split in enumerate(self._splits):
            places = np.flatnonzero(owner == number)
            if not len(places):
                continue
            for name, values in split.take(rows[places] - self._starts[number]).items():
                arrays[name][places] = values
        return arrays
