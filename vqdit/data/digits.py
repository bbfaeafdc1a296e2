"""The embedded data set: 1,797 handwritten digits of 8 x 8 pixels, carried by scikit-learn."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature
from vqdit.typing import Named


class Digits(Recorded):
    """Handwritten digits: `image` uint8 [8, 8, 1] and `label` 0 to 9.

    The ink values 0 to 16 become 0 to 255 (round(255 v / 16)). Splits are stratified by digit:
    1,437 for training, 180 for validation and 180 for test. Test set of Alpaydin & Kaynak's
    "Optical Recognition of Handwritten Digits".
    """

    def key(self) -> str:
        return "digits"

    def columns(self) -> Named[Feature]:
        names = tuple(str(digit) for digit in range(10))
        return Named(image=Feature((8, 8, 1)), label=Feature((), 10, names))

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        images = np.round(images * 255.0 / 16.0).astype(np.uint8).reshape(-1, 8, 8, 1)
        train, rest = train_test_split(
            np.arange(len(labels)), train_size=1437, stratify=labels, random_state=0
        )
        validation, test = train_test_split(
            rest, train_size=180, stratify=labels[rest], random_state=0
        )
        rows = zip(SPLITS, (train, validation, test), strict=True)
        return {
            split: [{"image": images[i], "label": int(labels[i])} for i in np.sort(part)]
            for split, part in rows
        }
