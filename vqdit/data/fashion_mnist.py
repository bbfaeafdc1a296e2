"""Fashion-MNIST: 70,000 grey images of garments, 28 x 28 pixels, in ten classes.

Xiao et al., "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747.
"""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, Feature, root
from vqdit.files import local_path, write_whole
from vqdit.typing import Named, resumable

GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""
MIRROR = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""The four IDX files, with the published MD5 checksums of the gzipped files."""
LARGEST = 2**26
"""Largest accepted size of an IDX file in bytes; the largest of the four has 47 million."""


class FashionMNIST(Recorded):
    """Fashion-MNIST: `image` uint8 [28, 28, 1] (or larger, see `pad`) and `label` 0 to 9.

    The last 5,000 of the 60,000 published training examples are the validation split.

    Attributes:
        path: folder of the four IDX files, gzipped or not. If empty, the folders of Debian's
            package and of `vqdit prepare fashion_mnist --download` are searched.
        pad: black pixels added on every side; 2 gives 32 x 32 pixels, which can be halved five
            times.
    """

    path: str = resumable("")
    pad: int = 0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise ValueError(f"FashionMNIST needs pad >= 0, got {self.pad}")

    def key(self) -> str:
        return self._key_of_files() + (f"_pad{self.pad}" if self.pad else "")

    def _key_of_files(self) -> str:
        if not self.path:
            return "fashion_mnist"
        folder = self._folder()
        digest = hashlib.sha256(str(folder.resolve()).encode())
        for name in FILES:
            stat = _file(folder, name).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"fashion_mnist_{digest.hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        edge = 28 + 2 * self.pad
        return Named(image=Feature((edge, edge, 1)), label=Feature((), 10, GARMENTS))

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        folder = self._folder()
        train, test = _pairs(folder, "train", self.pad), _pairs(folder, "t10k", self.pad)
        cut = len(train) - min(5000, len(train) // 10 + 1)
        return {"train": train[:cut], "validation": train[cut:], "test": test}

    def _folder(self) -> Path:
        if self.path:
            return local_path(self.path)
        places = (DEBIAN, downloads())
        for place in places:
            if all(_find(place, name) for name in FILES):
                return place
        raise FileNotFoundError(
            f"no Fashion-MNIST in {' or '.join(map(str, places))}; install Debian's package "
            "dataset-fashion-mnist, run `vqdit prepare fashion_mnist --download`, or "
            f"give the path {OPTION} of a folder with the four IDX files"
        )


def downloads() -> Path:
    """Returns the folder to which `download` writes."""
    return root() / "downloads" / "fashion_mnist"


def download() -> Path:
    """Downloads the four files, verifies their checksums and returns their folder.

    Raises:
        OSError: if a download fails, or a file is not the published one.
    """
    import http.client
    import urllib.request

    folder = downloads()
    folder.mkdir(parents=True, exist_ok=True)
    for name, md5 in FILES.items():
        file = folder / f"{name}.gz"
        if file.is_file() and hashlib.md5(file.read_bytes()).hexdigest() == md5:
            continue
        try:
            with urllib.request.urlopen(f"{MIRROR}{name}.gz", timeout=60) as answer:
                content = answer.read(LARGEST + 1)
        except (OSError, http.client.HTTPException) as error:
            raise OSError(f"cannot download {MIRROR}{name}.gz: {error}; try again later") from error
        if hashlib.md5(content).hexdigest() != md5:
            raise OSError(
                f"{MIRROR}{name}.gz is not the published file, as its MD5 checksum differs; try "
                "again later"
            )
        write_whole(file, content)
    return folder


def _find(folder: Path, name: str) -> Path | None:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    return None


def _pairs(folder: Path, part: str, pad: int) -> list[dict[str, Any]]:
    images = _read_idx(_file(folder, f"{part}-images-idx3-ubyte"), (28, 28))
    file = _file(folder, f"{part}-labels-idx1-ubyte")
    labels = _read_idx(file, ())
    if len(images) != len(labels):
        raise ValueError(
            f"{file} has {len(labels)} labels, but there are {len(images)} images; download all "
            "four files again"
        )
    if labels.size and labels.max() >= len(GARMENTS):
        raise ValueError(
            f"{file} has the label {labels.max()}, but Fashion-MNIST has labels 0 to "
            f"{len(GARMENTS) - 1}; download the file again"
        )
    images = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
    pairs = zip(images[..., None], labels, strict=True)
    return [{"image": image, "label": int(label)} for image, label in pairs]


def _file(folder: Path, name: str) -> Path:
    file = _find(folder, name)
    if file is None:
        raise FileNotFoundError(
            f"no {name} (or {name}.gz) in {folder}; give the path {OPTION} of a folder with "
            "the four IDX files of Fashion-MNIST"
        )
    return file


def _read_idx(file: Path, item: tuple[int, ...]) -> np.ndarray:
    """Reads an IDX file of bytes.

    The format is two zero bytes, the type (8 for bytes), the number of axes, the size of each axis
    and the data.

    Args:
        file: the file; decompressed if the name ends in .gz.
        item: required shape of each item.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is damaged: {error}; download it again") from error
    if len(content) > LARGEST:
        raise ValueError(f"{file} holds more than {LARGEST:,} bytes; download it again")
    axes = content[3] if len(content) > 3 else 0
    header = 4 + 4 * axes
    if content[:3] != b"\x00\x00\x08" or len(content) < header:
        raise ValueError(f"{file} is not an IDX file of bytes; download it again")
    shape = struct.unpack(f">{axes}I", content[4:header])
    if len(content) - header != math.prod(shape):
        raise ValueError(
            f"{file} is damaged: its header declares the shape {list(shape)}, but its data have "
            f"{len(content) - header} bytes; download it again"
        )
    if axes == 0 or shape[1:] != item:
        raise ValueError(
            f"{file} has the shape {list(shape)}, but its items must have the shape {list(item)}; "
            "use the file of Fashion-MNIST"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
