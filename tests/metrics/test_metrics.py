"""Metrics against closed forms; batches merge by adding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import convolve2d

from vqdit.metrics import (
    BitRate,
    CodeUse,
    Mean,
    codebook_health,
    compute,
    merge,
    psnr,
    si_sdr,
    ssim,
)
from vqdit.metrics.audio import stride_tones
from vqdit.typing import Named


def everywhere(count):
    return jnp.ones(count, bool)


@pytest.mark.parametrize("error", [0.01, 0.1, 0.5])
def test_psnr_of_a_constant_error_is_its_closed_form(error):
    x = jnp.zeros((2, 4, 4, 3))
    decibel = -20 * math.log10(error / 2)  # of a range of 2
    np.testing.assert_allclose(psnr(x, x + error), [decibel, decibel], rtol=1e-5)


def test_psnr_is_that_of_the_mean_squared_error_of_each_image():
    x, y = jax.random.uniform(jax.random.key(0), (2, 3, 5, 7, 1), minval=-1.0)
    mse = np.mean(((np.asarray(x, float) - np.asarray(y)) / 2) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(psnr(x, y), -10 * np.log10(mse), rtol=1e-5)


@pytest.mark.parametrize("size", [(40,), (5, 8), (2, 4, 5)])
def test_psnr_is_of_each_example_on_any_number_of_axes(size):
    x = jnp.zeros((3, *size, 2))
    error = jnp.asarray([0.02, 0.2, 1.0]).reshape(3, *(1,) * (len(size) + 1))
    expected = -10 * np.log10(np.asarray([0.01, 0.1, 0.5]) ** 2)
    np.testing.assert_allclose(psnr(x, x + error), expected, rtol=1e-5)


def test_psnr_clips_to_what_a_person_sees():
    x, y = jnp.full((1, 2, 2, 1), 1.0), jnp.full((1, 2, 2, 1), -1.0)
    np.testing.assert_allclose(psnr(x, y), [0.0], atol=1e-5)
    np.testing.assert_array_equal(psnr(5 * x, 9 * y), psnr(x, y))


def reference_ssim(x, y):
    """Equation 13 of the paper at every place where the window fits, of one channel in [0, 1]."""
    axis = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2

    def mean(data):
        return convolve2d(data, window, mode="valid")

    mx, my, c1, c2 = mean(x), mean(y), 0.01**2, 0.03**2
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    found = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return found.mean()


def test_ssim_is_that_of_the_paper():
    x, noise = jax.random.uniform(jax.random.key(0), (2, 3, 12, 17, 2), minval=-1.0)
    y = jnp.clip(x + 0.4 * noise, -1.0, 1.0)
    expected = [
        np.mean([reference_ssim(*(0.5 + 0.5 * data[..., c] for data in pair)) for c in range(2)])
        for pair in zip(np.asarray(x, float), np.asarray(y, float), strict=True)
    ]
    np.testing.assert_allclose(ssim(x, y), expected, rtol=1e-4)


def test_ssim_of_equal_images_is_1_and_clips():
    x = jax.random.uniform(jax.random.key(0), (2, 11, 11, 1), minval=-3.0, maxval=3.0)
    np.testing.assert_allclose(ssim(x, jnp.clip(x, -1.0, 1.0)), [1.0, 1.0], atol=1e-6)


def test_a_mean_over_batches_is_the_mean_over_everything():
    values = np.random.default_rng(0).normal(size=12).astype(np.float32)
    total = None
    for start, stop in ((0, 5), (5, 6), (6, 12)):
        part = Mean.of(jnp.asarray(values[start:stop]), everywhere(stop - start))
        total = merge(total, Named(loss=part))
    assert compute(total) == pytest.approx({"loss": values.mean(dtype=np.float64)}, rel=1e-6)


def test_padding_does_not_count_even_where_it_is_not_a_number():
    values = jnp.asarray([1.0, 3.0, jnp.nan, 100.0])
    mean = Mean.of(values, jnp.asarray([True, True, False, False]))
    assert compute(Named(loss=mean)) == {"loss": 2.0}


def test_a_mean_over_nothing_is_left_out():
    total = merge(None, Named(loss=Mean.of(jnp.ones(3), jnp.zeros(3, bool))))
    assert compute(total) == {}


def test_sums_stay_exact_over_millions():
    """In float32 a count of 2^24 would no longer grow by one."""
    total = merge(None, Named(loss=Mean(jnp.float32(2**24), jnp.float32(2**24))))
    one = Named(loss=Mean(jnp.float32(0), jnp.float32(1)))
    for _ in range(3):
        total = merge(total, one)
    assert total["loss"].count == 2**24 + 3


def test_merging_goes_over_all_accumulators():
    counts = np.asarray([[1.0, 2.0]])
    one = Named(loss=Mean(1.0, 2.0), use=CodeUse(counts))
    both = merge(merge(None, one), one)
    assert both["loss"] == Mean(2.0, 4.0)
    np.testing.assert_array_equal(both["use"].counts, 2 * counts)
    assert set(compute(both)) == {"loss", "use_usage", "use_perplexity", "use_dead"}


@pytest.mark.parametrize("codes", [1, 7, 512])
def test_codes_used_alike_have_perplexity_k(codes):
    ids = jnp.arange(codes)[:, None].repeat(3, axis=0)[:, None]
    found = compute(Named(codes=CodeUse.of(ids, codes, everywhere(3 * codes))))
    assert found["codes_usage"] == 1.0
    assert found["codes_perplexity"] == pytest.approx(codes, rel=1e-12)


def test_usage_and_perplexity_are_those_of_numpy():
    rng = np.random.default_rng(0)
    ids = rng.choice(16, size=(6, 4, 5, 2), p=rng.dirichlet(np.full(16, 0.3))).astype(np.int32)
    use = CodeUse.of(jnp.asarray(ids), 16, everywhere(6))
    usage, perplexity = [], []
    for book in range(2):
        used, counts = np.unique(ids[..., book], return_counts=True)
        share = counts / counts.sum()
        usage.append(len(used) / 16)
        perplexity.append(np.exp(-np.sum(share * np.log(share))))
    found = use.compute("codes")
    assert found["codes_usage"] == pytest.approx(np.mean(usage), rel=1e-12)
    assert found["codes_perplexity"] == pytest.approx(np.mean(perplexity), rel=1e-12)
    assert use.counts.sum() == ids.size


def test_no_code_and_padding_do_not_count():
    ids = jnp.asarray([[3], [-1], [3], [0], [1]])[:, None]
    use = CodeUse.of(ids, 4, jnp.asarray([True, True, True, False, True]))
    assert use.counts.tolist() == [[0.0, 1.0, 0.0, 2.0]]


def test_histograms_of_batches_add_up():
    ids = jax.random.randint(jax.random.key(0), (8, 3, 1), 0, 5)
    whole = merge(None, Named(codes=CodeUse.of(ids, 5, everywhere(8))))
    total = None
    for part in (ids[:2], ids[2:]):
        total = merge(total, Named(codes=CodeUse.of(part, 5, everywhere(len(part)))))
    assert compute(total) == compute(whole)


def test_an_unused_codebook_has_usage_0_and_perplexity_1():
    found = CodeUse(np.zeros((1, 8))).compute("codes")
    assert found == {"codes_usage": 0.0, "codes_perplexity": 1.0, "codes_dead": 1.0}


def test_a_code_is_dead_below_a_tenth_of_uniform_use():
    counts = np.asarray([[9.0, 10.0, 0.0, 381.0]])  # uniform would be 100 each
    assert CodeUse(counts).compute("codes")["codes_dead"] == 0.5


def test_the_health_of_a_codebook_by_numpy():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 6, size=(4, 5, 2)) * np.asarray([1, 0])  # the second shows one code
    mask = np.ones((4, 5), bool)
    mask[3] = False
    found = codebook_health(jnp.asarray(codes), (8, 4), jnp.asarray(mask))
    counts = [np.bincount(codes[:3, :, 0].ravel(), minlength=8), np.asarray([15, 0, 0, 0])]
    used = [np.count_nonzero(count) / len(count) for count in counts]
    share = counts[0][counts[0] > 0] / 15
    perplexity = np.exp(-np.sum(share * np.log(share)))
    assert found["codebook_usage"] == pytest.approx(np.mean(used))
    assert found["codebook_perplexity"] == pytest.approx((perplexity + 1) / 2, rel=1e-5)
    # A tenth of 15 / 8 uses is less than one: each code that was seen at all is alive.
    assert found["dead_codes"] == pytest.approx(1 - np.mean(used))


def test_a_batch_smaller_than_the_codebook_can_show_one_code_per_position():
    codes = jnp.arange(10).reshape(2, 5, 1)
    found = codebook_health(codes, (1000,), jnp.ones((2, 5), bool))
    assert (float(found["codebook_usage"]), float(found["dead_codes"])) == (1.0, 0.0)


def test_dead_codes_come_from_the_averaged_counts_where_there_are_some():
    count = jnp.asarray([10.0, 1.0, 0.3, 0.0])  # a tenth of uniform use is 0.2825
    found = codebook_health(jnp.zeros((1, 4, 1), int), (4,), jnp.ones((1, 4), bool), [count])
    assert float(found["dead_codes"]) == 0.25


def test_of_a_codebook_that_no_histogram_can_hold_there_are_no_numbers():
    assert (
        codebook_health(jnp.zeros((1, 4, 1), int), (2**31 - 1,), jnp.ones((1, 4), bool)) == Named()
    )


def test_si_sdr_knows_neither_loudness_nor_offset():
    """Noise that is orthogonal to the sound has its closed form, in each example alone."""
    time = np.arange(800) / 800
    sound, noise = np.sin(2 * np.pi * 5 * time), np.sin(2 * np.pi * 9 * time)
    for scale, decibel in ((0.1, 20.0), (0.01, 40.0), (2.0, -20 * math.log10(2))):
        x = jnp.asarray(np.stack([0.2 * sound, 0.1 * noise])[..., None], jnp.float32)
        y = np.stack([0.2 * (sound + scale * noise), 0.1 * (noise + scale * sound)])[..., None]
        found = si_sdr(x, jnp.asarray(0.3 * y + 0.1, jnp.float32))
        np.testing.assert_allclose(found, [decibel] * 2, atol=0.02)


def test_si_sdr_is_that_of_numpy_at_real_positions_and_over_both_channels():
    x, y = np.random.default_rng(0).normal(size=(2, 3, 40, 2)) * 0.1
    y = x + 0.5 * y
    mask = np.arange(40) < np.asarray([40, 25, 10])[:, None]
    found = si_sdr(*(jnp.asarray(v, jnp.float32) for v in (x, y)), jnp.asarray(mask))
    for number, length in enumerate((40, 25, 10)):
        a, b = (v[number, :length].ravel() - v[number, :length].mean() for v in (x, y))
        target = (a @ b) / (a @ a) * a
        expected = 10 * np.log10((target @ target) / ((b - target) @ (b - target)))
        assert float(found[number]) == pytest.approx(expected, abs=1e-3)


def test_si_sdr_of_silence_is_finite():
    silence = jnp.zeros((1, 100, 1))
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(1, 100, 1)) * 0.01, jnp.float32)
    assert float(si_sdr(silence, silence)[0]) == 0.0
    assert float(si_sdr(silence, noise)[0]) < -50.0
    assert float(si_sdr(noise, silence)[0]) == pytest.approx(0.0, abs=1e-3)


def test_bit_rates_are_those_of_the_histograms():
    codes = jnp.asarray([[[0, 5], [0, 1], [1, 2], [3, -1]], [[7, 7]] * 4])
    valid = jnp.asarray([True, False])
    rate = BitRate.of(codes, (4, 8), valid, jnp.asarray(4), 0.01)
    doubled = merge(merge(None, Named(rate=rate)), Named(rate=rate))
    found = compute(doubled)
    stored = 4 * 2 + 3 * 3
    entropy = 4 * 1.5 + 3 * math.log2(3)
    assert found["rate"] == pytest.approx(stored / 0.04 / 1000)
    assert found["rate_entropy"] == pytest.approx(entropy / 0.04 / 1000)
    nothing = BitRate.of(codes, (4, 8), jnp.zeros(2, bool), jnp.asarray(0), 0.01)
    assert compute(Named(rate=nothing)) == {}


def test_tones_at_multiples_of_the_stride_are_told_from_noise_and_other_tones():
    drawn = np.random.default_rng(0)
    noise = 300.0 * drawn.normal(size=20_000)
    periodic = np.tile(30.0 * drawn.normal(size=64), 313)[:20_000]  # in every period of 64 samples
    other = np.tile(30.0 * drawn.normal(size=50), 400)
    plain, toned, wrong = (
        stride_tones(np.round(sound).astype(np.int16), 64)
        for sound in (noise, noise + 10 * periodic, noise + 10 * other)
    )
    assert abs(plain) < 1.0 and abs(wrong) < 1.5
    # A line has (sum of the window)^2 / 64, and noise the sum of its squares: N / 4 / 64 * 8 / 3.
    # The power of a line is exponentially distributed, with a median of ln 2.
    expected = 10 * np.log10(1 + math.log(2) * 512 / 96)
    assert toned == pytest.approx(expected, abs=2.5)
    assert stride_tones(np.zeros(4000, np.int16), 64) == pytest.approx(0.0)
