"""Sound files of any kind are read as mono at one rate, or refused by what is wrong with them."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile

from vqdit.modalities import sounds
from vqdit.modalities.sounds import read_sound

SOUND = np.asarray([-32768, -1, 0, 1, 32767, 12345], np.int16)


def tone(seconds=0.5, rate=8000, frequency=440.0):
    return 0.5 * np.sin(2.0 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64"])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_sixteen_bits_come_back_as_they_are(tmp_path, ending, as_bytes):
    file = tmp_path / f"a{ending}"
    soundfile.write(file, SOUND, 8000, subtype="PCM_16")
    read = read_sound(file.read_bytes() if as_bytes else file, 8000, 6)
    assert read.samples.dtype == np.int16 and read[1:] == (False, ())
    np.testing.assert_array_equal(read.samples, SOUND)


def test_floats_and_more_bits_are_brought_to_sixteen(tmp_path):
    values = np.asarray([-1.5, -0.5, 0.25, 1.0, 3.4 / 32768, 3.6 / 32768])
    expected = [-32768, -16384, 8192, 32767, 3, 4]
    for name, subtype in (("a.wav", "FLOAT"), ("b.wav", "PCM_24")):
        soundfile.write(tmp_path / name, values, 8000, subtype=subtype)
        assert read_sound(tmp_path / name, 8000, 6).samples.tolist() == expected


@pytest.mark.parametrize(("most", "is_longer"), [(7, False), (6, False), (5, True), (1, True)])
def test_at_most_the_wanted_samples_are_read(tmp_path, most, is_longer):
    soundfile.write(tmp_path / "a.wav", SOUND, 8000)
    read = read_sound(tmp_path / "a.wav", 8000, most)
    assert read.is_longer == is_longer
    np.testing.assert_array_equal(read.samples, SOUND[:most])


@pytest.mark.parametrize("rate", [4000, 11_025, 44_100, 48_000])
def test_a_tone_of_any_rate_is_the_same_tone(tmp_path, rate):
    stereo = np.stack([tone(rate=rate), 0.5 * tone(rate=rate)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, rate)
    read = read_sound(tmp_path / "a.wav", 8000, 5000)
    assert len(read.samples) == 4000 and not read.is_longer
    assert read.changes == ("resampled to 8000 Hz", "mixed down to mono")
    error = read.samples[200:-200] / 32768.0 - 0.75 * tone()[200:-200]
    assert np.abs(error).max() < 2e-3
    cut = read_sound(tmp_path / "a.wav", 8000, 1000)  # decodes a part alone
    assert cut.is_longer
    np.testing.assert_allclose(cut.samples, read.samples[:1000], atol=1)


def test_what_is_above_half_the_rate_is_gone(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(rate=44_100, frequency=6000.0), 44_100)
    read = read_sound(tmp_path / "a.wav", 8000, 4000)
    assert np.abs(read.samples[200:-200].astype(int)).max() < 20  # of 16384


@pytest.mark.parametrize(("ending", "tolerance"), [(".ogg", 0.05), (".mp3", 0.05)])
def test_compressed_sounds_are_the_sound_but_for_their_losses(tmp_path, ending, tolerance):
    soundfile.write(tmp_path / f"a{ending}", tone(rate=16_000), 16_000)
    read = read_sound(tmp_path / f"a{ending}", 16_000, 10_000)
    assert abs(len(read.samples) - 8000) < 2500  # mp3 adds silence at its ends
    spectrum = np.abs(np.fft.rfft(read.samples[1000:5000]))
    assert abs(spectrum.argmax() * 4 - 440) <= 4
    assert np.sum(spectrum**2) * tolerance > np.sum(spectrum[130:] ** 2)


@pytest.mark.parametrize(
    ("ending", "codec"), [(".m4a", "aac"), (".mka", "pcm_s16le"), (".mp4", "aac"), (".g722", "")]
)
def test_other_formats_are_decoded_by_ffmpeg(tmp_path, ending, codec):
    av = pytest.importorskip("av")
    file = tmp_path / f"a{ending}"
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec or "g722", rate=16_000)
        stream.layout = "mono" if ending == ".g722" else "stereo"
        values = np.repeat(np.round(32767 * tone(rate=16_000)).astype(np.int16), 2)[None]
        if ending == ".g722":
            values = values[:, ::2].copy()
        frame = av.AudioFrame.from_ndarray(values, "s16", layout=stream.layout.name)
        frame.rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    read = read_sound(file, 8000, 8000)
    assert not read.is_longer and abs(len(read.samples) - 4000) < 1100
    assert ("mixed down to mono" in read.changes) == (ending != ".g722")
    spectrum = np.abs(np.fft.rfft(read.samples[500:2500]))
    assert abs(spectrum.argmax() * 4 - 440) <= 4
    if ending == ".mka":
        np.testing.assert_allclose(read.samples[100:-100] / 32768, tone()[100:-100], atol=2e-3)
    cut = read_sound(file.read_bytes() if codec else file, 8000, 100)
    assert cut.is_longer and len(cut.samples) == 100


def test_a_playlist_names_no_other_file(tmp_path):
    pytest.importorskip("av")
    soundfile.write(tmp_path / "a.wav", SOUND, 8000)
    lists = ("ffconcat version 1.0\nfile a.wav\n", "#EXTM3U\n#EXTINF:1\na.wav\n#EXT-X-ENDLIST\n")
    for content in lists:
        (tmp_path / "b.wav").write_text(content)
        with pytest.raises(ValueError, match="cannot decode the sound .*b.wav: Format not recogni"):
            read_sound(tmp_path / "b.wav", 8000, 6)


def test_what_is_no_sound_or_not_there_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    match = f"cannot decode the sound {tmp_path}/a.wav: Format not recognised.*; convert it to WAV"
    with pytest.raises(ValueError, match=match):
        read_sound(tmp_path / "a.wav", 8000, 6)
    with pytest.raises(ValueError, match="cannot decode the sound of 15 bytes: Format not recogn"):
        read_sound(b"no sound at all", 8000, 6)
    soundfile.write(tmp_path / "c.wav", np.asarray([0.0, np.nan, 0.5]), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="c.wav has values that are not finite; replace it"):
        read_sound(tmp_path / "c.wav", 8000, 3)
    with pytest.raises(FileNotFoundError, match=f"no sound {tmp_path}/b.wav"):
        read_sound(tmp_path / "b.wav", 8000, 6)


def test_a_sound_that_is_cut_off_is_refused(tmp_path):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(-9999, 9999, 20_000).astype(np.int16)
    soundfile.write(buffer, noise, 8000, format="FLAC")
    content = buffer.getvalue()
    with pytest.raises(ValueError, match="cannot decode the sound of "):
        read_sound(content[: len(content) // 2], 8000, 20_000)


def test_no_more_is_decoded_than_what_is_wanted(tmp_path):
    """A megabyte of silence is hours of sound."""
    file = tmp_path / "silence.flac"
    with soundfile.SoundFile(file, "w", 8000, 8, "PCM_16") as sound:
        for _ in range(100):
            sound.write(np.zeros((80_000, 8), np.int16))
    tracemalloc.start()
    for rate in (8000, 16_000):
        read = read_sound(file, rate, 6)
        assert read.is_longer and read.samples.tolist() == [0] * 6
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_strange_formats_and_rates_are_refused(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000, format="IRCAM")
    with monkeypatch.context() as patch:
        patch.setattr(sounds, "CONTAINERS", "wav")
        with pytest.raises(ValueError, match="a.wav: it is SF .*; convert it to WAV or FLAC"):
            read_sound(tmp_path / "a.wav", 8000, 6)
    soundfile.write(tmp_path / "b.wav", SOUND, 2_000_000_000)
    with pytest.raises(
        ValueError, match="b.wav has the unsupported sampling rate 2000000000 Hz; convert it"
    ):
        read_sound(tmp_path / "b.wav", 8000, 6)
