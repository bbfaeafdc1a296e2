"""Sound files are read exactly, or refused by what was found in them."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from vqdit.modalities.sounds import fit_sound, read_sound

SOUND = np.asarray([-32768, -1, 0, 1, 32767, 12345], np.int16)


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_sixteen_bits_come_back_as_they_are(tmp_path, ending):
    soundfile.write(tmp_path / f"a{ending}", SOUND, 8000, subtype="PCM_16")
    read = read_sound(tmp_path / f"a{ending}", 6, 8000)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, SOUND)


def test_floats_and_more_bits_are_brought_to_sixteen(tmp_path):
    values = np.asarray([-1.5, -0.5, 0.25, 1.0, 3.4 / 32768, 3.6 / 32768])
    expected = [-32768, -16384, 8192, 32767, 3, 4]
    soundfile.write(tmp_path / "a.wav", values, 8000, subtype="FLOAT")
    assert read_sound(tmp_path / "a.wav", 6, 8000).tolist() == expected
    soundfile.write(tmp_path / "b.wav", values, 8000, subtype="PCM_24")
    assert read_sound(tmp_path / "b.wav", 6, 8000).tolist() == expected


@pytest.mark.parametrize(
    ("sound", "rate", "found"),
    [
        (SOUND[:5], 8000, "5 samples at 8000 Hz on 1"),
        (SOUND, 8001, "6 samples at 8001 Hz on 1"),
        (np.stack([SOUND, SOUND], 1), 8000, "6 samples at 8000 Hz on 2"),
    ],
)
def test_another_form_is_refused_with_what_was_found_and_is_wanted(tmp_path, sound, rate, found):
    file = tmp_path / "a.wav"
    soundfile.write(file, sound, rate)
    with pytest.raises(ValueError) as caught:
        read_sound(file, 6, 8000)
    wanted = "channel(s), but 6 at 8000 Hz on 1 are required; convert it, or set samples and rate"
    assert str(caught.value) == f"the sound {file} has {found} {wanted}"


def test_what_is_no_sound_or_not_there_is_named(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    match = f"cannot decode the sound {tmp_path}/a.wav: Format not recognised; convert it to WAV or"
    with pytest.raises(ValueError, match=match):
        read_sound(tmp_path / "a.wav", 6, 8000)
    soundfile.write(tmp_path / "c.wav", np.asarray([0.0, np.nan, 0.5]), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="c.wav has values that are not finite; replace it"):
        read_sound(tmp_path / "c.wav", 3, 8000)
    with pytest.raises(FileNotFoundError, match=f"no sound {tmp_path}/b.wav"):
        read_sound(tmp_path / "b.wav", 6, 8000)


def test_what_a_header_claims_is_checked_before_anything_is_decoded(tmp_path):
    """A megabyte of silence is hours of sound: neither reading decodes more than it needs."""
    file = tmp_path / "silence.flac"
    with soundfile.SoundFile(file, "w", 8000, 8, "PCM_16") as sound:
        for _ in range(100):
            sound.write(np.zeros((80_000, 8), np.int16))
    tracemalloc.start()
    with pytest.raises(ValueError, match="has 8000000 samples at 8000 Hz on 8 channel"):
        read_sound(file, 6, 8000)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    fitted, is_changed = fit_sound(file, 6, 8000)
    assert is_changed and fitted.tolist() == [0] * 6
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_other_formats_and_rates_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000, format="OGG")
    with pytest.raises(ValueError, match="a.wav: it is OGG.*; convert it to WAV or FLAC"):
        fit_sound(tmp_path / "a.wav", 6, 8000)
    soundfile.write(tmp_path / "b.wav", SOUND, 2_000_000_000)
    with pytest.raises(ValueError, match="b.wav has a sampling rate of 2000000000 Hz; convert it"):
        fit_sound(tmp_path / "b.wav", 6, 8000)
