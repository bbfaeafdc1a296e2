"""Mixtures of several sources in given proportions."""

import math
import sys
from fractions import Fraction
from typing import Any

import numpy as np

from vqdit.data.sources import PRESENT, Arrays, Feature, Source, Split, take
from vqdit.typing import Named


class Mixture(Source):
    """Draws examples from several sources in given proportions.

    The mixture has the columns of all sources; a column that a source lacks is missing in the
    examples of this source.

    Attributes:
        sources: the sources to mix.
        weights: relative frequency of the examples of each source, in the order of `sources`; they
            need not sum to 1. If empty, the frequencies are proportional to the sizes of the
            sources.
    """

    sources: tuple[Source, ...] = ()
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(isinstance(source, Mixture) for source in self.sources):
            raise ValueError("Mixture cannot contain a Mixture; list all sources in one Mixture")
        if self.weights and len(self.weights) != len(self.sources):
            raise ValueError(
                f"Mixture has {len(self.sources)} sources but {len(self.weights)} weights; "
                "give one weight for each source"
            )
        if not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError(f"Mixture needs finite weights > 0, got {self.weights}")

    def features(self) -> Named[Feature]:
        if not self.sources:
            raise ValueError("Mixture needs at least one source, got none; set its sources")
        merged: dict[str, Feature] = {}
        for source in self.sources:
            for name, feature in source.features().items():
                other = merged.get(name, feature)
                named = feature if feature.names else other
                kinds = {
                    (kind.shape, kind.classes, kind.stored, kind.ragged)
                    for kind in (other, feature)
                }
                if len(kinds) > 1 or (other.names and named.names != other.names):
                    raise ValueError(
                        f"the sources of the mixture have different features for {name!r}: "
                        f"{tuple(other)} and {tuple(feature)}; give their columns the same feature"
                    )
                merged[name] = named
        return Named(merged)

    def split(self, name: str) -> Split:
        splits = [(source.split(name), source.features()) for source in self.sources]
        return Joined(splits, self.features(), self.weights)

    def fingerprint(self) -> dict[str, Any]:
        return {"mixture": [source.fingerprint() for source in self.sources]}


class Joined:
    """The concatenated splits of a mixture.

    Attributes:
        sizes: number of examples of each split.
        shares: sequence that determines from which split each draw of the pipeline takes an
            example.
    """

    def __init__(
        self,
        splits: list[tuple[Split, Named[Feature]]],
        features: Named[Feature],
        weights: tuple[float, ...],
    ) -> None:
        self._splits, self._features = splits, features
        self.sizes = [len(split) for split, _ in splits]
        self.shares = Shares(weights or tuple(float(size) for size in self.sizes))
        self._starts = np.cumsum([0, *self.sizes])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: np.ndarray) -> Arrays:
        arrays: Arrays = {}
        for name, feature in self._features.items():
            arrays[name] = feature.blank(len(rows))
            arrays[PRESENT + name] = np.zeros(len(rows), bool)
        owner = np.searchsorted(self._starts, rows, side="right") - 1
        for number, (split, columns) in enumerate(self._splits):
            places = np.flatnonzero(owner == number)
            if not len(places):
                continue
            taken = take(split, rows[places] - self._starts[number], columns)
            for name, values in taken.items():
                if name not in arrays:  # tokens of mirror images
                    arrays[name] = np.zeros((len(rows), *values.shape[1:]), values.dtype)
                arrays[name][places] = values
        return arrays


class Shares:
    """An endless sequence of sources that has the exact frequency of every source.

    Among the first n items, the count of a source differs from n times its frequency by less than
    two. Grain's own mixture is less exact because it rounds weights to a hundredth of the smallest
    weight.
    """

    def __init__(self, weights: tuple[float, ...]) -> None:
        exact = [Fraction(str(weight)) for weight in weights]
        unit = math.lcm(*(weight.denominator for weight in exact))
        self._shares = [int(weight * unit) for weight in exact]

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Returns the source of item `index`, and the number of earlier items from this source."""
        # The places are assigned source by source. A source with `share`, where `left` is the sum
        # of the shares not assigned yet, takes n - floor(n (left - share) / left) of the first n
        # free places.
        before, after, left = index, index + 1, sum(self._shares)
        for source, share in enumerate(self._shares):
            passed = before * (left - share) // left, after * (left - share) // left
            if after - passed[1] > before - passed[0]:
                return source, before - passed[0]
            (before, after), left = passed, left - share
        raise IndexError(index)
