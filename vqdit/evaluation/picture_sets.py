"""Sets of pictures to be compared: folders of files, arrays, and the splits of sources."""

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqdit.data import Source
from vqdit.evaluation import array_files
from vqdit.evaluation.frechet import Gaussian
from vqdit.modalities.pictures import find_pictures, fit, open_checked, open_picture
from vqdit.typing import Bool, UInt8

READ = 256
"""Number of pictures that are decoded at a time."""
TURNED = (5, 6, 7, 8)
"""Values of the orientation in EXIF data that exchange height and width."""
Pictures = UInt8[np.ndarray, "b h w 3"]


class PictureSet(NamedTuple):
    """Pictures of one size, in a fixed order, which are read when they are needed.

    Attributes:
        name: the set as the user gave it.
        kind: where the pictures are from.
        count: number of pictures.
        size: height and width of all pictures, in pixels.
        state: a text that changes if the files or the data change.
        chunks: function that yields the wanted pictures in order, several at a time.
        labels: class of each picture, if the set has classes.
        resized: how pictures of other sizes were resized; empty if they were not.
    """

    name: str
    kind: str
    count: int
    size: tuple[int, int]
    state: str
    chunks: Callable[[Bool[np.ndarray, " n"]], Iterator[UInt8[np.ndarray, "b h w c"]]]
    labels: np.ndarray | None = None
    resized: str = ""

    def batches(self, rows: np.ndarray, size: int) -> Iterator[Pictures]:
        """Yields the pictures of sorted rows in colour, `size` at a time; the last has the rest."""
        wanted = np.zeros(self.count, bool)
        wanted[rows] = True
        rest = np.empty((0, *self.size, 3), np.uint8)
        for chunk in self.chunks(wanted):
            colour = np.broadcast_to(chunk, (*chunk.shape[:3], 3))
            rest = np.concatenate([rest, colour])
            while len(rest) >= size:
                yield rest[:size]
                rest = rest[size:]
        if len(rest):
            yield rest

    def fitted(self, edge: int) -> "PictureSet":
        """Returns the set with its pictures cropped to squares and resized to `edge` pixels."""
        if self.size == (edge, edge):
            return self

        def chunks(wanted: np.ndarray) -> Iterator[np.ndarray]:
            for chunk in self.chunks(wanted):
                yield np.stack([fit(picture, (edge, edge)) for picture in chunk])

        how = f"centre crop and Lanczos to {edge}x{edge}"
        return self._replace(size=(edge, edge), chunks=chunks, resized=how)


class Reference(NamedTuple):
    """What samples are compared with: pictures, statistics of their features, or both.

    Attributes:
        pictures: the pictures, if there are any.
        gaussian: mean and covariance of features, if the file has them.
        network: name and checksum of the network that made the statistics; empty if the file does
            not say.
        checksum: SHA-256 of the file of statistics.
        spatial: mean and covariance of the spatial features of sFID, if the file has them.
    """

    pictures: PictureSet | None
    gaussian: Gaussian | None = None
    network: str = ""
    checksum: str = ""
    spatial: Gaussian | None = None


def fingerprint(pictures: Pictures) -> int:
    """Returns a sum of hashes of pictures, which does not depend on their order.

    Sums of parts are added modulo 2^128.
    """
    total = 0
    for picture in np.ascontiguousarray(pictures):
        digest = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).digest()
        total += int.from_bytes(digest[:16], "big")
    return total % 2**128


def read_file(file: Path) -> Reference:
    """Reads the arrays of a `.npz` or `.npy` file; see `vqdit.evaluation.array_files`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has neither pictures nor statistics.
    """
    found = array_files.read(file)
    pictures = None
    if found.pictures is not None:
        array = found.pictures
        state = f"{file.stat().st_size} {file.stat().st_mtime_ns} {array.name}"
        kind = f"array {array.name!r} of a file" if array.name else "array of a file"
        count, height, width, _ = array.shape
        size, labels = (height, width), found.labels
        pictures = PictureSet(str(file), kind, count, size, state, array.chunks, labels)
    gaussian = Gaussian(*found.statistics) if found.statistics is not None else None
    checksum = ""
    if gaussian is not None:
        with file.open("rb") as opened:
            checksum = hashlib.file_digest(opened, "sha256").hexdigest()
    spatial = Gaussian(*found.spatial) if found.spatial is not None else None
    return Reference(pictures, gaussian, found.network, checksum, spatial)


def read_folder(folder: Path, edge: int | None = None) -> PictureSet:
    """Returns the pictures of a folder and its sub-folders, sorted by their paths.

    Args:
        folder: the folder.
        edge: edge of the squares to which pictures are cropped and resized; None keeps their size,
            which must be the same for all.

    Raises:
        ValueError: the folder has no pictures, or they have several sizes and no edge is given.
    """
    files = find_pictures(folder).pictures
    if not files:
        raise ValueError(f"{folder} has no pictures (.png, .jpg, ...); name a folder of pictures")
    size = (edge, edge) if edge else one_size(files)
    stamps = "".join(f"{f} {(s := os.stat(f)).st_size} {s.st_mtime_ns}\n" for f in files)

    def read(file: Path) -> np.ndarray:
        pixels = open_picture(file, 3)
        return fit(pixels, (edge, edge)) if edge else pixels

    def chunks(wanted: np.ndarray) -> Iterator[np.ndarray]:
        chosen = [files[row] for row in np.flatnonzero(wanted)]
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(chosen), READ):
                yield np.stack(list(pool.map(read, chosen[start : start + READ])))

    groups = sorted({file.parent for file in files})
    labels = np.asarray([groups.index(file.parent) for file in files]) if groups[1:] else None
    state = hashlib.sha256(stamps.encode(errors="surrogateescape")).hexdigest()
    resized = f"centre crop and Lanczos to {edge}x{edge}" if edge else ""
    return PictureSet(
        str(folder), "folder of files", len(files), size, state, chunks, labels, resized
    )


def one_size(files: list[Path]) -> tuple[int, int]:
    """Returns the height and width of all pictures, from their headers.

    Raises:
        ValueError: two pictures differ in size.
    """
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            with open_checked(file) as opened:
                width, height = opened.size
                if opened.getexif().get(0x0112) in TURNED:
                    width, height = height, width
        except Exception:  # the error of a damaged file is raised, with its name, when it is read
            continue
        sizes.setdefault((height, width), file)
        if len(sizes) > 1:
            (first, one), (second, other) = sizes.items()
            raise ValueError(
                f"pictures differ in size: {one} is {first[1]}x{first[0]} and {other} is "
                f"{second[1]}x{second[0]}; give --size=N to crop and resize all of them to NxN"
            )
    if not sizes:
        open_picture(files[0], 3)
        raise ValueError(f"no picture of {files[0].parent} can be read; give another folder")
    return next(iter(sizes))


def read_source(name: str, source: Source, split: str) -> PictureSet:
    """Returns the pictures of a source's split.

    Args:
        name: the set as the user gave it.
        source: the source.
        split: train, validation or test.

    Raises:
        ValueError: the source has no column of pictures, or several.
    """
    features = source.features()
    columns = [column for column, feature in features.items() if feature.is_picture]
    if len(columns) != 1:
        found = f"the columns {', '.join(columns)}" if columns else "none"
        raise ValueError(
            f"{name} must have exactly one column of pictures, but has {found}; give a folder "
            "or a file"
        )
    rows, column = source.split(split), columns[0]
    height, width = features[column].shape[:2]

    def chunks(wanted: np.ndarray) -> Iterator[np.ndarray]:
        chosen = np.flatnonzero(wanted)
        for start in range(0, len(chosen), READ):
            yield rows.take(chosen[start : start + READ])[column]

    labels = None
    if "label" in features:
        parts = np.array_split(np.arange(len(rows)), -(-len(rows) // READ))
        labels = np.concatenate([rows.take(part)["label"] for part in parts])
    state = f"{split} {source.fingerprint()}"
    kind = f"{split} split of {type(source).__name__}"
    return PictureSet(name, kind, len(rows), (height, width), state, chunks, labels)
