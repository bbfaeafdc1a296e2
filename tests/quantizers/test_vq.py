"""VQ against NumPy, and the known bugs of EMA codebooks."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import VQ, codebook_learning
from vqdit.quantizers.codebook_learning import EPSILON
from vqdit.quantizers.gradients import straight_through
from vqdit.quantizers.vq import VQStats, VQUse
from vqdit.typing import Named


def blobs(key, k=8, n=512, d=3, spread=0.05):
    k_centre, k_pick, k_noise = jax.random.split(key, 3)
    centres = 5.0 * jax.random.normal(k_centre, (k, d))
    pick = jax.random.randint(k_pick, (n,), 0, k)
    return centres[pick] + spread * jax.random.normal(k_noise, (n, d)), centres


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
    codes = vq.encode({}, stats, z)
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
    codes = vq.encode({}, stats, z)
    _, new = vq.update({}, stats, z, codes, jax.random.key(2), jnp.int32(0))
    assert jnp.abs(new.codebook).max() < 100  # none is left out there
    used = np.unique(vq.encode({}, new, z))
    assert len(used) == 64
    _, later = vq.update({}, new, z, vq.encode({}, new, z), jax.random.key(3), jnp.int32(1))
    assert jnp.abs(later.codebook).max() < 100  # and the old code does not come back


def test_revival_never_draws_padding():
    z = jnp.concatenate([jnp.ones((8, 2)), jnp.full((56, 2), 77.0)])
    mask = jnp.arange(64) < 8
    vq = VQ(codebook_size=16, dim=2, revive_below=0.5)
    _, stats = vq.init(jax.random.key(0))
    codes = vq.encode({}, stats, z)
    _, new = vq.update({}, stats, z, codes, jax.random.key(1), jnp.int32(0), mask=mask)
    assert jnp.abs(new.codebook).max() < 10


def test_kmeans_starts_from_distinct_real_vectors():
    """Twice the same centroid leaves one of the two without vectors from the start."""
    z = jnp.concatenate([jnp.arange(16.0)[:, None] * jnp.ones(2), jnp.full((48, 2), 77.0)])
    vq = VQ(codebook_size=16, dim=2, start=1, kmeans_iterations=0)
    _, stats = vq.init(jax.random.key(0))
    codes = vq.encode({}, stats, z)
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
    weight = jnp.ones(len(z))
    centres, count = codebook_learning.kmeans(
        jax.random.key(2), z, weight, 16, 10, vq._normalize, 1
    )
    chex.assert_trees_all_close(placed, VQStats(centres, count, centres * count[:, None]))
    after = vq.quantize({}, placed, z, step=jnp.int32(2))
    np.testing.assert_array_equal(after.z_q, placed.codebook[after.codes[..., 0]])


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_a_batch_without_vectors_teaches_nothing_and_the_start_waits_for_one(learning):
    """A modality may be missing in all examples of a batch."""
    z, _ = blobs(jax.random.key(0), n=64)
    vq = VQ(codebook_size=16, dim=3, start=2, learning=learning, revive_below=0.5)
    params, stats = vq.init(jax.random.key(1))
    codes, nothing = vq.encode(params, stats, z), jnp.zeros(64, bool)
    for step in (1, 2, 3):
        found = vq.update(params, stats, z, codes, jax.random.key(2), jnp.int32(step), mask=nothing)
        chex.assert_trees_all_equal(found, (params, stats))
        np.testing.assert_array_equal(vq.quantize(params, stats, z, step=jnp.int32(step)).z_q, z)
    placed = vq.update(params, stats, z, codes, jax.random.key(2), jnp.int32(3))
    on_time = vq.update(params, stats, z, codes, jax.random.key(2), jnp.int32(1))
    chex.assert_trees_all_equal(placed, on_time)
    after = vq.quantize(*placed, z, step=jnp.int32(4))
    assert jnp.mean((after.z_q - z) ** 2) < 0.2 * jnp.var(z)
    again = vq.update(*placed, z, codes, jax.random.key(3), jnp.int32(4), mask=nothing)
    chex.assert_trees_all_equal(again, placed)


@pytest.mark.parametrize("step", [2, 3])  # k-means, and averages
@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_a_vector_that_is_not_finite_teaches_nothing(learning, step, key):
    vq = VQ(codebook_size=8, dim=3, start=3, learning=learning)
    z = jax.random.normal(key, (2, 16, 3))
    params, stats = vq.update(
        *vq.init(jax.random.key(1)), z, codes_of(z), jax.random.key(2), jnp.asarray(2)
    )
    wrong = z.at[0, 0, 0].set(jnp.nan).at[1, 5, 2].set(jnp.inf)
    update = jax.jit(vq.update)
    found = update(params, stats, wrong, codes_of(z), jax.random.key(3), jnp.asarray(step))
    mask = jnp.ones((2, 16), bool).at[0, 0].set(False).at[1, 5].set(False)
    expected = update(
        params, stats, z, codes_of(z), jax.random.key(3), jnp.asarray(step), mask=mask
    )
    chex.assert_tree_all_finite(found)
    chex.assert_trees_all_equal(found, expected)


def codes_of(z):
    return jnp.zeros((*z.shape[:-1], 1), jnp.int32)


def test_cosine_codes_and_output_have_unit_length_and_ignore_scale():
    vq = VQ(codebook_size=16, dim=4, distance="cosine")
    z = jax.random.normal(jax.random.key(0), (64, 4))
    _, stats = vq.init(jax.random.key(1), z)
    out = vq.quantize({}, stats, z)
    np.testing.assert_allclose(jnp.linalg.norm(out.z_q, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_array_equal(out.codes, vq.encode({}, stats, 7.0 * z))
    unit = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    np.testing.assert_array_equal(out.codes[:, 0], jnp.argmax(unit @ stats.codebook.T, axis=-1))
    _, new = vq.update({}, stats, z, out.codes, jax.random.key(2), jnp.int32(0))
    np.testing.assert_allclose(jnp.linalg.norm(new.codebook, axis=-1), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"codebook_size": 1},
        {"codebook_size": 2**31},
        {"dim": 0},
        {"code_dim": 0},
        {"heads": 3},
        {"shards": 3},
        {"start": -1},
        {"decay": 1.0},
        {"decay": -0.1},
        {"revive_below": 1.0},
        {"weights": Named(commit=1.0)},
        {"estimator": "diveq"},
    ],
)
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=re.escape(str(value))):
        VQ(**fields)


def test_a_codebook_by_gradient_learns_from_its_own_loss_alone():
    """beta belongs to the commitment: the well-known swap puts it on the codebook."""
    vq = VQ(codebook_size=8, dim=3, learning="gradient")
    params, stats = vq.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (16, 3))

    def loss(params, z):
        out = vq.quantize(params, stats, z)
        return sum(vq.weights[name] * value for name, value in out.losses.items())

    to_params, to_z = jax.grad(loss, argnums=(0, 1))(params, z)
    q = vq.quantize(params, stats, z).z_q
    codes = np.asarray(vq.encode(params, stats, z))[:, 0]
    np.testing.assert_allclose(to_z, 0.25 * 2 * (z - q) / z.size, rtol=1e-5, atol=1e-7)
    expected = np.zeros((8, 3))
    np.add.at(expected, codes, np.asarray(2 * (q - z) / z.size))
    np.testing.assert_allclose(to_params["codebook"], expected, rtol=1e-4, atol=1e-7)


def test_revival_moves_codes_that_learn_by_gradient_too():
    z = jax.random.normal(jax.random.key(1), (256, 3))
    vq = VQ(codebook_size=32, dim=3, learning="gradient", revive_below=0.1)
    params, _ = vq.init(jax.random.key(0))
    params = {"codebook": params["codebook"].at[1:].add(1e3)}
    stats = VQUse(jnp.zeros(32).at[0].set(256.0))
    codes = vq.encode(params, stats, z)
    new, use = vq.update(params, stats, z, codes, jax.random.key(2), jnp.int32(0))
    assert jnp.abs(new["codebook"]).max() < 100
    np.testing.assert_allclose(use.count[1:], 256.0 / 32, rtol=1e-5)  # a full share


def test_projection_looks_up_in_few_dimensions_and_comes_back():
    vq = VQ(codebook_size=16, dim=6, code_dim=2, heads=2)
    z = jax.random.normal(jax.random.key(1), (20, 6))
    params, stats = vq.init(jax.random.key(0), z)
    assert jax.tree.map(jnp.shape, params) == {"in": (6, 4), "out": (4, 6)}
    out = vq.quantize(params, stats, z)
    h = np.asarray(z, np.float64) @ np.asarray(params["in"], np.float64)
    codebook = np.asarray(stats.codebook, np.float64)
    codes = ((h.reshape(20, 2, 1, 2) - codebook) ** 2).sum(-1).argmin(-1)
    np.testing.assert_array_equal(out.codes, codes)
    expected = codebook[codes].reshape(20, 4) @ np.asarray(params["out"], np.float64)
    np.testing.assert_allclose(out.z_q, expected, atol=1e-5)
    gradient = jax.grad(lambda p: jnp.sum(vq.quantize(p, stats, z).z_q ** 2))(params)
    assert all(jnp.abs(part).max() > 0 for part in gradient.values())


def test_padding_is_invisible_to_projected_vectors():
    """The peer compares the projected codes with z itself where there is a mask."""
    vq = VQ(codebook_size=16, dim=6, code_dim=2)
    z = jax.random.normal(jax.random.key(1), (20, 6))
    params, stats = vq.init(jax.random.key(0), z)
    mask = jnp.arange(20) < 12
    masked = vq.quantize(params, stats, z.at[12:].set(jnp.nan), mask=mask)
    alone = vq.quantize(params, stats, z[:12])
    np.testing.assert_allclose(masked.losses["commitment"], alone.losses["commitment"], rtol=1e-6)
