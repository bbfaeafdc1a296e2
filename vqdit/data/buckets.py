"""Batches of examples of similar length, so that batches contain little padding.

The relative length of a column of an example is its length divided by the largest possible length.
The relative length of an example is the maximum over its ragged columns. Quantiles of the relative
lengths are the boundaries of the buckets.

The endless order of examples is divided into windows. The rows of a window are sorted by bucket and
cut into batches, and the batches are shuffled. A batch is padded to the length of the largest
bucket among its examples. A window holds a whole number of batches, so sorting neither drops nor
repeats examples, and the batch of a step is a pure function of the seed and the step.
"""

import functools
from typing import Any

import numpy as np

from vqdit.data.sources import Feature, Split, lengths_of
from vqdit.typing import Int, Named

WINDOW = 1000
"""Largest number of batches in a window, whose rows are sorted together."""
MOST = 1000
"""Largest number of buckets; a step is compiled for each."""
MULTIPLE = 8
"""A padded length is a multiple of this number, or the length of the longest possible example."""


class Buckets:
    """The buckets of a data set, chosen by the lengths in a split.

    Attributes:
        sizes: padded length of every ragged column, for each bucket in increasing order; the last
            bucket holds the longest possible examples.
    """

    def __init__(self, split: Split, features: Named[Feature], count: int) -> None:
        self._ragged = Named({name: f for name, f in features.items() if f.ragged})
        longest = {name: feature.shape[0] for name, feature in self._ragged.items()}
        self.sizes: list[dict[str, int]] = []
        if self._ragged and count > 1:
            found = self._lengths(split)
            relative = np.max([found[name] / longest[name] for name in found], axis=0)
            quantiles = np.quantile(relative, np.arange(1, count) / count, method="higher")
            for bound in np.unique(quantiles):
                size = {}
                for name, lengths in found.items():
                    most = max(1, int(lengths[relative <= bound].max()))
                    size[name] = min(-(-most // MULTIPLE) * MULTIPLE, longest[name])
                if size != longest and size not in self.sizes:
                    self.sizes.append(size)
        self.sizes.append(longest)

    def _lengths(self, split: Split) -> dict[str, np.ndarray]:
        return {name: lengths_of(split, name, feature) for name, feature in self._ragged.items()}

    def of(self, split: Split) -> Int[np.ndarray, " n"]:
        """Returns the index of the smallest bucket that can hold each example of a split: [n]."""
        found = np.full(len(split), len(self.sizes) - 1)
        lengths = self._lengths(split) if len(self.sizes) > 1 else {}
        for number, size in reversed(list(enumerate(self.sizes[:-1]))):
            fits = np.all([lengths[name] <= size[name] for name in lengths], axis=0)
            found[fits] = number
        return found


class Batches:
    """A sequence whose item n holds the row numbers of the batch of step n.

    Args:
        order: endless order of the row numbers.
        bucket: bucket of every row.
        size: rows in a batch.
        seed: seed of the order of the batches within a window. A window is a number of successive
            batches, whose rows are sorted by bucket and then divided into batches.
    """

    def __init__(self, order: Any, bucket: Int[np.ndarray, " n"], size: int, seed: int) -> None:
        self._order, self._bucket, self._size, self._seed = order, bucket, size, seed
        self._window = max(1, min(len(bucket) // size, WINDOW))

    def __getitem__(self, step: int) -> Int[np.ndarray, " b"]:
        return self._sorted(step // self._window)[step % self._window]

    @functools.lru_cache(maxsize=2)  # noqa: B019 (a run has one)
    def _sorted(self, number: int) -> Int[np.ndarray, "m b"]:
        count = self._window * self._size
        rows = np.asarray([self._order[number * count + place] for place in range(count)])
        rows = rows[np.argsort(self._bucket[rows], kind="stable")]
        shuffled = np.random.Generator(np.random.Philox([self._seed, number]))
        return shuffled.permutation(rows.reshape(self._window, self._size))
