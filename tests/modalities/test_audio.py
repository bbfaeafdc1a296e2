"""Audio: WAV files bit for bit, what is refused, and pictures that show frequencies."""

import base64
import io
import wave

import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from vqdit.modalities import Audio
from vqdit.modalities.audio import spectrogram
from vqdit.modalities.base import LeftOut
from vqdit.ragged import ragged

AUDIO = Audio(samples=800, rate=8000)


def tone(frequency, *, amplitude=0.5, samples=800, rate=8000):
    wave = amplitude * np.sin(2.0 * np.pi * frequency * np.arange(samples) / rate)
    return np.round(32767.0 * wave).astype(np.int16)


def test_full_scale_is_one_and_every_step_is_exact():
    raw = jnp.arange(-(2**15), 2**15, dtype=jnp.int16)[None]
    x = Audio(samples=2**16).standardize(raw)
    assert x[0, 0, 0] == -1.0 and x[0, -1, 0] == 1.0 - 2.0**-15
    np.testing.assert_array_equal(np.diff(x[0, :, 0]), 2.0**-15)


def test_restoring_rounds_to_the_nearest_and_clips():
    x = np.asarray([-9.0, -1.0, -0.51, -0.49, 0.0, 0.49, 0.51, 1.0, 9.0])
    steps = np.asarray([1, 1, 2**-15, 2**-15, 1, 2**-15, 2**-15, 1, 1])
    restored = Audio(samples=9).restore(jnp.asarray(x * steps, jnp.float32)[None, :, None])
    assert restored[0].tolist() == [-32768, -32768, -1, 0, 0, 0, 1, 32767, 32767]


def test_a_written_file_is_sixteen_bit_mono_at_its_rate(tmp_path):
    sounds = np.stack([tone(440), tone(1000)])
    AUDIO.write(sounds, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["audio_0000.wav", "audio_0001.wav"]
    for file, sound in zip(files, sounds, strict=True):
        with wave.open(str(file)) as opened:  # the standard library's own reader
            assert opened.getparams()[:4] == (1, 2, 8000, 800)
            np.testing.assert_array_equal(np.frombuffer(opened.readframes(800), "<i2"), sound)


def test_the_page_plays_the_same_file(tmp_path):
    html = AUDIO.html(tone(440))
    start = '<audio controls src="data:audio/wav;base64,'
    assert html.startswith(start) and html.endswith('"></audio>')
    data = base64.b64decode(html.removeprefix(start).removesuffix('"></audio>'))
    sound, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 8000
    np.testing.assert_array_equal(sound, tone(440))


def test_wav_and_flac_are_read_from_a_folder_in_order(tmp_path):
    for name, frequency in (("b.wav", 300), ("a.flac", 200), ("C.WAV", 100)):
        file, kind = tmp_path / name, name.split(".")[1].upper()
        soundfile.write(file, tone(frequency), 8000, format=kind, subtype="PCM_16")
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "._b.wav").write_bytes(b"")
    found = AUDIO.read(str(tmp_path))
    np.testing.assert_array_equal(found, [tone(100), tone(200), tone(300)])


def test_a_sound_of_another_form_is_fitted_and_said(tmp_path, caplog):
    caplog.set_level("INFO")
    stereo = np.stack([tone(440), np.zeros(800, np.int16)], axis=1)
    for name, sound, rate in (
        ("a", tone(440, samples=500), 8000),
        ("b", tone(440, samples=2000), 8000),
        ("c", tone(440, samples=4410, rate=44_100), 44_100),
        ("d", stereo, 8000),
        ("e", tone(440), 8000),
    ):
        soundfile.write(tmp_path / f"{name}.wav", sound, rate, subtype="PCM_16")
    short, long, fast, stereo, same = AUDIO.read(str(tmp_path))
    np.testing.assert_array_equal(short, np.pad(tone(440, samples=500), (0, 300)))
    np.testing.assert_array_equal(long, tone(440))
    assert np.abs(fast[50:-50].astype(int) - tone(440)[50:-50]).max() < 100  # of 16384
    np.testing.assert_allclose(stereo, tone(440) / 2, atol=0.5)
    np.testing.assert_array_equal(same, tone(440))
    (said,) = caplog.messages
    assert said == (
        "converted to the form of the training data (mono, 800 samples at 8000 Hz): "
        f"{tmp_path}/a.wav and 3 more"
    )


def test_what_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "x.wav"
    with pytest.raises(FileNotFoundError, match=f"^no sound {file}$"):
        AUDIO.read(str(file))
    file.write_bytes(b"<html>")
    with pytest.raises(ValueError, match=f"^cannot decode the sound {file}: "):
        AUDIO.read(str(file))
    (tmp_path / "empty").mkdir()
    match = f"no sound in the folder {tmp_path}/empty; known endings: .wav, .flac, .ogg, "
    with pytest.raises(ValueError, match=match):
        AUDIO.read(str(tmp_path / "empty"))


BOUNDS = {"rate": 8000, "seconds": (0.05, 0.1)}


@pytest.mark.parametrize(
    ("outside", "samples", "kept"),
    [
        ("error", 399, "the recording is shorter than 0.05 s; change the bounds, or set outside"),
        ("error", 801, "the recording is longer than 0.1 s; change the bounds, or set outside"),
        ("error", 400, 400),
        ("error", 800, 800),
        ("skip", 10, "shorter than 0.05 s"),
        ("skip", 8000, "longer than 0.1 s"),
        ("skip", 555, 555),
        ("cut", 10, 400),
        ("cut", 8000, 800),
        ("cut", 555, 555),
    ],
)
def test_recordings_outside_of_the_bounds_are_treated_as_is_said(tmp_path, outside, samples, kept):
    audio, sound = Audio(**BOUNDS, outside=outside), tone(440, samples=samples)
    soundfile.write(tmp_path / "a.wav", sound, 8000)
    if isinstance(kept, str):
        with pytest.raises(LeftOut if outside == "skip" else ValueError, match=kept):
            audio.read_cell(tmp_path / "a.wav")
        return
    cell = audio.read_cell(tmp_path / "a.wav")
    done = {10: "padded with silence to 0.05 s", 8000: "cut to 0.1 s"}.get(samples)
    assert cell.changes == ((done,) if done else ())
    np.testing.assert_array_equal(cell.stored, np.resize(np.pad(sound, (0, 400)), kept))


def test_waveforms_have_one_length_or_any_within_bounds():
    audio = Audio(**BOUNDS)
    assert (audio.lengths, audio.shape, audio.grid) == ((400, 800), (800,), (800,))
    fixed = Audio(rate=8000, seconds=(0.1, 0.1))
    assert (fixed.lengths, fixed.shape) == (None, AUDIO.shape)
    assert AUDIO.lengths is None
    sounds = [tone(440, samples=400), tone(440, samples=777)]
    for one, same in zip(audio.pack(sounds), sounds, strict=True):
        np.testing.assert_array_equal(one, same)
    with pytest.raises(ValueError, match="801"):
        audio.pack([tone(440, samples=801)])


def test_given_sounds_are_brought_within_the_bounds_and_it_is_said(tmp_path, caplog):
    caplog.set_level("INFO")
    for name, samples in (("a", 10), ("b", 500), ("c", 9000)):
        soundfile.write(tmp_path / f"{name}.wav", tone(440, samples=samples), 8000)
    assert [len(sound) for sound in Audio(**BOUNDS).read(str(tmp_path))] == [400, 500, 800]
    (said,) = caplog.messages
    assert said.startswith("converted to the form of the training data (mono, 0.05 s to 0.1 s at ")


@pytest.mark.parametrize("seconds", [(1.0,), (2.0, 1.0), (-1.0, 1.0), (0.0, 0.00001)])
def test_bounds_that_are_none_are_refused(seconds):
    with pytest.raises(ValueError, match="Audio needs seconds as a shortest and a longest"):
        Audio(seconds=seconds)


@pytest.mark.parametrize("frequency", [500, 1000, 2000, 3500])
def test_a_spectrogram_is_black_at_the_frequency_that_sounds(frequency):
    picture = spectrogram(tone(frequency, samples=8000))
    assert (picture.dtype, picture.shape) == (np.uint8, (64, 64, 1))
    darkest = picture[..., 0].argmin(axis=0)
    row = 63 - frequency * 64 / 4000  # upwards to half the rate
    assert np.abs(darkest - row).max() <= 1.0
    assert (picture.min(axis=0) < 10).all()
    assert np.mean(picture == 255) > 0.8  # white is 60 dB below


def test_time_goes_to_the_right_and_silence_is_white():
    sound = np.concatenate([np.zeros(4000, np.int16), tone(1000, samples=4000)])
    picture = spectrogram(sound)
    assert (picture[:, :28] == 255).all()
    assert (picture[:, 36:].min(axis=0) < 10).all()
    assert (spectrogram(np.zeros(8000, np.int16)) == 255).all()
    assert spectrogram(tone(1000, samples=10)).shape == (64, 64, 1)  # shorter than one window


@pytest.mark.parametrize(
    ("rate", "tokens", "names"),
    [
        (8000, 4, ["0-25 ms", "25-50 ms", "50-75 ms", "75-100 ms"]),
        (400, 2, ["0.00-1.00 s", "1.00-2.00 s"]),
    ],
)
def test_its_regions_are_spans_of_time(rate, tokens, names):
    regions = Audio(samples=800, rate=rate).regions(tone(440), (tokens,))
    assert [name for name, _ in regions] == names
    np.testing.assert_array_equal([belongs for _, belongs in regions], np.eye(tokens, dtype=bool))


def test_stereo_sounds_have_two_channels_everywhere(tmp_path):
    audio = Audio(rate=8000, seconds=(0.001, 0.01), channels=2, outside="cut")
    assert (audio.shape, audio.grid, audio.lengths) == ((80, 2), (80,), (8, 80))
    stored = np.stack([np.arange(80), -np.arange(80)], axis=1).astype(np.int16)[None]
    x = audio.standardize(jnp.asarray(stored))
    assert x.shape == (1, 80, 2)
    np.testing.assert_array_equal(audio.restore(x), stored)
    audio.write(ragged([stored[0]]), tmp_path)
    (found,) = audio.read(str(tmp_path / "audio_0000.wav"))
    np.testing.assert_array_equal(found, stored[0])
    mono = tmp_path / "mono.wav"
    soundfile.write(mono, stored[0, :4, 0], 8000)
    cell = audio.read_cell(str(mono))
    np.testing.assert_array_equal(
        cell.stored, np.pad(stored[0, :4, :1], ((0, 4), (0, 0))).repeat(2, 1)
    )
    assert cell.changes == (
        "mono, stored as two equal channels",
        "padded with silence to 0.001 s",
    )
    assert audio.draw(stored).shape == (1, 64, 64, 1)
    assert "audio/wav" in audio.html(stored[0])
    with pytest.raises(ValueError, match=r"Audio needs channels 1 \(mono\) or 2 \(stereo\), got 3"):
        Audio(channels=3)


def test_lengths_are_in_seconds():
    sound = Audio(rate=8000, seconds=(0.5, 2.0))
    assert sound.positions(0.75) == 6000
    assert (sound.shown_length(4000), sound.shown_length(6001)) == ("0.5 s", "0.7501 s")
