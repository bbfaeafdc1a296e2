"""`benchmarks.bitrates`: the delay and the bits of Opus, and the table."""

import shutil

import numpy as np
import pytest

from benchmarks.bitrates import delay, packet_bytes, through_opus


@pytest.mark.parametrize("late", [-7, 0, 13])
def test_a_delay_is_found(late):
    x = np.random.default_rng(0).normal(size=(500, 2))
    y = 0.5 * np.roll(x, late, axis=0)
    assert delay(x, y[:480], 20) == late


def page(packets: list[bytes]) -> bytes:
    """A page of an Ogg file (RFC 3533) whose packets have fewer than 255 bytes."""
    lengths = bytes(map(len, packets))
    return b"OggS" + bytes(22) + bytes([len(packets)]) + lengths + b"".join(packets)


def test_only_packets_of_sound_are_counted(tmp_path):
    pages = [[b"OpusHead" * 2], [b"OpusTags" * 9], [b"a" * 20, b"b" * 30], [b"c" * 7]]
    (tmp_path / "a.opus").write_bytes(b"".join(map(page, pages)))
    assert packet_bytes(tmp_path / "a.opus") == 57


@pytest.mark.skipif(not shutil.which("opusenc"), reason="needs opus-tools")
def test_opus_at_a_high_rate_is_the_sound_itself_not_later():
    times = np.arange(8000) / 8000
    sound = np.sin(2 * np.pi * np.cumsum(200 + 500 * times) / 8000) * np.sin(40 * times)
    sound = np.round(12000 * sound).astype(np.int16)
    (found,), kbit = through_opus([sound], 8000, 48.0)
    assert found.shape == sound.shape and found.dtype == np.int16
    inner = slice(200, -200)
    error = np.mean((found[inner] - sound[inner].astype(float)) ** 2)
    assert error < 0.02 * np.mean(sound.astype(float) ** 2)
    assert 10.0 < kbit < 70.0
