"""LFQ and BSQ against the softmax over all codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from vqdit.quantizers import BSQ, LFQ


def entropies(z, codes, temperature):
    """Mean entropy and entropy of the mean of softmax over all codes of 2 z.c / T, in nats."""
    p = scipy.special.softmax(2.0 * z.astype(np.float64) @ codes.T / temperature, axis=-1)
    return scipy.special.entr(p).sum(-1).mean(), scipy.special.entr(p.mean(0)).sum()


@pytest.mark.parametrize("quantizer", [LFQ(bits=6, temperature=0.7), BSQ(bits=6, temperature=0.3)])
def test_entropies_are_those_over_all_codes(quantizer):
    z = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    out = quantizer.quantize({}, {}, jnp.asarray(z))
    codes = np.asarray(quantizer.lookup({}, {}, jnp.arange(64)[:, None]))
    seen = z / np.linalg.norm(z, axis=-1, keepdims=True) if isinstance(quantizer, BSQ) else z
    mean, of_mean = entropies(seen, codes, quantizer.temperature)
    np.testing.assert_allclose(out.losses["entropy"], mean, rtol=1e-5)
    np.testing.assert_allclose(out.losses["diversity"], -of_mean, rtol=1e-5)


def test_groups_bound_the_entropy_of_the_mean_from_above():
    z = jax.random.normal(jax.random.key(0), (100, 6)) + 0.3
    whole = LFQ(bits=6, temperature=2.0).quantize({}, {}, z).losses
    halves = LFQ(bits=6, temperature=2.0, entropy_group=3).quantize({}, {}, z).losses
    np.testing.assert_allclose(halves["entropy"], whole["entropy"], rtol=1e-6)
    assert -halves["diversity"] > -whole["diversity"] + 1e-4
    parts = [
        LFQ(bits=3, temperature=2.0).quantize({}, {}, part).losses["diversity"]
        for part in (z[:, :3], z[:, 3:])
    ]
    np.testing.assert_allclose(halves["diversity"], sum(parts), rtol=1e-5)


def test_entropy_pushes_tokens_apart_and_codes_together():
    """Sure tokens that all take one code: no entropy, and no diversity either."""
    one = LFQ(bits=4).quantize({}, {}, jnp.ones((8, 4))).losses
    np.testing.assert_allclose([one["entropy"], one["diversity"]], 0.0, atol=1e-6)
    corners = LFQ(bits=4).lookup({}, {}, jnp.arange(16)[:, None])
    all_used = LFQ(bits=4).quantize({}, {}, corners).losses
    np.testing.assert_allclose(all_used["diversity"], -np.log(16), rtol=1e-5)


@pytest.mark.parametrize("quantizer", [LFQ(bits=20), BSQ(bits=30)])
def test_many_bits_are_counted_exactly(quantizer):
    """A float32 sum of 2^i is exact up to 24 bits only, a bfloat16 one up to 8."""
    codes = jax.random.randint(jax.random.key(0), (1000, 1), 0, 2**quantizer.bits)
    z_q = quantizer.lookup({}, {}, codes)
    out = quantizer.quantize({}, {}, z_q.astype(jnp.bfloat16))
    np.testing.assert_array_equal(out.codes, codes)
    assert jnp.isfinite(out.losses["diversity"])


def test_the_first_dimension_is_the_most_significant_bit():
    assert LFQ(bits=3).encode({}, {}, jnp.asarray([1.0, -1.0, -1.0])) == 4


def test_bsq_codes_lie_on_the_unit_sphere():
    out = BSQ(bits=5).quantize({}, {}, 9.0 * jax.random.normal(jax.random.key(0), (7, 5)))
    np.testing.assert_allclose(jnp.linalg.norm(out.z_q, axis=-1), 1.0, rtol=1e-6)
    assert set(out.losses) == {"entropy", "diversity"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": 31}, "1 to 30 bits, got 31.*GroupedVQ"),
        ({"bits": 0}, "1 to 30 bits, got 0"),
        ({"temperature": 0.0}, "temperature > 0, got 0.0"),
        ({"entropy_group": 0}, "entropy_group in 1 to 20, got 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LFQ(**fields)


def test_gradients_are_finite_where_probabilities_vanish():
    z = 100.0 * jax.random.normal(jax.random.key(0), (8, 6))

    def loss(z):
        losses = LFQ(bits=6).quantize({}, {}, z).losses
        return losses["entropy"] + losses["diversity"]

    assert jnp.isfinite(jax.grad(loss)(z)).all()
