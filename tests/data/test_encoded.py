"""Encoded data: what is written, and that flips choose as they would have flipped."""

import numpy as np
import pytest

from vqdit.data import (
    Affine,
    Data,
    Digits,
    Encoded,
    Feature,
    HorizontalFlip,
    Missing,
    Mixture,
    encoded,
)
from vqdit.data.sources import PRESENT, SPLITS

FEATURE = Feature((4, 4, 1), dtype="int16", encoded="0123456789abcdef")


def encode(raw):
    """Stands for a tokenizer: some numbers of the pixels, which a mirror image has others of."""
    assert raw.shape == (encoded.ROWS, 8, 8, 1) and raw.dtype == np.uint8
    return raw[:, ::2, ::2].astype(np.int16) - 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoded") / "digits"
    assert encoded.write(folder, Digits(), "image", FEATURE, encode) == {
        "train": 1437,
        "validation": 180,
        "test": 180,
    }
    return folder


def test_tokens_stand_in_the_place_of_their_column(folder):
    source, original = Encoded(path=str(folder)), Digits()
    assert source.features() == original.features() | {"image": FEATURE}
    for split in SPLITS:
        rows = np.asarray([0, 5, 177])
        found, wanted = source.split(split).take(rows), original.split(split).take(rows)
        pixels = wanted["image"].astype(np.int16)
        np.testing.assert_array_equal(found["image"], pixels[:, ::2, ::2] - 7)
        np.testing.assert_array_equal(found["image_mirrored"], pixels[:, ::2, ::-2] - 7)
        for name in ("audio", "text", "label", PRESENT + "image"):
            np.testing.assert_array_equal(found[name], wanted[name])
    assert source.fingerprint()["features"]["image"]["encoded"] == "0123456789abcdef"
    assert "encoded" not in original.fingerprint()["features"]["image"]


@pytest.mark.parametrize("view", ["augment", "augment_given"])
def test_flips_choose_what_they_would_have_flipped(folder, view):
    flips = {view: (HorizontalFlip(), HorizontalFlip(probability=0.3))}
    batches = [
        Data(source=source, batch_size=encoded.ROWS, **flips).first_batch(3)
        for source in (Digits(), Encoded(path=str(folder)))
    ]
    online, cached = (batch.data for batch in batches)
    assert set(online) == set(cached)
    for name in online:
        wanted = encode(online[name]) if name.startswith("image") else online[name]
        np.testing.assert_array_equal(cached[name], wanted)
    plain = Data(source=Encoded(path=str(folder)), batch_size=encoded.ROWS).first_batch(3)
    name = "image" if view == "augment" else "image_given"
    differs = (cached[name] != plain.data["image"]).any(axis=(1, 2, 3))
    assert 0.2 < differs.mean() < 0.8


def test_mixtures_of_tokens_are_flipped_too(folder):
    source = Encoded(path=str(folder))
    mixture = Mixture(sources=(source, source))
    flips = Data(source=mixture, batch_size=64, augment=(HorizontalFlip(probability=1.0),))
    flips.check()
    rows = flips.train_rows(3, 0) % 1437
    wanted = source.split("train").take(rows)["image_mirrored"]
    np.testing.assert_array_equal(flips.first_batch(3).data["image"], wanted)


def test_what_is_missing_stays_so(tmp_path):
    source = Missing(source=Digits(), column="image", share=0.5)
    encoded.write(tmp_path / "out", source, "image", FEATURE, encode)
    found = Encoded(path=str(tmp_path / "out")).split("train").take(np.arange(100))
    wanted = source.split("train").take(np.arange(100))
    np.testing.assert_array_equal(found["present_image"], wanted["present_image"])
    assert not found["image"][~found["present_image"]].any()


def test_pixels_of_tokens_cannot_be_changed(folder):
    data = Data(source=Encoded(path=str(folder)), augment=(HorizontalFlip(), Affine()))
    with pytest.raises(ValueError, match="Affine changes pixels, but the data have only tokens of"):
        data.check()
    Data(source=Encoded(path=str(folder)), augment=(HorizontalFlip(),)).check()


def test_what_cannot_be_encoded_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="already exists; choose another folder"):
        encoded.write(folder, Digits(), "image", FEATURE, encode)
    with pytest.raises(ValueError, match="no column 'video' to encode; .*: audio, image"):
        encoded.write(tmp_path / "out", Digits(), "video", FEATURE, encode)
    with pytest.raises(
        FileNotFoundError, match="no encoded data: no .*; make them with `vqdit enc"
    ):
        Encoded(path=str(tmp_path / "out")).features()
