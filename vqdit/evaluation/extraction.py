"""Computes features of pictures, and stores each batch, so that a killed program can resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.evaluation.feature_networks import FeatureNetwork
from vqdit.evaluation.picture_sets import PictureSet, fingerprint
from vqdit.evaluation.rows import check_finite
from vqdit.files import read_json, write_json

SHAPE = {"key": str, "done": int, "pixels": str, "widths": [int]}
"""Content of the file that says how many features are finished."""


class Features(NamedTuple):
    """Features of pictures.

    Attributes:
        values: features, float32 [n, d].
        logits: logits of a classifier, float32 [n, k], if the network has one.
        pixels: sum of the hashes of all pictures, in hexadecimal digits; see
            `picture_sets.fingerprint`.
        spatial: spatial features, float32 [n, e], if the network has them.
    """

    values: np.ndarray
    logits: np.ndarray | None
    pixels: str
    spatial: np.ndarray | None = None


def extract(
    pictures: PictureSet,
    network: FeatureNetwork,
    rows: np.ndarray,
    file: Path,
    batch_size: int,
    report: Callable[[int, int], None],
    width: int | None = None,
) -> Features:
    """Computes the features of some pictures, or reads those that an earlier call computed.

    Args:
        pictures: the set.
        network: the network.
        rows: sorted numbers of the pictures.
        file: path, without ending, of the files that store the features. If they exist and belong
            to the same pictures and network, the computation resumes after their last row.
        batch_size: pictures in a batch.
        report: called after every batch with the number of finished pictures, and of all.
        width: number of features in the statistics of the reference; None if it has none.

    Raises:
        ValueError: pixels have another range, or a feature is not finite.
    """
    store = _Store(file, _key(pictures, network, rows), len(rows))
    for batch in pictures.batches(rows[store.done :], batch_size):
        if not store.done and batch.max() <= 1:
            raise ValueError(
                f"the first pictures of {pictures.name} have no pixel above 1, so they are masks, "
                "black, or in [0, 1]; pixels must be from 0 to 255"
            )
        found = network.function(batch)
        arrays = [np.asarray(part) for part in (found if isinstance(found, tuple) else (found,))]
        for array in arrays:
            if array.ndim != 2 or len(array) != len(batch) or not array.shape[1]:
                raise ValueError(
                    f"the features of {network.name} must be [{len(batch)}, d] for {len(batch)} "
                    f"pictures, got {list(array.shape)}"
                )
            check_finite(array.astype(np.float32), store.done)
        if width not in (None, arrays[0].shape[1]):
            raise ValueError(
                f"the statistics of the reference have {width} features, but {network.name} "
                f"has {arrays[0].shape[1]}; choose the network that made the statistics"
            )
        store.add(arrays, fingerprint(batch))
        report(store.done, len(rows))
    return store.features()


def _key(pictures: PictureSet, network: FeatureNetwork, rows: np.ndarray) -> str:
    chosen = f"{len(rows)} of {pictures.count}, sum {rows.sum()}"
    size = f"{pictures.size} {pictures.resized}"
    more = "; with spatial features" if network.has_spatial else ""
    return f"{pictures.name} {pictures.state} {size}; {network.identity}{more}; {chosen}"


class _Store:
    """Arrays in files, and how many of their rows are finished."""

    def __init__(self, file: Path, key: str, total: int) -> None:
        self.file, self.key, self.total = file, key, total
        self.record: dict[str, Any] = {"key": key, "done": 0, "pixels": "0", "widths": []}
        self.arrays: list[Any] = []
        try:
            found = read_json(self._record, SHAPE)
            if found["key"] == key:
                self.arrays = [
                    self._open(n, width, "r+") for n, width in enumerate(found["widths"])
                ]
                self.record = found
        except (OSError, ValueError):  # there are none, or they are damaged: all are computed
            self.arrays = []

    @property
    def _record(self) -> Path:
        return self.file.with_name(f"{self.file.name}.json")

    @property
    def done(self) -> int:
        """Number of finished rows."""
        return self.record["done"]

    def _open(self, number: int, width: int, mode: Any) -> np.memmap:
        place = self.file.with_name(f"{self.file.name}_{number}.npy")
        shape = self.total, width
        if mode == "w+":
            return np.lib.format.open_memmap(place, mode, np.float32, shape)
        array = np.lib.format.open_memmap(place, mode)
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(f"{place} has another shape or data type than these features")
        return array

    def add(self, arrays: list[np.ndarray], pixels: int) -> None:
        """Writes the next rows of all arrays, then their number and the sum of their hashes."""
        if not self.arrays:
            self.record["widths"] = [array.shape[1] for array in arrays]
            self.arrays = [self._open(n, a.shape[1], "w+") for n, a in enumerate(arrays)]
        end = self.done + len(arrays[0])
        for stored, array in zip(self.arrays, arrays, strict=True):
            stored[self.done : end] = array
            stored.flush()
        total = (int(self.record["pixels"], 16) + pixels) % 2**128
        self.record |= {"done": end, "pixels": f"{total:032x}"}
        write_json(self._record, self.record)

    def features(self) -> Features:
        """Returns all rows."""
        logits, spatial, *_ = (*self.arrays[1:], None, None)
        return Features(self.arrays[0], logits, self.record["pixels"], spatial)
