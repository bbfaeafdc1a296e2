"""Metrics against closed forms; batches merge by adding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.metrics import CodeUse, Mean, compute, merge, psnr
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


def test_psnr_clips_to_what_a_person_sees():
    x, y = jnp.full((1, 2, 2, 1), 1.0), jnp.full((1, 2, 2, 1), -1.0)
    np.testing.assert_allclose(psnr(x, y), [0.0], atol=1e-5)
    np.testing.assert_array_equal(psnr(5 * x, 9 * y), psnr(x, y))


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


def test_a_mean_over_nothing_is_not_a_number():
    total = merge(None, Named(loss=Mean.of(jnp.ones(3), jnp.zeros(3, bool))))
    assert math.isnan(compute(total)["loss"])


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
    assert set(compute(both)) == {"loss", "use_usage", "use_perplexity"}


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
    assert found == {"codes_usage": 0.0, "codes_perplexity": 1.0}
