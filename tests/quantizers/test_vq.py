"""VQ against NumPy, and the known bugs of EMA codebooks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import VQ
from vqdit.quantizers.base import nearest, straight_through
from vqdit.quantizers.vq import EPSILON, VQStats


def blobs(key, k=8, n=512, d=3, spread=0.05):
    k_centre, k_pick, k_noise = jax.random.split(key, 3)
    centres = 5.0 * jax.random.normal(k_centre, (k, d))
    pick = jax.random.randint(k_pick, (n,), 0, k)
    return centres[pick] + spread * jax.random.normal(k_noise, (n, d)), centres


def test_nearest_is_the_brute_force_answer_over_chunks():
    z = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    codebook = np.random.default_rng(1).normal(size=(2500, 5)).astype(np.float32)
    distance = ((z[:, None].astype(np.float64) - codebook[None]) ** 2).sum(-1)
    np.testing.assert_array_equal(
        nearest(jnp.asarray(z), jnp.asarray(codebook)), distance.argmin(1)
    )


def test_nearest_breaks_ties_by_the_lowest_id_across_chunks():
    codebook = jnp.zeros((2100, 2)).at[0].set(9.0)
    np.testing.assert_array_equal(nearest(jnp.zeros((3, 2)), codebook), [1, 1, 1])


def test_straight_through_has_the_value_of_q_bitwise_and_the_gradient_of_z():
    key = jax.random.key(0)
    z = 100.0 * jax.random.normal(key, (1000, 4))
    q = jax.random.normal(jax.random.fold_in(key, 1), (1000, 4))
    np.testing.assert_array_equal(straight_through(z, q), q)
    gradient = jax.grad(lambda z: jnp.sum(straight_through(z, q) * q))(z)
    np.testing.assert_array_equal(gradient, q)


def test_update_is_the_formula_in_numpy():
    vq = VQ(codebook_size=4, dim=2, decay=0.9, revive_below=0.0)
    rng = np.random.default_rng(0)
    z = rng.normal(size=(32, 2)).astype(np.float32)
    codes = rng.integers(0, 4, (32, 1)).astype(np.int32)
    stats = VQStats(
        jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
        jnp.asarray(rng.uniform(1, 9, 4), jnp.float32),
        jnp.asarray(rng.normal(size=(4, 2)), jnp.float32),
    )
    _, new = vq.update(
        {}, stats, jnp.asarray(z), jnp.asarray(codes), jax.random.key(0), jnp.int32(0)
    )
    one_hot = np.eye(4)[codes[:, 0]]
    count = 0.9 * np.asarray(stats.count) + 0.1 * one_hot.sum(0)
    total = 0.9 * np.asarray(stats.total) + 0.1 * one_hot.T @ z
    smooth = (count + EPSILON) / (count.sum() + 4 * EPSILON) * count.sum()
    np.testing.assert_allclose(new.count, count, rtol=1e-6)
    np.testing.assert_allclose(new.total, total, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new.codebook, total / smooth[:, None], rtol=1e-5, atol=1e-6)


def test_commitment_is_the_mean_squared_error_of_the_old_table():
    vq = VQ(codebook_size=8, dim=3)
    _, stats = vq.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (16, 3))
    out = vq.quantize({}, stats, z)
    expected = np.mean((np.asarray(z) - np.asarray(stats.codebook)[out.codes[:, 0]]) ** 2)
    np.testing.assert_allclose(out.losses["commitment"], expected, rtol=1e-6)
    gradient = jax.grad(lambda z: vq.quantize({}, stats, z).losses["commitment"])(z)
    np.testing.assert_allclose(gradient, 2 * (z - out.z_q) / z.size, rtol=1e-5, atol=1e-7)


def test_kmeans_start_finds_the_blobs():
    z, centres = blobs(jax.random.key(0))
    vq = VQ(codebook_size=32, dim=3)
    _, stats = vq.init(jax.random.key(1), z)
    error = jnp.mean(jnp.sum((vq.quantize({}, stats, z).z_q - z) ** 2, -1))
    assert error < 3 * 0.05**2
    np.testing.assert_allclose(stats.total, stats.codebook * stats.count[:, None], rtol=1e-6)
    np.testing.assert_allclose(stats.count.sum(), 512)


def test_codebook_stays_where_kmeans_put_it():
    """Averages that start at the bare centroid instead of centroid x count shrink the table."""
    z, _ = blobs(jax.random.key(0))
    vq = VQ(codebook_size=8, dim=3, revive_below=0.0)
    _, stats = vq.init(jax.random.key(1), z)
    codes = vq.quantize({}, stats, z).codes
    _, new = vq.update({}, stats, z, codes, jax.random.key(2), jnp.int32(0))
    used = np.unique(codes)
    before = np.linalg.norm(np.asarray(stats.codebook)[used], axis=1)
    after = np.linalg.norm(np.asarray(new.codebook)[used], axis=1)
    np.testing.assert_allclose(after, before, rtol=0.02)


def test_revived_codes_survive_their_own_step_and_get_used():
    z, _ = blobs(jax.random.key(0), k=64, n=1024)
    vq = VQ(codebook_size=64, dim=3, revive_below=0.1)
    far = 1e3 * jnp.ones((63, 3))
    codebook = jnp.concatenate([z[:1], far])
    count = jnp.concatenate([jnp.full((1,), 1024.0), jnp.zeros(63)])
    stats = VQStats(codebook, count, codebook * count[:, None])
    codes = vq.quantize({}, stats, z).codes
    _, new = vq.update({}, stats, z, codes, jax.random.key(2), jnp.int32(0))
    assert jnp.abs(new.codebook).max() < 100  # none is left out there
    used = np.unique(vq.quantize({}, new, z).codes)
    assert len(used) == 64
    _, later = vq.update({}, new, z, vq.quantize({}, new, z).codes, jax.random.key(3), jnp.int32(1))
    assert jnp.abs(later.codebook).max() < 100  # and the old code does not come back


def test_revival_never_draws_padding():
    z = jnp.concatenate([jnp.ones((8, 2)), jnp.full((56, 2), 77.0)])
    mask = jnp.arange(64) < 8
    vq = VQ(codebook_size=16, dim=2, revive_below=0.5)
    _, stats = vq.init(jax.random.key(0))
    codes = vq.quantize({}, stats, z).codes
    _, new = vq.update({}, stats, z, codes, jax.random.key(1), jnp.int32(0), mask=mask)
    assert jnp.abs(new.codebook).max() < 10


def test_kmeans_starts_from_distinct_real_vectors():
    """Twice the same centroid leaves one of the two without vectors from the start."""
    z = jnp.concatenate([jnp.arange(16.0)[:, None] * jnp.ones(2), jnp.full((48, 2), 77.0)])
    vq = VQ(codebook_size=16, dim=2, start=1, kmeans_iterations=0)
    _, stats = vq.init(jax.random.key(0))
    codes = vq.quantize({}, stats, z).codes
    mask = jnp.arange(64) < 16
    for seed in range(3):
        _, new = vq.update({}, stats, z, codes, jax.random.key(seed), jnp.int32(0), mask=mask)
        np.testing.assert_array_equal(np.sort(new.codebook[:, 0]), np.arange(16.0))
    few = jnp.arange(64) < 5  # fewer than codes: each is taken three times or four
    _, new = vq.update({}, stats, z, codes, jax.random.key(3), jnp.int32(0), mask=few)
    counts = np.bincount(np.asarray(new.codebook[:, 0], int), minlength=16)
    assert sorted(counts[:5]) == [3, 3, 3, 3, 4] and not counts[5:].any()


def test_start_passes_z_then_runs_kmeans_then_averages():
    z, _ = blobs(jax.random.key(0), n=256)
    vq = VQ(codebook_size=16, dim=3, start=2)
    _, stats = vq.init(jax.random.key(1))
    before = vq.quantize({}, stats, z, step=jnp.int32(1))
    np.testing.assert_array_equal(before.z_q, z)
    assert before.losses["commitment"] == 0.0
    _, same = vq.update({}, stats, z, before.codes, jax.random.key(2), jnp.int32(0))
    chex.assert_trees_all_equal(same, stats)
    _, placed = vq.update({}, stats, z, before.codes, jax.random.key(2), jnp.int32(1))
    _, expected = vq.init(jax.random.key(2), z)
    chex.assert_trees_all_close(placed, expected, rtol=1e-5)
    after = vq.quantize({}, placed, z, step=jnp.int32(2))
    np.testing.assert_array_equal(after.z_q, placed.codebook[after.codes[..., 0]])


def test_cosine_codes_and_output_have_unit_length_and_ignore_scale():
    vq = VQ(codebook_size=16, dim=4, distance="cosine")
    z = jax.random.normal(jax.random.key(0), (64, 4))
    _, stats = vq.init(jax.random.key(1), z)
    out = vq.quantize({}, stats, z)
    np.testing.assert_allclose(jnp.linalg.norm(out.z_q, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(out.codes, vq.quantize({}, stats, 7.0 * z).codes)
    unit = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    np.testing.assert_array_equal(out.codes[:, 0], jnp.argmax(unit @ stats.codebook.T, axis=-1))
    _, new = vq.update({}, stats, z, out.codes, jax.random.key(2), jnp.int32(0))
    np.testing.assert_allclose(jnp.linalg.norm(new.codebook, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [{"codebook_size": 1}, {"dim": 0}, {"decay": 1.0}, {"decay": -0.1}, {"revive_below": 1.0}],
)
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=str(value)):
        VQ(**fields)
