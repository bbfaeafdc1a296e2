"""Recordings of any kind become the examples that their owner meant, and what was done is said."""

import gzip

import numpy as np
import pytest
import soundfile

from vqdit.data import AsteriskSpeech, AudioFolder
from vqdit.data.builders.description import remarks
from vqdit.data.recordings import windows
from vqdit.data.sources import SPLITS
from vqdit.modalities import Audio, Text
from vqdit.modalities.loudness import brought_to, k_weighting, loudness

RATE = 8000


@pytest.fixture(autouse=True)
def folder(data_folder, tmp_path):
    return tmp_path / "x"


def tone(number, samples=800, level=0.5):
    """A sine by whose frequency it is known again; its first sample is not 0."""
    return level * np.cos(2.0 * np.pi * (400 + 40 * number) * np.arange(samples) / RATE)


def write(file, values, rate=RATE):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, values, rate)


def twenty(folder, samples=lambda number: 800, group=lambda number: "", ending=".wav"):
    for number in range(20):
        write(folder / group(number) / f"{number:02d}{ending}", tone(number, samples(number)))


def source(folder, audio=None, **fields):
    audio = audio or Audio(rate=RATE, samples=800)
    return AudioFolder(path=str(folder), audio=audio, **fields)


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def number_of(sound):
    """The number of the tone of a sound."""
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8000))
    return round((spectrum.argmax() - 400) / 40)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (5, [(0, 5)]),
        (10, [(0, 10)]),
        (23, [(0, 10), (10, 20), (20, 23)]),
        (21, [(0, 10), (10, 20), (18, 21)]),
    ],
)
def test_parts_cover_a_recording_and_none_is_too_short(length, expected):
    assert windows(length, 3, 10) == expected


def test_windows_of_one_length_begin_earlier_at_the_end():
    assert windows(25, 10, 10) == [(0, 10), (10, 20), (15, 25)]


def test_whole_recordings_keep_their_length_class_and_split(folder):
    twenty(folder, lambda n: 500 + 10 * n, lambda n: "ab"[n % 2])
    (folder / "a" / "notes.doc").touch()
    found = source(folder, Audio(rate=RATE, seconds=(0.05, 0.1)))
    feature = found.features()["audio"]
    assert (feature.shape, feature.dtype, feature.ragged) == ((800,), "int16", True)
    seen = []
    for split, count in zip(SPLITS, (16, 2, 2), strict=True):
        taken = everything(found, split)
        numbers = [number_of(sound) for sound in taken["audio"]]
        assert len(numbers) == count
        assert [len(sound) for sound in taken["audio"]] == [500 + 10 * n for n in numbers]
        assert taken["label"].tolist() == [n % 2 for n in numbers]
        seen += numbers
    assert sorted(seen) == list(range(20))
    assert remarks(found.prepare()) == ["left out, because of their endings: 1 .doc"]


def test_long_recordings_are_divided_within_one_split(folder):
    twenty(folder, lambda n: 2000)
    found = source(folder)
    numbers = [[number_of(s) for s in everything(found, split)["audio"]] for split in SPLITS]
    assert [len(part) for part in numbers] == [48, 6, 6]
    assert not set(numbers[0]) & set(numbers[1] + numbers[2])
    first = everything(found, "test")["audio"][:3]
    whole = np.round(tone(numbers[2][0], 2000) * 32768).clip(-32768, 32767)
    for part, start in zip(first, (0, 800, 1200), strict=True):
        np.testing.assert_allclose(part, whole[start : start + 800], atol=1)
    assert remarks(found.prepare()) == ["divided into parts of at most 0.1 s: 20"]


def test_what_is_too_short_or_long_is_refused_left_out_or_fitted(folder):
    twenty(folder, lambda n: 400 if n == 3 else 1200 if n == 4 else 800)
    short = Audio(rate=RATE, seconds=(0.1, 0.1))
    with pytest.raises(ValueError, match=r"x/03.wav: the recording is shorter than 0.1 s; change"):
        source(folder, short).features()
    skipping = Audio(rate=RATE, seconds=(0.1, 0.1), outside="skip")
    found = source(folder, skipping, divide=False)
    assert sum(len(found.split(split)) for split in SPLITS) == 18
    assert remarks(found.prepare()) == [
        "left out, longer than 0.1 s: 1", "left out, shorter than 0.1 s: 1"
    ]  # fmt: skip
    cutting = Audio(rate=RATE, seconds=(0.1, 0.1), outside="cut")
    found = source(folder, cutting, divide=False)
    sounds = np.concatenate([everything(found, split)["audio"] for split in SPLITS])
    assert sounds.shape == (20, 800)
    (padded,) = [s for s in sounds if not s[400:].any()]
    np.testing.assert_allclose(padded[:400], np.round(tone(3, 400) * 32768), atol=1)
    assert remarks(found.prepare()) == ["cut to 0.1 s: 1", "padded with silence to 0.1 s: 1"]


def test_rates_channels_and_formats_are_brought_to_one(folder):
    for number in range(20):
        values = np.stack([tone(number, 8000), 0.5 * tone(number, 8000)], axis=1)
        ending = (".wav", ".flac", ".ogg", ".mp3")[number % 4]
        write(folder / f"{number}{ending}", values, 2 * RATE)
    found = source(folder, Audio(rate=RATE, seconds=(0.1, 2.0)))
    for sound in everything(found, "train")["audio"]:
        spectrum = np.abs(np.fft.rfft(sound[500:2500], RATE))
        number = (spectrum.argmax() / 2 - 400) / 40  # at twice the rate, it is twice as high
        assert abs(number - round(number)) < 0.1
    lines = remarks(found.prepare())
    assert lines == ["mixed down to mono: 20", "resampled to 8000 Hz: 20"]
    stereo = source(folder, Audio(rate=RATE, samples=2000, channels=2))
    sounds = everything(stereo, "test")["audio"].astype(int)
    assert sounds.shape[1:] == (2000, 2)
    np.testing.assert_allclose(sounds[:, 500:-500, 1], sounds[:, 500:-500, 0] / 2, atol=600)


def test_clipping_offsets_and_silence_are_counted(folder):
    twenty(folder)
    write(folder / "00.wav", np.clip(8.0 * tone(0), -1.0, 1.0))
    write(folder / "01.wav", tone(1) * 0.5 + 0.25)
    write(folder / "02.wav", tone(2) * 1e-3)
    found = source(folder)
    sounds = [s for split in SPLITS for s in everything(found, split)["audio"]]
    assert len(sounds) == 19
    assert all(abs(sound.mean()) < 328 for sound in sounds)
    assert remarks(found.prepare()) == [
        "a constant offset (DC) removed: 1",
        "clipped already in the file: 1",
        "left out, silent: 1",
    ]


def test_transcripts_are_beside_the_files_or_their_names(folder):
    twenty(folder, lambda n: 1600 if n == 5 else 800)
    for number in range(1, 20):
        (folder / f"{number:02d}.txt").write_text(f"\ufeffTone {number}.\n")
    text = Text(length=8, variable=True)
    found = source(folder, transcripts="files", text=text)
    for split in SPLITS:
        taken = everything(found, split)
        for sound, letters, is_there in zip(
            taken["audio"], taken["text"], taken["present_text"], strict=True
        ):
            number = number_of(sound)
            assert is_there == (number not in (0, 5))
            assert bytes(letters).decode() == (f"Tone {number}." if is_there else "")
    lines = remarks(found.prepare())
    assert "without text, since the text belongs to a longer recording: 1" in lines
    assert "left out, because of their endings: 19 .txt" not in lines
    key = found.key()
    (folder / "03.txt").write_text("new")
    assert found.key() != key
    (folder / "07.wav").rename(folder / "please_hold__the line.wav")
    named = source(folder, transcripts="names", text=Text(length=32, variable=True))
    texts = [bytes(t) for split in SPLITS for t in everything(named, split)["text"]]
    assert b"please hold the line" in texts and b"03" in texts
    form = {"length": 2, "variable": True}
    short = source(folder, transcripts="names", text=Text(**form, outside="skip"))
    assert "left out, text longer than 2 bytes: 1" in remarks(short.prepare())
    refusing = source(folder, transcripts="names", text=Text(**form))
    with pytest.raises(ValueError, match="please_hold__the line.wav: the text 'please hold the li"):
        refusing.features()


def test_what_cannot_be_decoded_is_named_or_left_out(folder):
    twenty(folder)
    for number in (4, 11):
        (folder / f"{number:02d}.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="cannot decode the sound .*04.wav|11.wav") as error:
        source(folder).features()
    assert all(f"{n:02d}.wav" in str(error.value) for n in (4, 11))
    assert str(error.value).endswith("with on-error=skip (in training: --data.source.on-error)")
    found = source(folder, on_error="skip")
    assert sum(len(found.split(split)) for split in SPLITS) == 18
    lines = remarks(found.prepare())
    assert sum(line.startswith("left out: cannot decode the sound") for line in lines) == 2


def test_missing_folders_and_empty_ones_are_refused(folder):
    with pytest.raises(FileNotFoundError, match="of a folder of sounds"):
        source(folder).features()
    folder.mkdir()
    with pytest.raises(
        ValueError, match="no sound in .*; the names of files must end in .wav, .flac"
    ):
        source(folder).features()


def test_the_k_weighting_is_that_of_the_standard():
    """ITU-R BS.1770-5, tables 1 and 2; and its sine of 997 Hz at full scale, -3.01 LKFS."""
    expected = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285],
        [1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0],
        [1.0, -1.99004745483398, 0.99007225036621],
    ]
    expected = np.reshape(expected, (2, 6))
    np.testing.assert_allclose(k_weighting(48_000), expected, rtol=1e-7)
    for rate in (8000, 48_000):
        sine = np.round(32767 * np.sin(2 * np.pi * 997 * np.arange(2 * rate) / rate))
        sine = sine.astype(np.int16)
        assert loudness(sine, rate) == pytest.approx(-3.01, abs=0.02)
        assert loudness(np.stack([sine, sine], axis=1), rate) == pytest.approx(0.0, abs=0.02)
        quiet = np.concatenate([sine // 10, np.zeros(3 * rate, np.int16)])  # pauses do not count
        assert loudness(quiet, rate) == pytest.approx(-23.01, abs=0.5)


def test_recordings_become_equally_loud_but_do_not_clip(folder):
    for number in range(20):
        write(folder / f"{number}.wav", tone(number, 8000, 0.02 * (1 + number)))
    click = np.zeros(8000)
    click[::800] = 0.5
    write(folder / "0.wav", click)
    found = source(folder, Audio(rate=RATE, samples=8000), loudness=-20.0)
    sounds = [s for split in SPLITS for s in everything(found, split)["audio"]]
    levels = sorted(loudness(sound, RATE) for sound in sounds)
    np.testing.assert_allclose(levels[1:], -20.0, atol=0.05)
    assert max(np.abs(sound.astype(int)).max() for sound in sounds) == 32767
    assert remarks(found.prepare()) == [
        "brought to -20 LUFS: 20", "softer than -20 LUFS, since they would clip: 1"
    ]  # fmt: skip
    silence = np.zeros(800, np.int16)
    assert loudness(silence, RATE) == -np.inf
    np.testing.assert_array_equal(brought_to(silence, RATE, -20.0)[0], silence)
    with pytest.raises(ValueError, match="AudioFolder needs loudness from -70 to 0 LUFS, got 3"):
        AudioFolder(loudness=3.0)


def test_prompts_are_read_with_their_texts(folder):
    names = [f"say/{n:02d}" for n in range(20)] + ["again", "beep", "silence/1"]
    for number, name in enumerate(names):
        write(folder / f"{name}.wav", tone(number, 1600 + 10 * number))
    lines = [f"say/{n:02d}: Tone  {n}. (simple tone)" for n in range(20)]
    lines += [
        "; a comment: no name",
        "again: TONE 3.",
        "beep: [a beep]",
        "silence/1: (silence)",
        "",
    ]
    texts = folder / "texts.gz"
    texts.write_bytes(gzip.compress("\n".join(lines).encode()))
    found = AsteriskSpeech(path=str(folder), transcripts=str(texts))
    split_of, count = {}, 0
    for split in SPLITS:
        taken = everything(found, split)
        for sound, letters in zip(taken["audio"], taken["text"], strict=True):
            number, text = number_of(sound), bytes(letters).decode()
            assert text == ("TONE 3." if number == 20 else f"Tone {number}.")
            assert len(sound) == 1600 + 10 * number
            assert split_of.setdefault(text.lower(), split) == split
            count += 1
    assert count == 21
    assert remarks(found.prepare()) == ["left out, without words: 2"]
    texts.write_text("say/00: One.")
    with pytest.raises(ValueError, match="the recording .*again.wav has no transcript"):
        AsteriskSpeech(path=str(folder), transcripts=str(texts)).key()


def test_without_the_packages_their_command_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get install asterisk-core-sounds-en-wav"):
        AsteriskSpeech(path=str(tmp_path)).features()
    write(tmp_path / "a.wav", tone(1))
    missing = str(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match="run `apt-get install asterisk-core-sounds-en`, "):
        AsteriskSpeech(path=str(tmp_path), transcripts=missing).features()
