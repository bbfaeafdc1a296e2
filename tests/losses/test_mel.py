"""The loss between mel spectrograms, against SciPy, and what it hears."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import get_window

from tests import tiny
from vqdit.data.sources import Feature
from vqdit.losses import Mel
from vqdit.losses.mel import FLOOR, log_mel
from vqdit.losses.stft import EPSILON
from vqdit.modalities import Audio
from vqdit.nn.mel import mel_bands
from vqdit.typing import Named

RATE = 8000
LOSS = Mel(rate=RATE, windows=(64, 256), weight=1.0)


def tone(hertz, phase=0.0, loud=0.5, samples=2048):
    return loud * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE + phase)


def distance(x, y):
    pair = (jnp.asarray(sound, jnp.float32)[None, :, None] for sound in (x, y))
    return float(LOSS.distance({}, *pair)[0])


def test_frames_windows_and_bands_as_in_numpy():
    sound = np.random.default_rng(0).normal(size=500) * 0.1
    found = log_mel(jnp.asarray(sound, jnp.float32)[None], RATE, 64)
    padded, hann = np.pad(sound, 32, mode="reflect"), get_window("hann", 64)
    rows = []
    for start in range(0, 501, 16):
        power = np.abs(np.fft.rfft(padded[start : start + 64] * hann)) ** 2
        magnitude = np.sqrt(power + EPSILON) * 2 / hann.sum()
        rows.append(np.log10(magnitude @ mel_bands(64, RATE, 10) + FLOOR))
    np.testing.assert_allclose(found[0], np.stack(rows), atol=1e-4)


def test_every_band_hears_something_and_together_they_cover_the_middle():
    for window in (64, 128, 256, 512, 1024):
        bands = mel_bands(window, RATE, window // 6)
        assert (bands.sum(axis=0) > 0).all()
        first, last = np.argmax(bands[:, 0]), np.argmax(bands[:, -1])
        between = bands[first + 1 : last].sum(axis=1)
        np.testing.assert_allclose(between, 1.0, atol=1e-9)


def test_phases_are_not_heard_and_pitches_are():
    same = distance(tone(1000), tone(1000))
    assert same == 0.0
    shifted = distance(tone(1000), tone(1000, phase=1.5))
    assert shifted < 0.1 * distance(tone(1000), tone(1500))
    assert np.mean((tone(1000) - tone(1000, phase=1.5)) ** 2) > 0.2  # the waveform loss is large


def test_ten_times_quieter_is_one_decade_where_there_is_sound():
    noise = np.random.default_rng(0).normal(size=2048) * 0.3
    assert distance(noise, noise / 10) == pytest.approx(1.0, abs=0.1)


def test_what_is_far_below_full_scale_is_silence():
    assert distance(np.zeros(2048), tone(1000, loud=1e-5)) < 0.01


def test_the_gradient_is_finite_at_silence():
    silence = jnp.zeros((1, 2048, 1))
    gradient = jax.grad(lambda y: LOSS.distance({}, silence + 0.1, y)[0])(silence)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize(("size", "channels"), [((8, 8), 1), ((255,), 1), ((255,), 2)])
def test_only_sounds_that_are_long_enough_are_compared(size, channels):
    with pytest.raises(ValueError, match="at least 256 samples, its longest window, got size"):
        LOSS.check(size, channels)


@pytest.mark.parametrize("fields", [{"rate": 0}, {"windows": ()}, {"windows": (16,)}])
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match="Mel needs (rate >= 1|windows of at least 32)"):
        Mel(**fields)


def test_a_rate_that_is_not_that_of_the_sounds_is_refused():
    task = dataclasses.replace(
        tiny.audio_tokenizer().task, modality=Audio(samples=800, rate=44_100), perceptual=(LOSS,)
    )
    with pytest.raises(ValueError, match="Mel has rate=8000, but the sounds have rate=44100"):
        task.check(Named(audio=Feature((800,), dtype="int16")))


def test_sounds_of_different_lengths_are_compared_as_if_alone():
    """Each is reflected at its own end, and only its own frames count."""
    rng = np.random.default_rng(1)
    x, y = (jnp.asarray(rng.normal(size=(3, 600, 1)), jnp.float32) for _ in range(2))
    lengths = (600, 256, 333)
    mask = jnp.arange(600) < jnp.asarray(lengths)[:, None]
    compare = jax.jit(LOSS.distance)
    found = compare({}, x, y, mask)
    for row, length in enumerate(lengths):
        alone = compare({}, x[row : row + 1, :length], y[row : row + 1, :length])
        np.testing.assert_allclose(found[row], alone[0], rtol=1e-5)
