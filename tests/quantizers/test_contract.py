"""Every quantizer keeps the contract. A new one is one line in TABLE."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    LFQ,
    RVQ,
    VQ,
    GroupedVQ,
    GumbelVQ,
    Projected,
    SimVQ,
    SplitVQ,
)

TABLE = [
    pytest.param(VQ(codebook_size=16, dim=4), id="VQ"),
    pytest.param(VQ(codebook_size=16, dim=4, distance="cosine"), id="VQ-cosine"),
    pytest.param(VQ(codebook_size=16, dim=4, start=3), id="VQ-start"),
    pytest.param(VQ(codebook_size=2500, dim=4), id="VQ-chunked"),
    pytest.param(VQ(codebook_size=16, dim=4, learning="gradient"), id="VQ-gradient"),
    pytest.param(VQ(codebook_size=16, dim=4, code_dim=2), id="VQ-projected"),
    pytest.param(
        VQ(codebook_size=16, dim=4, code_dim=2, bias=True, distance="angle", learning="gradient"),
        id="VQ-angle",
    ),
    pytest.param(VQ(codebook_size=16, dim=4, heads=2, shards=2), id="VQ-heads-shards"),
    pytest.param(VQ(codebook_size=16, dim=4, estimator="rotation"), id="VQ-rotation"),
    pytest.param(
        VQ(codebook_size=16, dim=4, learning="gradient", estimator="diveq"), id="VQ-diveq"
    ),
    pytest.param(RVQ(quantizer=VQ(codebook_size=16, dim=4), depth=3, dropout=0.5), id="RVQ"),
    pytest.param(
        RVQ(quantizer=VQ(codebook_size=16, dim=4, start=3), depth=2, shared=True), id="RVQ-shared"
    ),
    pytest.param(RVQ(quantizer=FSQ(levels=(5, 4, 3, 2)), depth=2), id="RVQ-FSQ"),
    pytest.param(GroupedVQ(quantizer=VQ(codebook_size=16, dim=2), groups=2), id="GroupedVQ"),
    pytest.param(
        GroupedVQ(quantizer=RVQ(quantizer=VQ(codebook_size=9, dim=2), depth=2)), id="GroupedVQ-RVQ"
    ),
    pytest.param(
        Projected(quantizer=RVQ(quantizer=FSQ(levels=(5, 3)), depth=2), dim=4), id="Projected-RFSQ"
    ),
    pytest.param(
        SplitVQ(
            semantic=VQ(codebook_size=9, dim=4),
            acoustic=RVQ(quantizer=VQ(codebook_size=16, dim=4), depth=2, dropout=0.5),
        ),
        id="SplitVQ",
    ),
    pytest.param(FSQ(levels=(8, 5, 3, 2)), id="FSQ"),
    pytest.param(FSQ(levels=(8, 5, 3, 2), bound="atanh"), id="FSQ-atanh"),
    pytest.param(FSQ(levels=(8, 5, 3, 2), bound="symmetric"), id="FSQ-symmetric"),
    pytest.param(LFQ(bits=4), id="LFQ"),
    pytest.param(BSQ(bits=4, entropy_group=3), id="BSQ"),
    pytest.param(SimVQ(codebook_size=16, dim=4), id="SimVQ"),
    pytest.param(IBQ(codebook_size=16, dim=4), id="IBQ"),
    pytest.param(IBQ(codebook_size=2500, dim=4, shards=2), id="IBQ-chunked"),
    pytest.param(GumbelVQ(codebook_size=16, dim=4), id="GumbelVQ"),
]


def started(quantizer, key):
    z = jax.random.normal(jax.random.fold_in(key, 1), (4, 3, 5, quantizer.dim))
    return (*quantizer.init(jax.random.fold_in(key, 2)), z)


@pytest.mark.parametrize("quantizer", TABLE)
def test_default_constructs_and_hashes(quantizer):
    cls = type(quantizer)
    assert hash(cls()) == hash(cls())
    assert cls() == cls()


@pytest.mark.parametrize("quantizer", TABLE)
def test_shapes_and_id_range(quantizer, key):
    params, stats, z = started(quantizer, key)
    out = quantizer.quantize(params, stats, z)
    sizes = quantizer.codebook_sizes
    chex.assert_shape(out.z_q, z.shape)
    chex.assert_shape(out.codes, (*z.shape[:-1], len(sizes)))
    assert out.codes.dtype == jnp.int32
    assert (out.codes >= 0).all()
    assert (out.codes < jnp.asarray(sizes)).all()
    np.testing.assert_array_equal(quantizer.encode(params, stats, z), out.codes)


@pytest.mark.parametrize("quantizer", TABLE)
def test_lookup_of_codes_is_the_forward_pass_bitwise(quantizer, key):
    params, stats, z = started(quantizer, key)
    out = quantizer.quantize(params, stats, z)
    np.testing.assert_array_equal(quantizer.lookup(params, stats, out.codes), out.z_q)


@pytest.mark.parametrize("quantizer", TABLE)
def test_lookup_of_no_code_is_zero(quantizer, key):
    params, stats, _ = started(quantizer, key)
    codes = jnp.full((3, len(quantizer.codebook_sizes)), -1)
    np.testing.assert_array_equal(quantizer.lookup(params, stats, codes), jnp.zeros((3, 4)))


@pytest.mark.parametrize("quantizer", TABLE)
def test_jit_changes_nothing(quantizer, key):
    params, stats, z = started(quantizer, key)
    plain = quantizer.quantize(params, stats, z)
    jitted = jax.jit(quantizer.quantize)(params, stats, z)
    encoded = jax.jit(quantizer.encode)(params, stats, z)
    np.testing.assert_array_equal(plain.codes, jitted.codes)
    np.testing.assert_array_equal(plain.codes, encoded)
    chex.assert_trees_all_close(plain.z_q, jitted.z_q, atol=1e-6)


@pytest.mark.parametrize("quantizer", TABLE)
def test_codes_do_not_depend_on_the_precision_of_the_input_policy(quantizer, key):
    """bfloat16 inputs give the codes of the same values in float32."""
    params, stats, z = started(quantizer, key)
    z = z.astype(jnp.bfloat16)
    low = quantizer.encode(params, stats, z)
    high = quantizer.encode(params, stats, z.astype(jnp.float32))
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("quantizer", TABLE)
def test_gradient_reaches_z_and_no_statistics(quantizer, key):
    params, stats, z = started(quantizer, key)
    target = jax.random.normal(jax.random.fold_in(key, 5), z.shape)

    def loss(z, stats):
        return jnp.sum(quantizer.quantize(params, stats, z).z_q * target)

    to_z, to_stats = jax.grad(loss, argnums=(0, 1))(z, stats)
    chex.assert_tree_all_finite(to_z)
    assert jnp.abs(to_z).sum() > 0
    chex.assert_trees_all_equal(to_stats, jax.tree.map(jnp.zeros_like, stats))


@pytest.mark.parametrize("quantizer", TABLE)
def test_update_keeps_structure_and_is_finite(quantizer, key):
    params, stats, z = started(quantizer, key)
    for step in range(5):
        codes = quantizer.encode(params, stats, z)
        new = quantizer.update(
            params, stats, z, codes, jax.random.fold_in(key, step), jnp.int32(step)
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(new, (params, stats))
        chex.assert_tree_all_finite(new)
        params, stats = new


@pytest.mark.parametrize("quantizer", TABLE)
def test_padding_takes_no_part(quantizer, key):
    """With a mask, what stands at masked positions changes no loss, no update and no start."""
    params, stats, z = started(quantizer, key)
    mask = jnp.ones(z.shape[:-1], bool).at[:, -1].set(False)
    results = []
    for filler in (0.0, 100.0):
        filled = jnp.where(mask[..., None], z, filler)
        out = quantizer.quantize(params, stats, filled, mask=mask)
        again = jax.random.fold_in(key, 9)
        new = quantizer.update(params, stats, filled, out.codes, again, jnp.int32(2), mask=mask)
        results.append((out.losses, new, quantizer.init(jax.random.fold_in(key, 11), filled, mask)))
    chex.assert_trees_all_close(*results, rtol=1e-6)


@pytest.mark.parametrize("quantizer", TABLE)
def test_every_loss_is_a_finite_scalar_with_a_weight(quantizer, key):
    params, stats, z = started(quantizer, key)
    for name, value in quantizer.quantize(params, stats, z, key=key).losses.items():
        assert quantizer.weights[name] >= 0.0
        chex.assert_shape(value, ())
        assert jnp.isfinite(value)


@pytest.mark.parametrize("quantizer", TABLE)
def test_another_width_is_refused_by_both_widths(quantizer, key):
    params, stats = quantizer.init(key)
    with pytest.raises(ValueError, match="vectors of width 4, got width 5"):
        quantizer.quantize(params, stats, jnp.zeros((2, 5)))
