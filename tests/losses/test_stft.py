"""The loss between spectrograms, against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import get_window

from vqdit.losses import STFT, Mel
from vqdit.losses.stft import EPSILON, FLOOR
from vqdit.nn.mel import mel_bands

LOSS = STFT(windows=(64, 128))


def magnitudes(sound, window):
    padded, hann = np.pad(sound, window // 2, mode="reflect"), get_window("hann", window)
    starts = range(0, len(sound) + 1, window // 4)
    spectrum = np.stack([np.fft.rfft(padded[s : s + window] * hann) for s in starts])
    return np.sqrt(np.abs(spectrum) ** 2 + EPSILON) * 2 / hann.sum()


def expected(x, y):
    total = 0.0
    for window in LOSS.windows:
        a, b = magnitudes(x, window), magnitudes(y, window)
        convergence = np.sqrt(np.mean((a - b) ** 2) + EPSILON) / np.sqrt(np.mean(a**2) + EPSILON)
        total += convergence + np.mean(np.abs(np.log(a + FLOOR) - np.log(b + FLOOR)))
    return total / len(LOSS.windows)


@pytest.fixture(scope="module")
def pair():
    return np.random.default_rng(0).normal(size=(2, 3, 400, 2)) * 0.1


def distance(loss, x, y, mask=None):
    x, y = (jnp.asarray(sound, jnp.float32) for sound in (x, y))
    return loss.distance({}, x, y, mask)


def test_it_is_the_written_out_distance_of_every_channel(pair):
    x, y = pair
    found = distance(LOSS, x, y)
    for row in range(3):
        mean = np.mean([expected(x[row, :, c], y[row, :, c]) for c in range(2)])
        assert float(found[row]) == pytest.approx(mean, rel=1e-4)


def test_padding_is_not_compared(pair):
    x, y = pair
    lengths = (400, 129)
    x, y = x[:2], y[:2]
    mask = jnp.arange(400) < jnp.asarray(lengths)[:, None]
    found = distance(LOSS, x, y, mask)
    for row, length in enumerate(lengths):
        alone = distance(LOSS, x[row : row + 1, :length], y[row : row + 1, :length])
        assert float(found[row]) == pytest.approx(float(alone[0]), rel=1e-4)


def test_equal_sounds_and_silence_have_finite_gradients():
    for x in (jnp.zeros((1, 200, 1)), jnp.ones((1, 200, 1)) * 0.1):
        gradient = jax.grad(lambda y, x=x: LOSS.distance({}, x, y)[0])(x)
        assert jnp.isfinite(gradient).all()


def test_mel_bands_may_be_the_published_ones(pair):
    x, y = pair[..., :1]
    loss = Mel(rate=8000, windows=(32, 64), bands=(5, 10))
    total = 0.0
    for window, bands in ((32, 5), (64, 10)):
        weights = mel_bands(window, 8000, bands)
        a, b = (np.log10(magnitudes(v[0, :, 0], window) @ weights + 1e-3) for v in (x, y))
        total += np.mean(np.abs(a - b)) / 2
    assert float(distance(loss, x, y)[0]) == pytest.approx(total, rel=1e-4)
    with pytest.raises(ValueError, match="Mel needs bands to be one number of at"):
        Mel(windows=(32, 64), bands=(5,))


@pytest.mark.parametrize("size", [(8, 8), (127,)])
def test_only_sounds_that_are_long_enough_are_compared(size):
    with pytest.raises(ValueError, match="at least 128 samples, its longest window, got size"):
        LOSS.check(size, 1)
