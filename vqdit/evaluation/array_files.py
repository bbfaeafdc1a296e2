"""Reads pictures and statistics of features from `.npz` and `.npy` files, a few rows at a time."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqdit.typing import Bool, UInt8

NAMES = ("arr_0", "image", "images", "samples")
"""Names of arrays of pictures in files of ADM, vqdit and others, by priority."""
LABELS = ("arr_1", "label", "labels")
STATISTICS = ("mu", "sigma")
"""Names of the mean and the covariance of features in the files of ADM and pytorch-fid."""
SPATIAL = ("mu_s", "sigma_s")
"""Names of the same of spatial features in the files of ADM."""
NETWORK = "network"
"""Name of the text that says which network made the statistics, in files of vqdit."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError)
"""Errors of reading a damaged file."""
READ = 256
"""Number of pictures that are read at a time."""


class StoredPictures(NamedTuple):
    """An array of pictures in a file.

    Attributes:
        file: the file.
        name: name of the array in a `.npz` file; empty in a `.npy` file.
        shape: number of pictures, height, width, channels.
    """

    file: Path
    name: str
    shape: tuple[int, ...]

    def chunks(self, wanted: Bool[np.ndarray, " n"]) -> Iterator[UInt8[np.ndarray, "b h w c"]]:
        """Yields the wanted pictures in order; the array is never in memory as a whole."""
        size = int(np.prod(self.shape[1:]))
        with _opened(self.file, self.name) as stream:
            _header(stream)
            for start in range(0, self.shape[0], READ):
                count = min(READ, self.shape[0] - start)
                try:
                    content = stream.read(count * size)
                except DAMAGED as error:
                    raise ValueError(f"{self.file} is damaged: {error}; write it again") from error
                if len(content) < count * size:
                    raise ValueError(f"{self.file} ends early; write it again")
                rows = np.frombuffer(content, np.uint8).reshape(count, *self.shape[1:])
                kept = rows[wanted[start : start + count]]
                if len(kept):
                    yield kept


class Content(NamedTuple):
    """The content of a file: pictures with their labels, or statistics of features."""

    pictures: StoredPictures | None
    labels: np.ndarray | None
    statistics: tuple[np.ndarray, np.ndarray] | None
    network: str
    spatial: tuple[np.ndarray, np.ndarray] | None = None


def read(file: Path) -> Content:
    """Returns the pictures and statistics of a file, without reading the pictures.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, has neither, or its pictures are not uint8 [n, h, w, c].
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    try:
        return _read(file)
    except DAMAGED as error:
        raise ValueError(f"{file} is damaged: {error}; write it again") from error


def _read(file: Path) -> Content:
    if not zipfile.is_zipfile(file):
        if file.suffix == ".npz":
            raise zipfile.BadZipFile("File is not a zip file")
        with _opened(file, "") as stream:
            shape, dtype = _header(stream)
        check(str(file), shape, dtype)
        return Content(StoredPictures(file, "", shape), None, None, "")
    with np.load(file, allow_pickle=False) as arrays:
        names = arrays.files
        pairs = [pair for pair in (STATISTICS, SPATIAL) if set(pair) <= set(names)]
        wanted = (*LABELS, NETWORK, *(name for pair in pairs for name in pair))
        try:
            small = {name: arrays[name] for name in wanted if name in names}
        except ValueError as error:  # an array of objects
            raise EOFError(str(error)) from error
    read = {}
    for pair in pairs:
        mean, covariance = (np.asarray(small[name], np.float64) for name in pair)
        _check_statistics(file, pair, mean, covariance)
        read[pair] = mean, covariance
    statistics, spatial = read.get(STATISTICS), read.get(SPATIAL)
    labels = next((small[name] for name in LABELS if name in small), None)
    network = str(small.get(NETWORK, ""))
    found = next((name for name in NAMES if name in names), "")
    if not found and statistics is None:
        raise ValueError(
            f"{file} has the arrays {', '.join(names) or '(none)'}; the array of pictures "
            f"must be named {' or '.join(NAMES)}, or those of statistics "
            f"{' and '.join(STATISTICS)}"
        )
    if not found:
        return Content(None, None, statistics, network, spatial)
    with _opened(file, found) as stream:
        shape, dtype = _header(stream)
    check(f"{found!r} in {file}", shape, dtype)
    if labels is not None and labels.shape != (shape[0],):
        labels = None
    return Content(StoredPictures(file, found, shape), labels, statistics, network, spatial)


def check(what: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raises ValueError unless an array has the form of pictures, uint8 [n, h, w, 1 or 3]."""
    if dtype != np.uint8:
        raise ValueError(
            f"{what} has the type {dtype}, from which the range of the pixels cannot be known; "
            "convert it to uint8 from 0 to 255"
        )
    if len(shape) != 4 or shape[3] not in (1, 3) or not shape[0]:
        hint = "; move the channels to the end" if shape[1:2] in ((1,), (3,)) else ""
        raise ValueError(
            f"{what} has the shape {list(shape)}, but pictures must be [n, height, width, 1 "
            f"or 3]{hint}"
        )


def _check_statistics(
    file: Path, names: tuple[str, str], mean: np.ndarray, covariance: np.ndarray
) -> None:
    mu, sigma = names
    width = len(mean) if mean.ndim == 1 else 0
    if not width or covariance.shape != (width, width):
        raise ValueError(
            f"{file} is no file of statistics: {mu} has the shape {list(mean.shape)} and {sigma} "
            f"{list(covariance.shape)}; they must be [d] and [d, d]"
        )
    if not np.isfinite(mean).all() or not np.isfinite(covariance).all():
        raise ValueError(f"{file} has statistics that are not finite; compute them again")
    if not np.allclose(covariance, covariance.T, atol=1e-6 * np.abs(covariance).max()):
        raise ValueError(
            f"{sigma} in {file} is not symmetric, so it is no covariance; compute it again"
        )


@contextlib.contextmanager
def _opened(file: Path, name: str) -> Iterator[Any]:
    """Opens an array of a `.npz` file, or a `.npy` file."""
    if not name:
        with file.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as stream:
        yield stream


def _header(stream: Any) -> tuple[tuple[int, ...], np.dtype]:
    """Reads the header of an array; returns its shape and data type.

    Raises:
        ValueError: there is no header, or the array is in Fortran's order.
    """
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError as error:
        raise EOFError(str(error)) from error
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if is_fortran:
        raise ValueError(
            "an array is stored in Fortran's order; write it with np.ascontiguousarray"
        )
    return shape, dtype
