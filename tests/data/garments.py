"""Files in the format of Fashion-MNIST, with made-up garments."""

import gzip
import struct

import numpy as np

from vqdit.data import FashionMNIST, fashion_mnist

NAMES = list(fashion_mnist.FILES)


def idx(array, kind=8):
    """An IDX file of an array."""
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def garments(count, seed, edge=28):
    """Random images and labels."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, edge, edge), dtype=np.uint8)
    return images, rng.integers(0, 10, count, dtype=np.uint8)


def put(folder, train, test, packed=True):
    """Writes the four files; returns their source."""
    folder.mkdir(exist_ok=True)
    for name, array in zip(NAMES, (*train, *test), strict=True):
        content = idx(array)
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return FashionMNIST(path=str(folder))
