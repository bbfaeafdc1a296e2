"""Discriminators of sounds by SciPy and NumPy, and padding that they do not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate, get_window

from vqdit.models import MultiPeriod, MultiSTFT, PatchGAN, Together
from vqdit.models.sound_discriminators import spectrogram

QUICK = {"xla_backend_optimization_level": 0}
"""Compiling takes longer than running here."""
PERIOD = MultiPeriod(periods=(3,), channels=2)
STFT = MultiSTFT(windows=(32,), channels=2)
BANDS = MultiSTFT(windows=(32, 64), channels=2, bands=(0.0, 0.5, 1.0), dilations=(1,))


def sounds(length, batch=2, channels=1):
    drawn = np.random.default_rng(length).normal(size=(batch, length, channels))
    return jnp.asarray(drawn, jnp.float32)


def layer(params, name):
    """The kernel and bias of a layer: each output channel's kernel has the length of its scale."""
    conv, scale = params[name], params[f"{name}_norm"][f"{name}/kernel/scale"]
    kernel = np.asarray(conv["kernel"], float)
    norm = np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
    return kernel / norm * np.asarray(scale), np.asarray(conv["bias"])


def convolved(h, kernel, bias, strides, dilation=1):
    """A convolution [n, p, c] by SciPy, with zeros at the borders."""
    wide = np.zeros(((kernel.shape[0] - 1) * dilation + 1, *kernel.shape[1:]))
    wide[::dilation] = kernel
    rows, columns = (wide.shape[axis] // 2 for axis in (0, 1))
    padded = np.pad(h, ((rows, rows), (columns, columns), (0, 0)))
    out = [
        sum(correlate(padded[..., c], wide[..., c, o], "valid") for c in range(h.shape[-1]))
        for o in range(wide.shape[-1])
    ]
    return (np.stack(out, axis=-1) + bias)[:: strides[0], :: strides[1]]


def leaky(h, slope):
    return np.where(h > 0, h, slope * h)


def moved(params):
    """Parameters whose scales and biases are no ones and zeros."""
    drawn = np.random.default_rng(0)
    return jax.tree.map(
        lambda p: p + 0.1 * jnp.asarray(drawn.normal(size=p.shape), p.dtype), params
    )


def test_every_third_sample_is_judged_as_in_scipy():
    x = sounds(50)
    params = moved(PERIOD.init(jax.random.key(0), x))
    (found,) = PERIOD.judge(params, x)
    h = np.pad(np.asarray(x, float)[0], ((0, 1), (0, 0))).reshape(17, 3, 1)
    part = params["period_3"]
    for number in range(5):
        h = convolved(h, *layer(part, f"layer_{number}"), (3 if number < 4 else 1, 1))
        h = leaky(h, 0.1)
        np.testing.assert_allclose(found.features[number][0][0], h, rtol=1e-3, atol=1e-4)
    assert [f.shape[-1] for f, _ in found.features] == [2, 8, 32, 64, 64]
    logits = convolved(h, *layer(part, "out"), (1, 1))[..., 0]
    np.testing.assert_allclose(found.logits[0], logits, rtol=1e-3, atol=1e-4)


def test_spectrograms_are_those_of_numpy():
    x = sounds(50, channels=2)
    found, mask = spectrogram(x, 32)
    assert mask is None and found.shape == (2, 7, 17, 4)
    hann = get_window("hann", 32)
    padded = np.pad(np.asarray(x, float), ((0, 0), (16, 16), (0, 0)))
    for frame in range(7):
        part = padded[:, 8 * frame : 8 * frame + 32] * hann[:, None]
        spectrum = np.fft.rfft(part, axis=1) / np.sqrt((hann**2).sum())
        expected = np.concatenate([spectrum.real, spectrum.imag], axis=-1)
        np.testing.assert_allclose(found[:, frame], expected, atol=1e-5)


def test_a_spectrogram_is_judged_as_in_scipy():
    x = sounds(60)
    params = moved(STFT.init(jax.random.key(0), x))
    (found,) = STFT.judge(params, x)
    h, part = np.asarray(spectrogram(x, 32)[0][0], float), params["window_32"]
    layers = [((1, 1), 1), ((1, 2), 1), ((1, 2), 2), ((1, 2), 4)]
    for number, (strides, dilation) in enumerate(layers):
        h = leaky(convolved(h, *layer(part, f"band_0_layer_{number}"), strides, dilation), 0.2)
        np.testing.assert_allclose(found.features[number][0][0], h, rtol=1e-3, atol=1e-4)
    h = leaky(convolved(h, *layer(part, "band_0_last"), (1, 1)), 0.2)
    logits = convolved(h, *layer(part, "out"), (1, 1))[..., 0]
    np.testing.assert_allclose(found.logits[0], logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("discriminator", [PERIOD, STFT, BANDS])
def test_padding_is_not_seen(discriminator):
    x, lengths = sounds(90), (90, 61)
    judge = jax.jit(discriminator.judge, compiler_options=QUICK)
    mask = jnp.arange(90) < jnp.asarray(lengths)[:, None]
    params = moved(jax.jit(discriminator.init)(jax.random.key(0), x))
    together = judge(params, x, mask)
    assert len(together) == len(discriminator.parts())
    for row, length in enumerate(lengths):
        alone = judge(params, x[row : row + 1, :length])
        for one, several in zip(alone, together, strict=True):
            real = np.asarray(several.mask[row])
            assert real.sum() == one.logits.shape[1]
            np.testing.assert_allclose(several.logits[row][real], one.logits[0], atol=1e-4)
            for (first, _), (second, within) in zip(one.features, several.features, strict=True):
                second = second[row][np.asarray(within[row])]
                np.testing.assert_allclose(second, first[0], atol=1e-4)


def test_bands_are_judged_by_layers_of_their_own_and_then_together():
    x = sounds(100)
    params = BANDS.init(jax.random.key(0), x)
    assert sum(name.startswith("band_1") for name in params["window_64"]) == 2 * 3
    first, second = BANDS.judge(params, x)
    assert [f.shape[2] for f, _ in first.features] == [8, 4, 4, 9, 5, 5]
    assert first.logits.shape == (2, 13, 9) and second.logits.shape[1] == 7


def test_discriminators_are_used_together():
    several = Together(discriminators=(PERIOD, BANDS))
    x = sounds(80)
    params = several.init(jax.random.key(0), x)
    found = several.judge(params, x)
    expected = PERIOD.judge(params["0"], x) + BANDS.judge(params["1"], x)
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, two.logits)
    mixed = Together(discriminators=(PERIOD, PatchGAN()))
    assert mixed.smallest == PatchGAN().smallest and not mixed.has_features
    mixed.real(jnp.ones((1, 80), bool))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiSTFT(windows=(16,)), "MultiSTFT needs windows of at least 32 samples"),
        (lambda: MultiSTFT(bands=(0.0, 0.5)), "MultiSTFT needs bands that rise from 0 to 1"),
        (lambda: MultiSTFT(bands=(0.0, 0.5, 0.5, 1.0)), "MultiSTFT needs bands that rise"),
        (lambda: MultiPeriod(periods=()), "MultiPeriod needs periods of at least 1"),
        (lambda: Together(discriminators=()), "Together needs discriminators"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
