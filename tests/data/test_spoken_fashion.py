"""Spoken garments: images as published, each with a caption of it and the speech of just that."""

import logging
import shutil
import zlib
from itertools import product

import numpy as np
import pytest

from tests.data.garments import garments, put
from vqdit.data import Data, SpokenFashion, espeak, fashion_mnist, spoken_fashion
from vqdit.data.espeak import VOICES, Way
from vqdit.data.fashion_mnist import GARMENTS
from vqdit.data.sources import SPLITS, Feature
from vqdit.data.spoken_fashion import MANNERS, NOUNS, WORDINGS, Utterances

needs_speaker = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")
WAYS = [Way(voice, *manner) for voice, manner in product(VOICES, MANNERS)]
LINES = spoken_fashion._lines(WAYS)


def spoken(line):
    """What espeak-ng says."""
    return espeak.speak(line.text, line.way)


def murmur(text, way):
    """Noise that is a line's own, after some silence."""
    generator = np.random.default_rng(zlib.crc32(repr((text, way)).encode()))
    noise = generator.integers(-9000, 9000, 400).astype(np.int16)
    return np.concatenate([np.zeros(60, np.int16), noise]), 8000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with made-up garments and murmured captions, prepared once."""
    folder = tmp_path_factory.mktemp("spoken")
    put(folder / "raw", garments(400, 0), garments(90, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQDIT_DATA", str(folder / "prepared"))
        patch.setattr(spoken_fashion, "speak", murmur)
        patch.setattr(spoken_fashion, "check_speaker", lambda who: None)
        SpokenFashion(path=str(folder / "raw")).split("train")
    return folder


@pytest.fixture
def source(prepared, monkeypatch):
    monkeypatch.setenv("VQDIT_DATA", str(prepared / "prepared"))
    monkeypatch.setattr(spoken_fashion, "speak", lambda *line: pytest.fail("spoken again"))
    return SpokenFashion(path=str(prepared / "raw"))


@pytest.fixture(scope="module")
def heard():
    """The line of every murmur."""
    return {
        spoken_fashion._fit(*murmur(line.text, line.way), line).tobytes(): line for line in LINES
    }


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def text_of(stored):
    return bytes(stored).rstrip(b"\0").decode()


def test_captions_are_english_and_fit():
    captions = [wording.format(noun) for noun in NOUNS for wording in WORDINGS]
    assert len(set(captions)) == 40 and max(map(len, captions)) <= 24
    assert captions[4:8] == ["trousers", "i see trousers", "show me trousers", "look at trousers"]
    assert captions[-2:] == ["show me an ankle boot", "look at an ankle boot"]
    for noun, garment in zip(NOUNS, GARMENTS, strict=True):
        assert noun.removeprefix("an ").removeprefix("a ").startswith(garment)


def test_features_are_images_sounds_texts_and_labels(source):
    assert dict(source.features()) == {
        "image": Feature((28, 28, 1)),
        "audio": Feature((8192,), dtype="int16"),
        "text": Feature((24,)),
        "label": Feature((), 10, GARMENTS),
    }
    batch = Data(source=source, batch_size=16).first_batch(0)
    for name, feature in source.features().items():
        assert batch.data[name].shape[1:] == feature.shape
        assert batch.data[name].dtype == feature.stored and batch.present[name].all()


def test_images_and_labels_are_those_of_the_files(source):
    train, test = garments(400, 0), garments(90, 1)
    images, labels = (np.concatenate(parts) for parts in zip(train, test, strict=True))
    parts = [everything(source, split) for split in SPLITS]
    assert [len(part["image"]) for part in parts] == [359, 41, 90]
    np.testing.assert_array_equal(np.concatenate([p["image"] for p in parts])[..., 0], images)
    np.testing.assert_array_equal(np.concatenate([p["label"] for p in parts]), labels)


def test_every_example_is_a_caption_of_its_class_and_the_speech_of_that(source, heard):
    for split in SPLITS:
        arrays = everything(source, split)
        for audio, text, label in zip(*map(arrays.get, ("audio", "text", "label")), strict=True):
            line = heard[audio.tobytes()]
            assert (line.label, line.text) == (label, text_of(text))


def test_every_split_has_all_captions_in_ways_of_its_own(source, heard):
    ways = []
    for split, count in zip(SPLITS, (40, 5, 5), strict=True):
        examples = Utterances().split(split)
        lines = [heard[x.tobytes()] for x in examples.take(np.arange(len(examples)))["audio"]]
        ways.append({line.way for line in lines})
        assert len(ways[-1]) == count and len(set(lines)) == len(lines) == 40 * count
        assert {line.text for line in lines} == {line.text for line in LINES}
    assert set.union(*ways) == set(WAYS) and sum(map(len, ways)) == 50


def test_an_utterance_is_drawn_by_seed_split_and_row(source):
    for number, (split, each) in enumerate(zip(SPLITS, (160, 20, 20), strict=True)):
        rows = np.asarray([7, 3, 7, 20])
        arrays = source.split(split).take(rows)
        draws = [np.random.Generator(np.random.Philox([0, number, int(row)])) for row in rows]
        chosen = [
            label * each + draw.integers(each)
            for draw, label in zip(draws, arrays["label"], strict=True)
        ]
        expected = Utterances().split(split).take(np.asarray(chosen))
        for column in ("audio", "text", "label"):
            np.testing.assert_array_equal(arrays[column], expected[column])


def test_another_seed_chooses_other_utterances_for_the_same_images(source):
    other = SpokenFashion(path=source.path, seed=1)
    one, two = everything(source, "train"), everything(other, "train")
    np.testing.assert_array_equal(one["image"], two["image"])
    np.testing.assert_array_equal(one["label"], two["label"])
    assert (one["audio"] != two["audio"]).any(1).mean() > 0.9  # 1 in 160 is the same by chance
    assert source.fingerprint() != other.fingerprint()


def test_the_fingerprint_knows_both_parts(source, tmp_path):
    found = source.fingerprint()
    assert found["utterances"] == Utterances().fingerprint() and found["seed"] == 0
    put(tmp_path / "raw", garments(400, 2), garments(90, 1))
    other = SpokenFashion(path=str(tmp_path / "raw")).fingerprint()
    assert other["garments"] != found["garments"] and other["utterances"] == found["utterances"]


def test_what_is_prepared_needs_no_speaker(source, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert len(source.split("test")) == 90


def test_without_espeak_the_way_to_get_it_is_named_before_any_work(
    tmp_path, data_folder, monkeypatch
):
    put(tmp_path / "raw", garments(40, 0), garments(12, 1))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for use in (lambda x: x.split("train"), SpokenFashion.fingerprint):
        with pytest.raises(FileNotFoundError, match="espeak-ng, .*; run `apt-get install espeak-"):
            use(SpokenFashion(path=str(tmp_path / "raw")))
    assert not data_folder.exists()


def test_without_garments_nothing_is_spoken(tmp_path, data_folder, monkeypatch):
    monkeypatch.setattr(spoken_fashion, "check_speaker", lambda who: None)
    monkeypatch.setattr(spoken_fashion, "speak", lambda *line: pytest.fail("spoken"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    with pytest.raises(FileNotFoundError, match="no Fashion-MNIST in .*dataset-fashion-mnist"):
        SpokenFashion().split("train")
    assert not data_folder.exists()


def test_speech_is_resampled_trimmed_and_brought_to_one_peak():
    seconds = np.arange(11025) / 22050
    tone = np.round(5000 * np.sin(2 * np.pi * 1000 * seconds)).astype(np.int16)
    speech = np.concatenate([np.zeros(4410, np.int16), tone])
    audio = spoken_fashion._fit(speech, 22050, LINES[0])
    assert audio.dtype == np.int16 and audio.shape == (8192,)
    assert np.abs(audio).max() == round(0.8 * 32767)
    assert np.abs(np.fft.rfft(audio[:4000])).argmax() == 500  # half a second: 2 Hz per bin
    assert np.abs(audio[:8]).max() > 3000  # the silence before it is gone
    assert np.abs(audio[3900:3990]).max() > 20000 and not audio[4100:].any()


def test_what_is_too_long_is_cut_and_said_so(caplog):
    with caplog.at_level(logging.WARNING):
        fitting = spoken_fashion._fit(np.full(8000, 100, np.int16), 8000, LINES[0])
        assert not caplog.records
        audio = spoken_fashion._fit(np.full(9000, 100, np.int16), 8000, LINES[0])
    assert (fitting[:7900] > 0).all() and not fitting[8000:].any() and (audio[:8000] > 0).all()
    assert "the speech of 'a t-shirt' with Way(voice='en-us', speed=220, pitch=50)" in caplog.text


@pytest.mark.parametrize("count", [0, 500])
def test_silence_is_refused_with_what_should_have_been_said(count):
    with pytest.raises(OSError, match="espeak-ng made no sound for 'a t-shirt' with .*'en-us'"):
        spoken_fashion._fit(np.zeros(count, np.int16), 8000, LINES[0])


def test_a_failing_speaker_is_quoted(tmp_path, monkeypatch):
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\necho no voices here >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OSError, match="failed to speak 'a t-shirt' with .*'en-us'.*: no voices here"
    ):
        spoken(LINES[0])


@needs_speaker
def test_every_voice_is_one_of_its_own():
    heard = {spoken(LINES[0]._replace(way=way))[0].tobytes() for way in WAYS}
    assert len(heard) == len(WAYS) == 50


@needs_speaker
def test_the_longest_captions_fit_and_are_speech(caplog):
    slowest = min(MANNERS)
    for voice, wording in product(VOICES, WORDINGS[1:]):
        way, text = Way(voice, *slowest), wording.format("an ankle boot")
        line = spoken_fashion._Line(9, text, way)
        audio = spoken_fashion._fit(*spoken(line), line)
        assert not audio[8000:].any() and audio[5000:8000].any()
        power = np.abs(np.fft.rfft(audio)) ** 2  # bins of 8000 / 8192 Hz
        assert power[82:3072].sum() > 0.8 * power.sum()  # 80 to 3000 Hz
    assert not caplog.records


@needs_speaker
def test_the_same_line_is_spoken_the_same_again():
    one, two = spoken(LINES[321]), spoken(LINES[321])
    np.testing.assert_array_equal(one[0], two[0])


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match="SpokenFashion needs seed >= 0, got -3"):
        SpokenFashion(seed=-3)
