"""Recognisers for labelled data of any user: what they find, which data they refuse."""

from types import SimpleNamespace

import numpy as np
import pytest

from vqdit.data import Source
from vqdit.data.sources import PRESENT, Feature
from vqdit.evaluation.general_recognizers import (
    NamedLabelRecognizer,
    SoundRecognizer,
    TextRecognizer,
    class_column,
    fitting,
    labelled,
)
from vqdit.evaluation.image_scores import MAX_EDGE, ImageFeatures, pixels
from vqdit.evaluation.recognizers import CLASSES, UNKNOWN, ImageRecognizer, classes_of
from vqdit.modalities import Audio, Image, Label, Text, Video
from vqdit.ragged import ragged
from vqdit.typing import Named

RATE = 4000
LABELS = np.arange(60) % 3


def sound(random, label, channels):
    """A chirp that rises, falls or stays, of random duration, loudness and noise."""
    times = np.arange(random.integers(600, 2400))
    slope = (label - 1) * 500.0 / len(times)
    phase = 2 * np.pi * np.cumsum(1000.0 + slope * times) / RATE
    wave = random.uniform(1000, 9000) * (np.sin(phase) + 0.05 * random.standard_normal(len(times)))
    return np.stack([wave] * channels, axis=1)[:, slice(None) if channels > 1 else 0].astype(
        "int16"
    )


@pytest.mark.parametrize("channels", [1, 2])
def test_sounds_of_any_length_are_recognised_and_silence_is_not(channels):
    random = np.random.default_rng(0)
    train, test = (ragged(sound(random, label, channels) for label in LABELS) for _ in range(2))
    judge = SoundRecognizer(train, LABELS, RATE)
    assert np.mean(judge.predict(test) == LABELS) >= 0.95
    short = ragged([np.zeros_like(test[0]), np.ones_like(test[0][:10])])
    assert judge.predict(short)[0] == UNKNOWN != judge.predict(short)[1]


def test_texts_are_recognised_by_their_words_and_blank_ones_are_not():
    random = np.random.default_rng(0)
    words = np.asarray(["river lake", "engine wheel", "bread milk"])

    def texts():
        return np.asarray([f"{random.integers(1000)} the {words[i]} here" for i in LABELS])

    judge = TextRecognizer(texts(), LABELS)
    np.testing.assert_array_equal(judge.predict(texts()), LABELS)
    np.testing.assert_array_equal(judge.predict(np.asarray(["  ", "milk"])), [UNKNOWN, 2])


def test_large_pictures_are_recognised_at_a_small_size():
    random = np.random.default_rng(0)

    def pictures():
        made = random.integers(0, 60, (60, 48, 40, 3), np.uint8)
        for picture, label in zip(made, LABELS, strict=True):
            picture[12 * label : 12 * label + 12, random.integers(20) :, label] += 150
        return made

    train, test = pictures(), pictures()
    assert pixels(train).shape == (60, MAX_EDGE**2 * 3)
    judge = ImageRecognizer(train, LABELS)
    assert np.mean(judge.predict(test) == LABELS) >= 0.95
    few = ImageFeatures(train[:9], LABELS[:9])  # a tenth has not one of each class
    assert np.mean(few.predict(test) == LABELS) >= 0.8
    rare = ImageFeatures(train, np.where(np.arange(60) == 7, 5, LABELS))
    assert np.mean(rare.predict(test) == LABELS) >= 0.8


FEATURES = {
    "picture": Feature((8, 8, 3)),
    "speech": Feature((100,), dtype="int16", ragged=True),
    "words": Feature((9,)),
    "clip": Feature((2, 8, 8, 3)),
    "kind": Feature((), 3, ("1", "5", "9")),
}
KINDS = {
    "picture": Image(size=(8, 8), channels=3),
    "speech": Audio(seconds=(0.01, 1.0), rate=RATE),
    "words": Text(),
    "kind": Label(classes=3, names=("1", "5", "9")),
    "clip": Video(),
}


def model(*targets, conditions=()):
    task = SimpleNamespace(
        targets=Named(dict.fromkeys(targets)), conditions=Named(dict.fromkeys(conditions))
    )
    return SimpleNamespace(task=task, modality=KINDS.__getitem__)


class Mine(Source):
    """Data of a user, of which only the columns are known."""

    other: Named[Feature] = Named({})

    def features(self):
        return Named({**FEATURES, **self.other})


def source(**changes):
    return Mine(other=Named(changes))


def test_every_kind_of_a_users_data_with_one_column_of_classes():
    """Classes whose names are numbers stay apart from the numbers of classes."""
    network = model("picture", "speech", conditions=("kind",))
    found = fitting(network, source())
    assert (set(found.fit), found.column) == ({"picture", "speech", "kind"}, "kind")
    stored = {
        "picture": np.zeros((4, 8, 8, 3), np.uint8),
        "speech": ragged([np.ones(50, np.int16)] * 4),
        "kind": np.asarray([0, 2, -1, 1], np.int32),
        PRESENT + "speech": np.asarray([True, True, True, False]),
    }
    values = labelled(stored, found, network)
    np.testing.assert_array_equal(values["kind"], [1, 9])
    np.testing.assert_array_equal(classes_of(values), [0, 2])
    assert {len(column) for column in values.values()} == {2} and CLASSES in values
    judge = found.fit["kind"](values)
    assert isinstance(judge, NamedLabelRecognizer)
    np.testing.assert_array_equal(judge.predict(np.asarray([9, 1, 5])), [2, 0, 1])


def test_the_column_of_classes():
    kind = FEATURES["kind"]
    assert class_column({"kind": kind, "label": kind}, ["kind"]) == "label"
    assert class_column({"kind": kind, "other": kind}, ["other"]) == "other"
    with pytest.raises(ValueError, match="they have several: kind, other; the columns are"):
        class_column({"kind": kind, "other": kind}, ["picture"])
    with pytest.raises(ValueError, match="one column of classes in the data, but they have none"):
        class_column({"picture": FEATURES["picture"]}, ["picture"])


def test_what_cannot_be_recognised_is_refused():
    with pytest.raises(
        ValueError, match="no recogniser for 'clip', a Video; coherence can be measur"
    ):
        fitting(model("clip", conditions=("kind",)), source())
    encoded = source(picture=Feature((2, 2, 1), encoded="abc"))
    with pytest.raises(ValueError, match="values of 'picture', but the data have only its tokens"):
        fitting(model("picture"), encoded)
