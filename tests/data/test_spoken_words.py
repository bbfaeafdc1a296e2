"""Words that are spoken, with their texts and classes; and what cannot be spoken."""

import shutil

import numpy as np
import pytest

from vqdit.data import SpokenWords, espeak, spoken_words
from vqdit.data.sources import SPLITS
from vqdit.modalities import Audio

pytestmark = pytest.mark.usefixtures("data_folder")
needs_speaker = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
WAYS = {"voices": ("en-us", "en-gb"), "speeds": (150, 200), "pitches": (20, 50, 80)}


def hum(text, way):
    """A tone by which text and way are known again, at another rate."""
    frequency = 300 + 20 * way.pitch // 10 + 100 * (way.voice == "en-gb")
    return (
        8000 * np.cos(2 * np.pi * frequency * np.arange(100 * len(text) * way.speed) / 16000)
    ).astype(np.int16), 16000


@pytest.fixture
def hummed(monkeypatch):
    monkeypatch.setattr(spoken_words, "speak", hum)
    monkeypatch.setattr(spoken_words, "check_speaker", lambda who: None)


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def test_each_word_is_spoken_in_each_way_and_each_way_is_in_one_split(hummed):
    source = SpokenWords(words=("hi", "no way", "a"), audio=Audio(seconds=(0.1, 9.0)), **WAYS)
    assert source.features()["label"].names == ("hi", "no way", "a")
    seen = []
    for split, ways in zip(SPLITS, (10, 1, 1), strict=True):
        taken = everything(source, split)
        assert len(taken["audio"]) == 3 * ways
        texts = [bytes(text).decode() for text in taken["text"]]
        assert [("hi", "no way", "a")[label] for label in taken["label"]] == texts
        lengths = [
            len(sound) / len(text) for sound, text in zip(taken["audio"], texts, strict=True)
        ]
        assert {round(length) for length in lengths} <= {50 * 150, 50 * 200}
        seen += [
            (text, sound.tobytes()[:400]) for text, sound in zip(texts, taken["audio"], strict=True)
        ]
    assert len(seen) == 36


def test_words_may_be_held_out_and_come_from_a_file(hummed, tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeff" + "\n".join(f" word  {n}\n" for n in range(12)) + "\nword 3\n")
    few = {"voices": ("en-us",), "speeds": (150,), "pitches": (20, 50)}
    source = SpokenWords(path=str(file), held_out="words", audio=Audio(seconds=(0.1, 20.0)), **few)
    labels = [set(everything(source, split)["label"].tolist()) for split in SPLITS]
    assert list(map(len, labels)) == [10, 1, 1] and not labels[0] & (labels[1] | labels[2])
    assert source.features()["label"].names == tuple(f"word {n}" for n in range(12))
    assert len(source.split("train")) == 20


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speeds": (20,)}, "SpokenWords needs speeds from 80 to 500"),
        ({"pitches": (100,)}, "SpokenWords needs pitches from 0 to 99"),
        ({"voices": ()}, "SpokenWords needs voices"),
    ],
)
def test_ways_of_speaking_that_there_are_not_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SpokenWords(**fields)


def test_words_that_cannot_be_spoken_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="SpokenWords has no words in words; give at least one"):
        SpokenWords(words=(" ",)).key()
    with pytest.raises(ValueError, match=r"words: the phrase .* must be printable"):
        SpokenWords(words=("a\x07b",)).key()
    with pytest.raises(FileNotFoundError, match="the list of words .* does not exist"):
        SpokenWords(path=str(tmp_path / "none.txt")).key()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="SpokenWords needs the program espeak-ng"):
        SpokenWords().features()


@needs_speaker
def test_espeak_speaks_words_that_look_like_options():
    sound, rate = espeak.speak("-v", espeak.Way("en-us", 200, 50))
    assert rate == 22050 and len(sound) > 2000 and np.abs(sound).max() > 3000
