"""RVQ and GroupedVQ: levels, groups, dropout, and the known bugs of residual quantizers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quantizers.test_vq import blobs
from vqdit.quantizers import FSQ, RVQ, VQ, GroupedVQ

INNER = VQ(codebook_size=16, dim=3)


def trained(quantizer, z, steps=20):
    params, stats = quantizer.init(jax.random.key(0), z)
    update, quantize = jax.jit(quantizer.update), jax.jit(quantizer.quantize)
    for step in range(steps):
        codes = quantize(params, stats, z).codes
        params, stats = update(params, stats, z, codes, jax.random.key(step), jnp.int32(step))
    return params, stats


def test_levels_quantize_what_is_left():
    z, _ = blobs(jax.random.key(1))
    rvq = RVQ(quantizer=INNER, depth=3)
    params, stats = rvq.init(jax.random.key(0), z)
    out = rvq.quantize(params, stats, z)
    residual = np.asarray(z, np.float64)
    for level in range(3):
        codebook = np.asarray(stats[level].codebook, np.float64)
        codes = ((residual[:, None] - codebook) ** 2).sum(-1).argmin(-1)
        np.testing.assert_array_equal(out.codes[:, level], codes)
        residual = residual - codebook[codes]
    np.testing.assert_allclose(out.z_q, z - residual, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_every_level_makes_the_error_smaller(shared):
    z = jax.random.normal(jax.random.key(1), (512, 3))
    rvq = RVQ(quantizer=INNER, depth=4, shared=shared)
    params, stats = trained(rvq, z)
    codes = rvq.encode(params, stats, z)
    errors = []
    for depth in range(1, 5):
        prefix = jnp.where(jnp.arange(4) < depth, codes, -1)
        errors.append(float(jnp.mean((rvq.lookup(params, stats, prefix) - z) ** 2)))
    assert (np.diff(errors) < 0).all()
    assert errors[-1] < (0.02 if not shared else 0.1)


def test_every_level_commits_the_encoder():
    """If q_i is not constant in the residual, only the first level has a commitment gradient."""
    z, _ = blobs(jax.random.key(1))
    rvq = RVQ(quantizer=INNER, depth=2)
    params, stats = rvq.init(jax.random.key(0), z)
    out = rvq.quantize(params, stats, z)
    gradient = jax.grad(lambda z: rvq.quantize(params, stats, z).losses["commitment"])(z)
    first = stats[0].codebook[out.codes[:, 0]]
    expected = (2 * (z - first) + 2 * (z - out.z_q)) / z.size / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_the_sum_reaches_z_once():
    z = jax.random.normal(jax.random.key(1), (10, 3))
    rvq = RVQ(quantizer=INNER, depth=4)
    params, stats = rvq.init(jax.random.key(0))
    gradient = jax.grad(lambda z: rvq.quantize(params, stats, z).z_q.sum())(z)
    np.testing.assert_allclose(gradient, 1.0, rtol=1e-6)


def test_projections_of_all_levels_learn_from_the_decoder():
    z = jax.random.normal(jax.random.key(1), (10, 3))
    rvq = RVQ(quantizer=VQ(codebook_size=16, dim=3, code_dim=2), depth=3)
    params, stats = rvq.init(jax.random.key(0))
    gradient = jax.grad(lambda p: jnp.sum(rvq.quantize(p, stats, z).z_q ** 2))(params)
    assert all(jnp.abs(level["out"]).max() > 0 for level in gradient)


def test_no_key_is_used_twice(key, monkeypatch):
    """Dropout and every level draw from keys of their own."""
    used = []

    class Spy(VQ):
        def quantize(self, params, stats, z, *, key, step=None, mask=None):
            used.append(("level", key))
            return super().quantize(params, stats, z, key=key, step=step, mask=mask)

    def spy(name):
        draw = getattr(jax.random, name)

        def drawn(key, *args, **kwargs):
            used.append((name, key))
            return draw(key, *args, **kwargs)

        return drawn

    rvq = RVQ(quantizer=Spy(codebook_size=8, dim=4), depth=4, dropout=0.5)
    params, stats = rvq.init(key)
    for name in ("bernoulli", "randint"):
        monkeypatch.setattr(jax.random, name, spy(name))
    rvq.quantize(params, stats, jnp.ones((2, 4)), key=key)
    keys = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for _, key in used}
    assert {name for name, _ in used} == {"level", "bernoulli", "randint"}
    # Each level is looked up twice with its key, but for the first.
    assert len(keys) == 4 + 2


def test_dropout_draws_every_depth_and_the_last_level_too():
    rvq = RVQ(quantizer=INNER, depth=4, dropout=0.5)
    params, stats = rvq.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (4000, 2, 3))
    codes = rvq.quantize(params, stats, z, key=jax.random.key(2)).codes
    depth = np.asarray((codes >= 0).sum(-1))
    assert (depth[:, 0] == depth[:, 1]).all()  # one draw for an example
    share = np.bincount(depth[:, 0], minlength=5)[1:] / len(z)
    np.testing.assert_allclose(share, [0.125, 0.125, 0.125, 0.625], atol=0.03)
    assert (np.diff(np.asarray(codes >= 0, int), axis=-1) <= 0).all()  # always a prefix
    assert (rvq.encode(params, stats, z) >= 0).all()  # never without a key


def test_dropped_levels_learn_nothing():
    rvq = RVQ(quantizer=INNER, depth=2)
    z = jax.random.normal(jax.random.key(1), (64, 3))
    params, stats = rvq.init(jax.random.key(0), z)
    codes = rvq.encode(params, stats, z).at[:, 1].set(-1)
    _, new = rvq.update(params, stats, z, codes, jax.random.key(0), jnp.int32(0))
    chex.assert_trees_all_equal(new[1], stats[1])
    assert (np.asarray(new[0].count) != np.asarray(stats[0].count)).any()


def test_levels_are_placed_on_the_residuals_of_levels_just_placed():
    z, _ = blobs(jax.random.key(1))
    rvq = RVQ(quantizer=VQ(codebook_size=8, dim=3, start=5), depth=2)
    params, stats = rvq.init(jax.random.key(0))
    before = rvq.quantize(params, stats, z, step=jnp.int32(4))
    np.testing.assert_array_equal(before.z_q, z)
    _, new = rvq.update(params, stats, z, before.codes, jax.random.key(3), jnp.int32(4))
    after = rvq.quantize(params, new, z, step=jnp.int32(5))
    one = new[0].codebook[after.codes[:, 0]]
    assert jnp.mean((z - after.z_q) ** 2) < jnp.mean((z - one) ** 2)
    spread = jnp.sqrt(jnp.mean((z - one) ** 2))
    assert jnp.abs(new[1].codebook).max() < 10 * spread  # of residuals, not of the data


def test_a_shared_codebook_counts_the_vectors_of_all_levels():
    rvq = RVQ(quantizer=VQ(codebook_size=8, dim=3, revive_below=0.0), depth=3, shared=True)
    z = jax.random.normal(jax.random.key(1), (50, 3))
    params, stats = rvq.init(jax.random.key(0), z)
    codes = rvq.encode(params, stats, z)
    _, new = rvq.update(params, stats, z, codes, jax.random.key(0), jnp.int32(0))
    count = 0.99 * stats.count + 0.01 * np.bincount(np.ravel(codes), minlength=8)
    np.testing.assert_allclose(new.count, count, rtol=1e-5)


def test_scalars_left_over_are_blown_up():
    """Naive stacking of FSQ leaves the later levels nothing to round but zeros."""
    z = jax.random.normal(jax.random.key(0), (500, 3)) * 0.5
    rvq = RVQ(quantizer=FSQ(levels=(5, 5, 5), bound="atanh"), depth=3)
    params, stats = rvq.init(jax.random.key(0))
    codes = rvq.encode(params, stats, z)
    assert all(len(np.unique(codes[:, level])) > 60 for level in range(3))


def test_groups_are_quantizers_of_their_own():
    z = jax.random.normal(jax.random.key(0), (20, 6))
    grouped = GroupedVQ(quantizer=INNER, groups=2)
    params, stats = grouped.init(jax.random.key(1), z)
    out = grouped.quantize(params, stats, z)
    assert grouped.codebook_sizes == (16, 16) and grouped.dim == 6
    for group in range(2):
        own = jax.tree.map(lambda x, group=group: x[group], (params, stats))
        part = z[:, 3 * group : 3 * group + 3]
        alone = INNER.quantize(*own, part)
        np.testing.assert_array_equal(out.codes[:, group], alone.codes[:, 0])
        np.testing.assert_array_equal(out.z_q[:, 3 * group : 3 * group + 3], alone.z_q)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RVQ(depth=0), "depth >= 1, got 0"),
        (lambda: RVQ(dropout=1.5), "dropout in \\[0, 1\\], got 1.5"),
        (lambda: GroupedVQ(groups=0), "groups >= 1, got 0"),
    ],
)
def test_bad_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
