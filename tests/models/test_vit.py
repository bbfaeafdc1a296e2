"""The transformers: their blocks against NumPy, layers scanned and not, latent tokens."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from vqdit.models import TiTok, ViTTokenizer
from vqdit.nn.transformer import Block, Transformer

TINY = {"patch": 4, "depth": 2, "width": 16, "heads": 2}


def norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_a_block_is_attention_then_mlp(mlp):
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    block = Block(heads=2, hidden=12, mlp=mlp, dtype="float32")
    params = block.init(jax.random.key(1), x, None)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    h = np.asarray(x, np.float64)
    q, k, v = np.split(dense(norm(h, p["norm_1"]), p["qkv"]), 3, axis=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        scores = np.exp(np.einsum("bld,bmd->blm", q[..., part], k[..., part]) / 2.0)
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    h = h + dense(np.concatenate(heads, -1), p["out"])
    m = dense(norm(h, p["norm_2"]), p["mlp_in"])
    if mlp == "gelu":
        m = m * 0.5 * (1 + erf(m / np.sqrt(2)))
    else:
        gate, m = np.split(m, 2, axis=-1)
        assert m.shape[-1] == 8  # two thirds of 12
        m = gate / (1 + np.exp(-gate)) * m
    np.testing.assert_allclose(
        block.apply(params, x, None)[0], h + dense(m, p["mlp_out"]), atol=1e-5
    )


def test_scanned_layers_equal_unrolled_ones(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    flat = Transformer(depth=3, heads=2, hidden=8)
    params = flat.init(jax.random.key(1), x)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(params["params"]["blocks"])} == {3}
    unrolled = flat.apply(params, x)
    monkeypatch.setattr("vqdit.nn.stack.SHALLOW", 2)
    loop = Transformer(depth=3, heads=2, hidden=8)
    chex.assert_trees_all_equal(params, loop.init(jax.random.key(1), x))
    np.testing.assert_allclose(loop.apply(params, x), unrolled, atol=1e-6)
    first = jax.tree.map(lambda leaf: leaf[0] != leaf[1], params["params"]["blocks"])
    assert bool(first["qkv"]["kernel"].all())  # each layer has its own


def test_positions_tell_patches_apart():
    """Two equal patches in other places have other codes."""
    model = ViTTokenizer(**TINY)
    x = jnp.ones((1, 8, 8, 1))
    params = model.init(jax.random.key(0), x, 3)
    z = model.encode(params, x, 3).reshape(4, 3)
    assert jnp.abs(z[0] - z[1]).max() > 1e-3 and jnp.abs(z[0] - z[2]).max() > 1e-3


@pytest.fixture(scope="module")
def sequence():
    model = TiTok(**TINY, size=(8, 8), tokens=3)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    params = model.init(jax.random.key(1), x, 5)
    return model, params, x


def test_every_latent_token_sees_every_patch_and_paints_every_patch(sequence):
    model, params, x = sequence
    z = model.encode(params, x, 5)
    encode = jax.jit(functools.partial(model.encode, params, width=5))
    decode = jax.jit(functools.partial(model.decode, params, channels=1))
    for row in (0, 4):
        for column in (0, 4):
            moved = jnp.abs(encode(x.at[:, row, column].add(1.0)) - z).max(axis=(0, 2))
            assert moved.shape == (3,) and (moved > 1e-5).all()
    y = decode(z)
    for token in range(3):
        moved = jnp.abs(decode(z.at[:, token].add(1.0)) - y)
        assert (moved.reshape(2, 2, 4, 2, 4).max(axis=(0, 2, 4)) > 1e-5).all()


def test_the_order_of_latent_tokens_matters(sequence):
    model, params, x = sequence
    z = model.encode(params, x, 5)
    y = model.decode(params, z, 1)
    assert jnp.abs(model.decode(params, z[:, ::-1], 1) - y).max() > 1e-3


def test_the_last_convolution_changes_nothing_at_first(sequence):
    model, params, x = sequence
    kernel = params["decoder"]["smooth"]["kernel"]
    assert kernel.shape == (3, 3, 1, 1) and float(kernel.sum()) == float(kernel[1, 1, 0, 0]) == 1.0


def test_named_sizes_are_the_published_ones():
    """TiTok's encoder of size L is a ViT-L: 24 layers of width 1024, 302 million parameters."""
    model = TiTok.named("L/16", size=(256, 256), tokens=32)
    assert model.patches == (16, 16) and model.grid((256, 256)) == (32,)
    x = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    found = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, 12), x)
    blocks = found["encoder"]["transformer"]["blocks"]
    d = 1024
    assert sum(leaf.size for leaf in jax.tree.leaves(blocks)) == 24 * (12 * d**2 + 13 * d)
    assert ViTTokenizer.named("B/8").width == 768
    for name in ("XL/16", "B", "B/x"):
        with pytest.raises(ValueError, match=f"unknown ViTTokenizer '{name}'"):
            ViTTokenizer.named(name)


@pytest.mark.parametrize("cls", [ViTTokenizer, TiTok])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch": 0}, "patch >= 1, got 0"),
        ({"width": 18, "heads": 3}, "width to be a multiple of 4 and of heads=3, got 18"),
        ({"width": 20, "heads": 3}, "width to be a multiple of 4 and of heads=3, got 20"),
    ],
)
def test_bad_fields_are_refused(cls, fields, message):
    with pytest.raises(ValueError, match=f"{cls.__name__} needs {message}"):
        cls(**fields)


def test_titok_refuses_other_images_than_its_own():
    with pytest.raises(ValueError, match="size 30x32 is not divisible .* 8 "):
        TiTok(size=(30, 32))
    with pytest.raises(ValueError, match="tokens >= 1, got 0"):
        TiTok(tokens=0)
    with pytest.raises(ValueError, match="of 32x32 pixels, not 64x64; set its size to"):
        TiTok().grid((64, 64))
