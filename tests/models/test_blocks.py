"""Each block against its formulas in NumPy, and MM-DiT against the published one."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models.blocks import AdaLNZero, BlockConfig, Conditioning, MMDiT, Plain, Segment
from vqdit.nn.rope import rotation

DIM, HEADS, TOKENS, CONTEXT = 16, 2, 6, 3
PLAIN = {"mlp": "gelu", "norm": "layer", "qk_norm": False}
MODERN = {"mlp": "swiglu", "norm": "rms", "qk_norm": True}


def config(block, **fields):
    shared = {"dim": DIM, "heads": HEADS, "hidden": 4 * DIM, "dtype": "float32"}
    return BlockConfig(block=block, attention="auto", **shared, **fields)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype("f4")


def parameters(module, x, conditioning):
    """Parameters of the structure that `init` gives, none of them zero; and as float64."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, conditioning)["params"]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * random.normal(size=leaf.shape).astype("f4"), shapes)
    return params, jax.tree.map(lambda leaf: leaf.astype(np.float64), params)


def applied(module, params, *args):
    return jax.jit(lambda p, *args: module.apply({"params": p}, *args)[0])(params, *args)


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def norm(x, kind, scales=None):
    if kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x if scales is None else x * scales["scale"] + scales.get("bias", 0.0)


def mlp(params, x, kind, prefix=""):
    h = dense(params[f"{prefix}mlp_in"], x)
    if kind == "swiglu":
        gate, h = np.split(h, 2, axis=-1)
        h = silu(gate) * h
    else:
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    return dense(params[f"{prefix}mlp_out"], h)


def heads(x):
    return x.reshape(*x.shape[:2], HEADS, -1)


def attend(q, k, v, real=None):
    score = np.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(q.shape[-1])
    score = score if real is None else np.where(real[:, None, None], score, -np.inf)
    share = np.exp(score - score.max(-1, keepdims=True))
    out = np.einsum("bhlm,bmhd->blhd", share / share.sum(-1, keepdims=True), v)
    return out.reshape(*out.shape[:2], -1)


def turned(x, turn):
    half = x.shape[-1] // 2
    product = (x[..., :half] + 1j * x[..., half:]) * (turn[0] + 1j * turn[1])[:, None]
    return np.concatenate([product.real, product.imag], axis=-1)


def self_attention(params, h, fields, conditioning):
    q, k, v = (heads(part) for part in np.split(dense(params["qkv"], h), 3, axis=-1))
    if fields["qk_norm"]:
        q, k = norm(q, "rms", params["q_norm"]), norm(k, "rms", params["k_norm"])
    if conditioning.turn is not None:
        q, k = turned(q, conditioning.turn), turned(k, conditioning.turn)
    return dense(params["out"], attend(q, k, v, conditioning.visible))


def cross_attention(params, h, fields, conditioning):
    q, (k, v) = (
        dense(params["cross_q"], h),
        np.split(dense(params["cross_kv"], conditioning.context), 2, 2),
    )
    q, k, v = heads(q), heads(k), heads(v)
    if fields["qk_norm"]:
        q, k = norm(q, "rms", params["cross_q_norm"]), norm(k, "rms", params["cross_k_norm"])
    return dense(params["cross_out"], attend(q, k, v, conditioning.context_real))


def block_inputs(is_modern, rows):
    """A condition; with padding, a context with padding, and rotary positions too, if modern."""
    if not is_modern:
        return Conditioning(c=normal(1, 2, rows, DIM))
    return Conditioning(
        c=normal(1, 2, rows, DIM),
        visible=np.arange(TOKENS)[None] < np.asarray([[TOKENS], [4]]),
        context=normal(2, 2, CONTEXT, DIM),
        context_real=np.arange(CONTEXT)[None] < np.asarray([[2], [CONTEXT]]),
        turn=rotation(((2, 3),), DIM // HEADS),
    )


@pytest.mark.parametrize("fields", [PLAIN, MODERN], ids=["published", "modern"])
def test_adaln_zero_is_its_formula(fields):
    """Two segments, of one row and of one row per token."""
    conditioning = block_inputs(fields is MODERN, 1 + 4)
    block = AdaLNZero(config("adaln_zero", **fields), (Segment("a", 1, 2), Segment("b", 4, 4)))
    x = normal(0, 2, TOKENS, DIM)
    params, p = parameters(block, x, conditioning)
    found = applied(block, params, x, conditioning)

    c = dense(p["modulation"], conditioning.c)[:, [0, 0, 1, 2, 3, 4]]
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = np.split(c, 6, axis=-1)
    kind = fields["norm"]
    h = norm(x, kind) * (1 + scale_1) + shift_1
    x = x + gate_1 * self_attention(p, h, fields, conditioning)
    if conditioning.context is not None:
        x = x + cross_attention(p, norm(x, kind), fields, conditioning)
    x = x + gate_2 * mlp(p, norm(x, kind) * (1 + scale_2) + shift_2, fields["mlp"])
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fields", [PLAIN, MODERN], ids=["published", "modern"])
def test_the_plain_block_is_its_formula(fields):
    conditioning = block_inputs(fields is MODERN, 0)
    block = Plain(config("cross_attention", **fields), ())
    x = normal(0, 2, TOKENS, DIM)
    params, p = parameters(block, x, conditioning)
    found = applied(block, params, x, conditioning)

    kind = fields["norm"]
    x = x + self_attention(p, norm(x, kind, p["norm_1"]), fields, conditioning)
    if conditioning.context is not None:
        x = x + cross_attention(p, norm(x, kind, p["norm_cross"]), fields, conditioning)
    x = x + mlp(p, norm(x, kind, p["norm_2"]), fields["mlp"])
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)


def linear(layer):
    return {
        "kernel": layer.weight.detach().numpy().T,
        "bias": layer.bias.detach().numpy(),
    }


def beside(*dicts):
    return {name: np.concatenate([d[name] for d in dicts], axis=-1) for name in dicts[0]}


@pytest.mark.peers
@pytest.mark.parametrize("is_last", [False, True])
def test_mm_dit_is_the_published_one(is_last):
    """The block of Stable Diffusion 3, in diffusers: an image, and a text as context."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attention = pytest.importorskip("diffusers.models.attention")
    torch.manual_seed(0)
    theirs = attention.JointTransformerBlock(
        DIM, HEADS, DIM // HEADS, context_pre_only=is_last, qk_norm="rms_norm"
    )
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0.0, 0.3)
    attn = theirs.attn
    qkv = beside(linear(attn.to_q), linear(attn.to_k), linear(attn.to_v))
    q, k, v = (linear(getattr(attn, f"add_{name}_proj")) for name in "qkv")
    text = linear(theirs.norm1_context.linear)
    if is_last:  # theirs is scale and shift, in this order
        text = {name: np.roll(leaf, DIM, axis=-1) for name, leaf in text.items()}
    params = {
        "image_modulation": linear(theirs.norm1.linear),
        "image_qkv": qkv,
        "image_q_norm": {"scale": attn.norm_q.weight.detach().numpy()},
        "image_k_norm": {"scale": attn.norm_k.weight.detach().numpy()},
        "image_out": linear(attn.to_out[0]),
        "image_mlp_in": linear(theirs.ff.net[0].proj),
        "image_mlp_out": linear(theirs.ff.net[2]),
        "text_modulation": text,
        "text_k_norm": {"scale": attn.norm_added_k.weight.detach().numpy()},
    }
    if is_last:
        params |= {"text_kv": beside(k, v)}
    else:
        params |= {
            "text_qkv": beside(q, k, v),
            "text_q_norm": {"scale": attn.norm_added_q.weight.detach().numpy()},
            "text_out": linear(attn.to_add_out),
            "text_mlp_in": linear(theirs.ff_context.net[0].proj),
            "text_mlp_out": linear(theirs.ff_context.net[2]),
        }
    image, text, c = normal(0, 2, TOKENS, DIM), normal(1, 2, CONTEXT, DIM), normal(2, 2, DIM)
    with torch.no_grad():
        their_text, their_image = theirs(*(torch.tensor(part) for part in (image, text, c)))

    fields = {**PLAIN, "qk_norm": True}
    segments = Segment("image", 1, TOKENS), Segment("text", 1, CONTEXT, is_context=True)
    block = MMDiT(config("mm_dit", **fields), segments, is_last=is_last)
    x, row = np.concatenate([image, text], axis=1), silu(c)[:, None]
    conditioning = Conditioning(c=np.concatenate([row, row], axis=1))
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, conditioning)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    found = applied(block, params, x, conditioning)
    np.testing.assert_allclose(found[:, :TOKENS], their_image.numpy(), rtol=1e-4, atol=1e-4)
    if is_last:
        assert their_text is None and found.shape[1] == TOKENS
    else:
        np.testing.assert_allclose(found[:, TOKENS:], their_text.numpy(), rtol=1e-4, atol=1e-4)
