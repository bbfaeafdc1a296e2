"""IBQ, GumbelVQ and SimVQ against what they compute with whole tokens x K matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import IBQ, GumbelVQ, SimVQ
from vqdit.quantizers import assignment as soft

Z = jax.random.normal(jax.random.key(5), (12, 4))
TARGET = jax.random.normal(jax.random.key(6), (12, 4))


def whole_ibq(codebook, z, temperature):
    """IBQ as the paper's algorithm writes it."""
    logits = z @ codebook.T
    p = jax.nn.softmax(logits)
    h = jax.nn.one_hot(jnp.argmax(logits, -1), len(codebook))
    constant = jax.lax.stop_gradient
    z_q = (h + p - constant(p)) @ codebook
    q = h @ codebook
    sharp = jax.nn.softmax(logits / temperature)
    return z_q, {
        "soft": jnp.mean((z_q - z) ** 2),
        "commitment": jnp.mean((constant(q) - z) ** 2),
        "codebook": jnp.mean((q - constant(z)) ** 2),
        "entropy": jnp.mean(jnp.sum(jax.scipy.special.entr(sharp), -1)),
        "diversity": -jnp.sum(jax.scipy.special.entr(jnp.mean(sharp, 0))),
    }


@pytest.mark.parametrize("name", ["z_q", "soft", "commitment", "codebook", "entropy", "diversity"])
def test_ibq_is_the_algorithm_in_value_and_gradient(name, monkeypatch):
    monkeypatch.setattr(soft, "CHUNK", 7)  # 40 codes in chunks of 7: the last is filled up
    jax.clear_caches()
    ibq = IBQ(codebook_size=40, dim=4, temperature=0.5, shards=2)
    params, _ = ibq.init(jax.random.key(0))

    def chunked(params, z):
        out = ibq.quantize(params, {}, z)
        return jnp.sum(out.z_q * TARGET) if name == "z_q" else out.losses[name]

    def whole(params, z):
        z_q, losses = whole_ibq(params["codebook"], z, 0.5)
        return jnp.sum(z_q * TARGET) if name == "z_q" else losses[name]

    got = jax.jit(jax.value_and_grad(chunked, argnums=(0, 1)))(params, Z)
    expected = jax.value_and_grad(whole, argnums=(0, 1))(params, Z)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    jax.clear_caches()


def test_every_code_of_ibq_gets_a_gradient():
    ibq = IBQ(codebook_size=32, dim=4)
    params, _ = ibq.init(jax.random.key(0))
    gradient = jax.grad(lambda p: jnp.sum(ibq.quantize(p, {}, Z).z_q * TARGET))(params)
    assert (jnp.abs(gradient["codebook"]).sum(-1) > 0).all()


def test_ibq_keeps_no_matrix_of_tokens_by_codes():
    """At K = 262,144 one such matrix of 256 tokens would be 268 MB."""
    ibq = IBQ(codebook_size=262144, dim=8)
    params = {"codebook": jax.ShapeDtypeStruct((262144, 8), jnp.float32)}
    z = jax.ShapeDtypeStruct((256, 8), jnp.float32)

    def loss(params, z):
        out = ibq.quantize(params, {}, z)
        return jnp.sum(out.z_q) + sum(out.losses.values())

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, z).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 120e6


def test_gumbel_draws_codes_with_their_probabilities():
    vq = GumbelVQ(codebook_size=5, dim=3)
    params, _ = vq.init(jax.random.key(0))
    z = jnp.broadcast_to(jnp.asarray([1.0, -0.5, 0.3]), (20000, 3))
    codes = vq.quantize(params, {}, z, key=jax.random.key(1)).codes[:, 0]
    p = jax.nn.softmax(params["logits"] @ z[0] + params["bias"])
    share = np.bincount(codes, minlength=5) / len(z)
    np.testing.assert_allclose(share, p, atol=4 * 0.5 / np.sqrt(len(z)))
    certain = vq.encode(params, {}, z[:3])
    np.testing.assert_array_equal(certain, jnp.argmax(p))


def test_gumbel_pays_for_not_being_uniform():
    vq = GumbelVQ(codebook_size=8, dim=4)
    params, _ = vq.init(jax.random.key(0))
    p = np.asarray(jax.nn.softmax(Z @ params["logits"].T + params["bias"]), np.float64)
    divergence = np.mean(np.sum(p * np.log(p * 8), -1))
    out = vq.quantize(params, {}, Z)
    np.testing.assert_allclose(out.losses["uniform"], divergence, rtol=1e-4)


def test_gumbel_gradient_is_that_of_the_soft_mean_at_its_temperature():
    vq = GumbelVQ(codebook_size=8, dim=4, temperature=(2.0, 0.5), anneal=100)
    params, _ = vq.init(jax.random.key(0))

    def whole(params, z):
        p = jax.nn.softmax((z @ params["logits"].T + params["bias"]) / 0.5)
        return jnp.sum(p @ jax.lax.stop_gradient(params["codebook"]) * TARGET)

    got = jax.grad(lambda p, z: jnp.sum(vq.quantize(p, {}, z).z_q * TARGET), argnums=(0, 1))
    to_params, to_z = got(params, Z)
    expected_params, expected_z = jax.grad(whole, argnums=(0, 1))(params, Z)
    np.testing.assert_allclose(to_z, expected_z, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(to_params["logits"], expected_params["logits"], rtol=1e-4, atol=1e-6)
    assert jnp.abs(to_params["codebook"]).sum() > 0  # the chosen codes, directly


def test_gumbel_cools_down():
    vq = GumbelVQ(temperature=(1.0, 0.0625), anneal=100)
    found = [float(vq.temperature_at(jnp.int32(step))) for step in (0, 50, 100, 500)]
    np.testing.assert_allclose(found, [1.0, (1 + 0.0625) / 2, 0.0625, 0.0625], rtol=1e-6)
    assert vq.temperature_at(None) == 0.0625


def test_simvq_moves_every_code_through_its_map_alone():
    vq = SimVQ(codebook_size=32, dim=4)
    params, stats = vq.init(jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == {"kernel": (4, 4), "bias": (4,)}
    gradient = jax.grad(lambda p: vq.quantize(p, stats, Z).losses["codebook"])(params)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    ids = jnp.arange(32)[:, None]
    before, after = vq.lookup(params, stats, ids), vq.lookup(moved, stats, ids)
    assert (jnp.abs(after - before).sum(-1) > 0).all()
    np.testing.assert_allclose(
        before, stats["table"] @ params["kernel"] + params["bias"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IBQ(temperature=0.0), "temperature > 0, got 0.0"),
        (lambda: IBQ(codebook_size=2**31), "int32 codes"),
        (lambda: IBQ(codebook_size=100, shards=3), "codebook_size=100 .* shards=3"),
        (lambda: GumbelVQ(temperature=(1.0, 0.0)), "two temperatures > 0, got \\(1.0, 0.0\\)"),
        (lambda: GumbelVQ(anneal=0), "anneal >= 1"),
        (lambda: SimVQ(codebook_size=1), "at least 2 codes, codebook_size=1 gives 1"),
        (lambda: SimVQ(dim=0), "dim >= 1, got 0"),
    ],
)
def test_bad_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
