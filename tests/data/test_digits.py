"""The digits: exactly those of scikit-learn, once each, evenly divided."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vqdit.data import Digits
from vqdit.data.sources import SPLITS, Feature


@pytest.fixture(scope="module")
def parts():
    source = Digits()
    splits = {name: source.split(name) for name in SPLITS}
    return {name: split.take(np.arange(len(split))) for name, split in splits.items()}


def rows(arrays):
    return [(x.tobytes(), int(y)) for x, y in zip(arrays["image"], arrays["label"], strict=True)]


def test_splits_have_the_sizes_that_are_promised(parts):
    sizes = [(len(part["image"]), len(part["label"])) for part in parts.values()]
    assert sizes == [(1437, 1437), (180, 180), (180, 180)]


def test_splits_together_are_all_digits_once_each(parts):
    images, labels = load_digits(return_X_y=True)
    pixels = (510 * images.astype(int) + 16) // 32  # round(255 v / 16) in whole numbers
    published = zip((x.astype(np.uint8).tobytes() for x in pixels), labels.tolist(), strict=True)
    assert sum((Counter(rows(part)) for part in parts.values()), Counter()) == Counter(published)


def test_splits_share_no_digit(parts):
    train, validation, test = ({image for image, _ in rows(part)} for part in parts.values())
    assert not train & validation and not train & test and not validation & test


def test_every_split_has_its_share_of_every_digit(parts):
    everywhere = np.bincount(load_digits().target, minlength=10)
    for part in parts.values():
        share = everywhere * len(part["label"]) / 1797
        assert np.abs(np.bincount(part["label"], minlength=10) - share).max() <= 1


def test_features_are_grey_pictures_and_ten_named_classes():
    features = Digits().features()
    assert features["image"] == Feature((8, 8, 1))
    assert features["label"] == Feature((), 10, tuple("0123456789"))


def test_they_prepare_themselves_at_first_use_and_only_then(data_folder, monkeypatch):
    assert not data_folder.exists()
    assert len(Digits().split("test")) == 180
    monkeypatch.setattr(Digits, "examples", lambda _: pytest.fail("prepared again"))
    assert len(Digits().split("validation")) == 180
    assert [file.name for file in data_folder.iterdir()] == ["digits"]


def test_an_unknown_split_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="unknown split 'valid'; one of: train, validation, test"):
        Digits().split("valid")
