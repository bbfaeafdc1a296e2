"""The digits: exactly those of scikit-learn, once each, evenly divided; their tones and names."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vqdit.data import Digits
from vqdit.data.digits import RATE, TONES, WORDS
from vqdit.data.sources import SPLITS, Feature


@pytest.fixture(scope="module")
def parts():
    return everything(Digits())


def everything(source):
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


def test_features_are_pictures_sounds_texts_and_ten_named_classes():
    features = Digits().features()
    assert set(features) == {"image", "audio", "text", "label"}
    assert features["image"] == Feature((8, 8, 1))
    assert features["audio"] == Feature((800,), dtype="int16")
    assert features["text"] == Feature((5,))
    assert features["label"] == Feature((), 10, tuple("0123456789"))


def test_they_prepare_themselves_at_first_use_and_only_then(data_folder, monkeypatch):
    assert not data_folder.exists()
    assert len(Digits().split("test")) == 180
    monkeypatch.setattr(Digits, "examples", lambda _: pytest.fail("prepared again"))
    assert len(Digits().split("validation")) == 180
    assert [file.name for file in data_folder.iterdir()] == ["digits_with_tones_0"]


def test_the_two_strongest_frequencies_are_those_of_the_digit(parts):
    for part in parts.values():
        assert part["audio"].dtype == np.int16
        spectra = np.abs(np.fft.rfft(part["audio"] * np.hanning(800), 8000))  # one bin per Hz
        assert spectra.shape[1] == RATE // 2 + 1
        low = 600 + spectra[:, 600:1000].argmax(1)
        high = 1100 + spectra[:, 1100:1600].argmax(1)
        expected = np.asarray(TONES)[part["label"]]
        assert np.abs(np.stack([low, high], 1) - expected).max() <= 1
        rest = spectra.copy()
        for row, pair in enumerate(expected):
            for frequency in pair:
                rest[row, frequency - 21 : frequency + 22] = 0.0
        assert (rest.max(1) < 0.2 * spectra.max(1)).all()


def test_tones_are_those_of_a_telephone():
    keys = {
        digit: (row, column)
        for row, line in enumerate(["123", "456", "789", " 0"])
        for column, digit in enumerate(line)
        if digit != " "
    }
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    expected = [(rows[r], columns[c]) for _, (r, c) in sorted(keys.items())]
    assert list(TONES) == expected


def test_a_tone_is_two_sines_and_little_noise(parts):
    """Least squares finds both amplitudes; what is left is the noise."""
    audio, labels = parts["train"]["audio"] / 32767.0, parts["train"]["label"]
    seconds, amplitudes, noise = np.arange(800) / RATE, [], []
    for digit, tones in enumerate(TONES):
        angles = [2 * np.pi * tone * seconds for tone in tones]
        basis = np.stack([f(angle) for angle in angles for f in (np.sin, np.cos)], 1)
        fitted, *_ = np.linalg.lstsq(basis, audio[labels == digit].T, rcond=None)
        amplitudes.append(np.hypot(fitted[::2], fitted[1::2]).ravel())
        noise.append((audio[labels == digit].T - basis @ fitted).std(0))
    amplitudes, noise = np.concatenate(amplitudes), np.concatenate(noise)
    assert 0.2 - 0.003 < amplitudes.min() < 0.201 and 0.399 < amplitudes.max() < 0.4 + 0.003
    assert amplitudes.mean() == pytest.approx(0.3, abs=0.003)
    assert noise.mean() == pytest.approx(0.01, rel=0.01)


def test_every_tone_is_drawn_by_seed_and_row_of_the_published_digits(parts):
    published = load_digits()
    pixels = (510 * published.data.astype(int) + 16) // 32
    rows_of = {image.astype(np.uint8).tobytes(): row for row, image in enumerate(pixels)}
    test = parts["test"]
    for image, audio, label in zip(test["image"], test["audio"], test["label"], strict=True):
        draw = np.random.Generator(np.random.Philox([0, rows_of[image.tobytes()]]))
        wave = draw.normal(0.0, 0.01, 800)
        for tone in TONES[label]:
            phase, amplitude = draw.uniform(0, 2 * np.pi), draw.uniform(0.2, 0.4)
            wave += amplitude * np.sin(2 * np.pi * tone * np.arange(800) / 8000 + phase)
        np.testing.assert_allclose(audio, 32767 * wave, atol=0.5 + 1e-6)


def test_another_seed_gives_other_tones_of_the_same_digits(parts):
    again = everything(Digits(seed=1))
    for name in SPLITS:
        for column in ("image", "text", "label"):
            np.testing.assert_array_equal(again[name][column], parts[name][column])
        assert (again[name]["audio"] != parts[name]["audio"]).any(1).all()
    assert Digits(seed=1).fingerprint()["checksum"] != Digits().fingerprint()["checksum"]


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match="Digits needs seed >= 0, got -1"):
        Digits(seed=-1)


def test_texts_are_the_names_padded_by_zeros(parts):
    assert WORDS[3] == "three" and len(WORDS) == 10
    for part in parts.values():
        assert part["text"].dtype == np.uint8 and part["text"].shape[1] == 5
        for text, label in zip(part["text"], part["label"], strict=True):
            assert bytes(text) == WORDS[label].encode().ljust(5, b"\0")


def test_an_unknown_split_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="unknown split 'valid'; choose one of: train, validation, test"
    ):
        Digits().split("valid")
