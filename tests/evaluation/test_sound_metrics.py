"""Metrics of sounds: notes that were played are heard, phrases are told apart, and both counted."""

import sys

import numpy as np
import pytest

from vqdit.data import Chorales, SpokenWords
from vqdit.evaluation import phrases, sound_metrics
from vqdit.evaluation.notes import Note, f1, onsets, score_notes, transcribe
from vqdit.evaluation.phrases import PhraseRecognizer, words_of
from vqdit.evaluation.recognizers import Recognizer
from vqdit.evaluation.text_measurement import Settings
from vqdit.modalities import Audio, Label, Text
from vqdit.ragged import ragged
from vqdit.typing import Named

RATE = 16_000


def played(chords, beat=0.5):
    """Decaying harmonic tones."""
    time = np.arange(round(beat * RATE)) / RATE
    parts = []
    for chord in chords:
        tones = [
            np.sin(2 * np.pi * k * 440.0 * 2 ** ((note - 69) / 12) * time) / k
            for note in chord
            for k in range(1, 7)
        ]
        parts.append(np.sum(tones, axis=0) * np.exp(-4.0 * time))
    return np.round(3000 * np.concatenate([*parts, np.zeros(2000)])).astype(np.int16)


def test_the_notes_of_tones_are_heard_at_their_times():
    chords = [[48, 55, 64, 72], [43, 59, 62, 67], [50], [57, 60]]
    sound = played(chords)
    starts = onsets(sound / 32768.0, RATE)
    np.testing.assert_allclose(starts, [0.0, 0.5, 1.0, 1.5], atol=0.03)
    found = transcribe(sound, RATE)
    assert f1(found, score_notes(chords, 0.5)) > 0.85
    assert f1(found, score_notes([[n + 1 for n in chord] for chord in chords], 0.5)) < 0.3
    assert f1(transcribe(np.stack([sound, sound], axis=1), RATE), found) == 1.0


def test_nothing_is_heard_in_silence():
    assert transcribe(np.zeros(RATE, np.int16), RATE) == []
    assert transcribe(np.zeros(10, np.int16), RATE) == []


def test_f1_counts_each_note_once_and_only_near_its_onset():
    real = [Note(0.0, 60), Note(0.0, 64), Note(0.5, 60)]
    assert f1(real, real) == 1.0 and f1([], []) == 1.0 and f1([], real) == 0.0
    assert f1([Note(0.04, 60), Note(0.03, 60), Note(0.58, 60)], real) == pytest.approx(2 / 6)
    assert f1([Note(0.46, 60)], real) == pytest.approx(2 / 4)


def test_words_are_compared_as_they_are_spoken():
    assert (
        words_of("Press 1, or 42; it's OK \N{EM DASH} don't!")
        == "press one or four two it's ok don't"
    )
    assert (
        words_of("\N{RIGHT SINGLE QUOTATION MARK}quoted' caller\N{RIGHT SINGLE QUOTATION MARK}s")
        == "quoted caller's"
    )


def test_without_the_package_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ImportError, match=r'pip install "vqdit\[speech\]"'):
        PhraseRecognizer(["hello"], 8000)


def test_real_speech_is_told_apart():
    pytest.importorskip("pocketsphinx")
    speech = pytest.importorskip("shutil").which("espeak-ng")
    if speech is None:
        pytest.skip("needs espeak-ng")
    from vqdit.data.espeak import Way, speak

    texts = ["good morning everybody", "where is the railway station", "call me tomorrow evening"]
    sounds = [speak(text, Way("en-us", 150, 50)) for text in texts]
    recognizer = PhraseRecognizer([*texts, "goodbye", "qwzx yes", "Goodbye!"], sounds[0][1])
    assert recognizer.missing == ["qwzx"]
    assert list(map(recognizer.class_of, [*texts, "goodbye", "qwzx yes"])) == [0, 1, 2, 3, -1]
    found = recognizer.predict([sound for sound, _ in sounds])
    assert sum(found == np.arange(3)) >= 2  # it was trained on people, not on espeak-ng


class Known(Recognizer):
    """Hears the number that a sound is filled with."""

    missing: list = []

    def __init__(self, texts, rate):
        self.classes = {words_of(text): number for number, text in enumerate(texts)}

    def class_of(self, phrase):
        return self.classes.get(words_of(phrase), -1) if phrase != "three" else -1

    def predict(self, values):
        return np.asarray([int(value[0]) for value in values])


class Generator:
    """Says every second phrase right."""

    class Task:
        targets = Named(audio=None)
        conditions = Named()

        def modality(self, name):
            return {"audio": Audio(seconds=(0.001, 1.0)), "text": Text(length=9, variable=True)}[
                name
            ]

    task, frozen = Task(), {}

    def __init__(self):
        self.task.targets = Named(audio=None, text=None)

    def modality(self, name):
        return self.task.modality(name)

    def sample(self, num, *, given, **_):
        numbers = [WORDS.index(text) for text in given["text"]]
        said = [number if place % 2 else 0 for place, number in enumerate(numbers)]
        return {"audio": ragged([np.full(8, number, np.int16) for number in said])}


WORDS = ("one", "two", "three", "four")


class Spoken(SpokenWords):
    """Sounds that are filled with the number of their word."""

    def features(self):
        return Named(audio=self.raw_features()["audio"], text=self.raw_features()["text"])

    def split(self, name):
        return self

    def __len__(self):
        return 40

    def take(self, rows):
        texts = [WORDS[row % 4] for row in rows]
        return {
            "audio": ragged([np.full(8, row % 4, np.int16) for row in rows]),
            "text": Text(length=9, variable=True).pack(texts),
        }


def test_the_share_of_phrases_that_are_heard_is_counted_beside_that_of_real_ones(monkeypatch):
    monkeypatch.setattr(sound_metrics, "PhraseRecognizer", Known)
    model, source = Generator(), Spoken(words=WORDS)
    found = sound_metrics.measure_sounds(
        model, source, ["test"], ["phrase_accuracy"], Settings(num=40)
    )
    record = found["phrase_accuracy"]["audio"]
    assert record["real"]["value"] == 1.0 and record["phrases"] == 4
    assert record["left_out"] == 10 and record["count"] == 30
    assert 0.4 < record["value"] < 0.9
    table = sound_metrics.sound_table(found)
    assert table.startswith("phrase_accuracy of audio: 0.") and "1.000 real (30 sounds" in table
    with pytest.raises(ValueError, match="note_f1 needs the notes of the data Chorales, got"):
        sound_metrics.measure_sounds(model, source, ["test"], ["note_f1"], Settings(num=4))


def test_a_model_without_sounds_or_texts_is_refused():
    class Task:
        targets = Named(label=None)
        conditions = Named()

        def modality(self, name):
            return Label(classes=3)

    with pytest.raises(
        ValueError, match="note_f1 needs a target that is a sound, and a given text"
    ):
        sound_metrics.columns_of(Task(), ["note_f1"], ())


def test_scores_are_those_of_the_texts():
    score = Chorales(count=10, chords=3).score(4)
    assert [n.pitch for n in score_notes(score.chords, 0.5)] == [n for c in score.chords for n in c]
    assert phrases.RATE == 16_000
