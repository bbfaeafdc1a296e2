"""The same numbers as vector-quantize-pytorch, for the same codebook and input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.quantizers import BSQ, FSQ, LFQ, RVQ, VQ, SimVQ
from vqdit.quantizers.vq import VQStats

pytest.importorskip("vector_quantize_pytorch")
pytestmark = pytest.mark.peers
import torch  # noqa: E402
import vector_quantize_pytorch as peers  # noqa: E402

Z = np.random.default_rng(0).normal(size=(4, 60, 6)).astype(np.float32)


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_vq_three_steps_of_ema(cosine):
    peer = peers.VectorQuantize(
        6, 32, decay=0.9, use_cosine_sim=cosine, rotation_trick=False, kmeans_init=False
    )
    vq = VQ(
        codebook_size=32,
        dim=6,
        decay=0.9,
        revive_below=0.0,
        distance="cosine" if cosine else "euclidean",
    )
    codebook = array(peer._codebook.embed[0])
    stats = VQStats(codebook, jnp.ones(32), codebook)
    peer._codebook.cluster_size.fill_(1.0)
    if not cosine:
        peer._codebook.embed_avg.copy_(peer._codebook.embed)
    peer.train()
    for step in range(3):
        z = Z + 0.1 * step
        quantized, ids, loss = peer(torch.from_numpy(z))
        out = vq.quantize({}, stats, jnp.asarray(z))
        np.testing.assert_array_equal(out.codes[..., 0], ids.numpy())
        if not cosine:
            np.testing.assert_allclose(out.z_q, array(quantized), atol=1e-6)
            np.testing.assert_allclose(out.losses["commitment"], loss.item(), rtol=1e-5)
        _, stats = vq.update({}, stats, jnp.asarray(z), out.codes, jax.random.key(0), jnp.int32(0))
        if cosine:  # there the average is of unit vectors, without counts: another algorithm
            break
        np.testing.assert_allclose(stats.codebook, array(peer._codebook.embed[0]), atol=1e-5)
        np.testing.assert_allclose(stats.count, array(peer._codebook.cluster_size[0]), rtol=1e-5)


def test_rotation_has_the_same_gradient():
    peer = peers.VectorQuantize(6, 32, rotation_trick=True, freeze_codebook=True).eval()
    codebook = array(peer._codebook.embed[0])
    vq = VQ(codebook_size=32, dim=6, estimator="rotation")
    stats = VQStats(codebook, jnp.ones(32), codebook)
    z = torch.from_numpy(Z).requires_grad_()
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

    quantized = torch.from_numpy(np.array(vq.quantize({}, stats, jnp.asarray(Z)).z_q))
    (rotate_to(z, quantized) * torch.arange(6.0)).sum().backward()
    gradient = jax.grad(lambda z: jnp.sum(vq.quantize({}, stats, z).z_q * jnp.arange(6.0)))(Z)
    np.testing.assert_allclose(gradient, array(z.grad), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_fsq(symmetric):
    levels = [8, 5, 5, 4, 3, 7]
    peer = peers.FSQ(levels, preserve_symmetry=symmetric)
    fsq = FSQ(levels=tuple(levels), bound="symmetric" if symmetric else "atanh")
    quantized, ids = peer(torch.from_numpy(Z))
    out = fsq.quantize({}, {}, jnp.asarray(Z))
    np.testing.assert_array_equal(out.codes[..., 0], ids.numpy())
    np.testing.assert_allclose(out.z_q, array(quantized), atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_lfq_and_bsq(spherical):
    peer = peers.LFQ(dim=6, spherical=spherical, commitment_loss_weight=1.0)
    peer.train()
    found, parts = peer(torch.from_numpy(Z), inv_temperature=1.0, return_loss_breakdown=True)
    own = (BSQ if spherical else LFQ)(bits=6, temperature=1.0)
    out = own.quantize({}, {}, jnp.asarray(Z))
    np.testing.assert_array_equal(out.codes[..., 0], found.indices.numpy())
    np.testing.assert_allclose(out.z_q, array(found.quantized), atol=1e-6)
    if not spherical:
        np.testing.assert_allclose(out.losses["commitment"], parts.commitment.item(), rtol=1e-5)
        entropy, of_mean = parts.per_sample_entropy.item(), parts.batch_entropy.item()
        # The peer clamps the logarithm's argument at 1e-5, so that small p count too little.
        np.testing.assert_allclose(out.losses["entropy"], entropy, rtol=2e-4)
        np.testing.assert_allclose(out.losses["diversity"], -of_mean, rtol=1e-5)


def test_residual_vq():
    peer = peers.ResidualVQ(dim=6, num_quantizers=3, codebook_size=16, rotation_trick=False).eval()
    rvq = RVQ(quantizer=VQ(codebook_size=16, dim=6), depth=3)
    stats = []
    for layer in peer.layers:
        codebook = array(layer._codebook.embed[0])
        stats.append(VQStats(codebook, jnp.ones(16), codebook))
    quantized, ids, _ = peer(torch.from_numpy(Z))
    out = rvq.quantize(({}, {}, {}), tuple(stats), jnp.asarray(Z))
    np.testing.assert_array_equal(out.codes, ids.numpy())
    np.testing.assert_allclose(out.z_q, array(quantized), atol=1e-5)


def test_sim_vq():
    peer = peers.SimVQ(dim=6, codebook_size=32, rotation_trick=False)
    params = {"kernel": array(peer.code_transform.weight).T, "bias": jnp.zeros(6)}
    vq = SimVQ(codebook_size=32, dim=6)
    quantized, ids, loss = peer(torch.from_numpy(Z))
    out = vq.quantize(params, {"table": array(peer.frozen_codebook)}, jnp.asarray(Z))
    np.testing.assert_array_equal(out.codes[..., 0], ids.numpy())
    np.testing.assert_allclose(out.z_q, array(quantized), atol=1e-5)
    ours = out.losses["codebook"] + 0.25 * out.losses["commitment"]
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-5)
