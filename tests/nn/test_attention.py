"""Attention: every implementation that runs here against the formula, and which one is taken."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo as fused

from vqdit import parallel
from vqdit.nn.attention import attention, chosen, shares
from vqdit.nn.masks import Segments
from vqdit.nn.splash import splash
from vqdit.parallel.target_platform import Platform, compiled_for

LENGTHS = {"queries": 5, "keys": 131}


def drawn(queries, keys, width=24, dtype="f4"):
    random = np.random.default_rng(0)
    shapes = [(2, queries, 2, width), (2, keys, 2, width), (2, keys, 2, width)]
    return [jnp.asarray(random.normal(size=shape), dtype) for shape in shapes]


def formula(q, k, v, mask=None):
    """Softmax of the scores over what is real, in NumPy and float64."""
    q, k, v = (np.asarray(part, np.float64) for part in (q, k, v))
    score = np.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(q.shape[-1])
    if mask is not None:
        score = np.where(pairs(mask)[:, None], score, -np.inf)
    share = np.exp(score - score.max(-1, keepdims=True))
    return np.einsum("bhlm,bmhd->blhd", share / share.sum(-1, keepdims=True), v)


def pairs(mask):
    """A mask of any form as one of pairs: bool [b, #l, m]."""
    if isinstance(mask, Segments):
        return np.asarray(mask.queries)[:, :, None] == np.asarray(mask.keys)[:, None]
    return np.asarray(mask)[:, None] if mask.ndim == 2 else np.asarray(mask)


def half_real(keys):
    return jnp.arange(keys)[None] % jnp.asarray([[2], [3]]) == 0


def some_pairs(queries, keys):
    seen = np.random.default_rng(3).random((2, queries, keys)) < 0.3
    return jnp.asarray(seen).at[:, :, 0].set(True)  # every query sees a key


def some_segments(queries, keys):
    """Three segments in a row, of other lengths in each example; the last two keys are hidden."""
    ends = jnp.asarray([[0.3, 0.7], [0.5, 0.6]])[:, None]
    rows = [(jnp.arange(n)[None, :, None] >= ends * n).sum(-1) for n in (queries, keys)]
    return Segments(rows[0], rows[1].at[:, -2:].set(-1))


MASKS = {
    "none": lambda queries, keys: None,
    "keys": lambda queries, keys: half_real(keys),
    "pairs": some_pairs,
    "segments": some_segments,
}


@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_are_the_formula(dtype, form):
    q, k, v = drawn(**LENGTHS, dtype=dtype)
    mask = MASKS[form](**LENGTHS)
    found = jax.jit(lambda q, k, v: attention(q, k, v, mask=mask))(q, k, v)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-2  # shares are rounded to bfloat16
    np.testing.assert_allclose(found.astype("f4"), formula(q, k, v, mask), atol=tolerance)


@pytest.mark.parametrize("form", MASKS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gradient_by_hand_is_that_of_the_shares(dtype, form):
    q, k, v = drawn(**LENGTHS, dtype=dtype)
    mask = MASKS[form](**LENGTHS)
    weight = np.random.default_rng(1).normal(size=q.shape).astype("f4")

    def by_shares(q, k, v):
        return jnp.einsum("b h l m, b m h d -> b l h d", shares(q, k, mask=mask), v)

    def gradient(function, *qkv):
        return jax.jit(jax.grad(lambda *qkv: jnp.sum(function(*qkv) * weight), (0, 1, 2)))(*qkv)

    found = gradient(lambda *qkv: attention(*qkv, mask=mask, implementation="xla"), q, k, v)
    expected = gradient(by_shares, *(part.astype("f4") for part in (q, k, v)))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        scale = jnp.abs(other).max()
        tolerance = 1e-5 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(one.astype("f4") / scale, other / scale, atol=tolerance)


@pytest.mark.parametrize("form", MASKS)
def test_a_batch_has_the_gradients_of_its_examples(form):
    """On a CPU an even batch is computed in halves, and one example is not."""
    random = np.random.default_rng(2)
    q, k, v, weight = (jnp.asarray(random.normal(size=(4, 9, 2, 8)), "f4") for _ in range(4))
    real = jnp.arange(9)[None] < jnp.asarray([[9], [3], [5], [1]])
    number = jnp.arange(9)[None] // jnp.asarray([[9], [3], [5], [1]])
    mask = {
        "none": None,
        "keys": real,
        "pairs": number[:, :, None] >= number[:, None],
        "segments": Segments(number, number),
    }[form]

    def gradients(q, k, v, weight, mask):
        def total(q, k, v):
            return jnp.sum(attention(q, k, v, mask=mask, implementation="xla") * weight)

        return jax.jit(jax.value_and_grad(total, (0, 1, 2)))(q, k, v)

    value, found = gradients(q, k, v, weight, mask)
    examples = [
        jax.tree.map(lambda part, row=row: part[row : row + 1], (q, k, v, weight, mask))
        for row in range(4)
    ]
    each = [gradients(*example) for example in examples]
    np.testing.assert_allclose(value, sum(value for value, _ in each), rtol=1e-5)
    expected = jax.tree.map(lambda *rows: jnp.concatenate(rows), *(found for _, found in each))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["none", "keys", "segments"])
def test_splash_agrees_with_the_products_and_so_do_its_gradients(form):
    """Interpreted on the CPU: lengths and width that the kernel does not take are padded."""
    q, k, v = drawn(**LENGTHS)
    mask = MASKS[form](**LENGTHS)
    weight = np.random.default_rng(1).normal(size=q.shape).astype("f4")

    def value_and_gradient(function):
        def total(q, k, v):
            out = function(q, k, v)
            return jnp.sum(out * weight), out

        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(q, k, v)

    (_, out), gradients = value_and_gradient(lambda *qkv: splash(*qkv, mask, interpret=True))
    (_, _), expected = value_and_gradient(lambda *qkv: attention(*qkv, mask=mask))
    np.testing.assert_allclose(out, formula(q, k, v, mask), atol=1e-5)
    for found, other in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-5)
    if form == "keys":
        assert (gradients[1][0, 1::2] == 0).all()  # hidden keys have no gradient
    if form == "segments":
        assert (gradients[1][:, -2:] == 0).all()


def test_splash_leaves_a_mask_of_pairs_to_the_products(monkeypatch):
    monkeypatch.setattr("vqdit.nn.attention.platform", lambda: Platform("tpu"))
    q, k, v = drawn(256, 256)
    mask = some_pairs(256, 256)
    out = attention(q, k, v, mask=mask)
    with pytest.raises(
        ValueError, match="supports masks of keys or segments, got a mask of query-key"
    ):
        attention(q, k, v, mask=mask, implementation="splash")
    np.testing.assert_allclose(out, formula(q, k, v, mask), atol=1e-5)


@pytest.mark.parametrize(
    ("platform", "dtype", "lengths", "width", "implementation"),
    [
        ("cpu", "float32", (256, 256), 64, "xla"),
        ("cpu", "bfloat16", (4096, 4096), 64, "xla"),
        ("cuda", "bfloat16", (256, 256), 72, "cudnn"),
        ("cuda", "float32", (256, 256), 64, "xla"),  # cuDNN has half precision only
        ("cuda", "bfloat16", (256, 256), 36, "xla"),  # and heads that divide by 8
        ("cuda", "bfloat16", (256, 2), 64, "xla"),  # cross-attention to time and label
        ("rocm", "bfloat16", (256, 256), 64, "xla"),
        ("tpu", "bfloat16", (64, 64), 72, "xla"),
        ("tpu", "bfloat16", (256, 256), 72, "splash"),
        ("tpu", "bfloat16", (4096, 4096), 72, "splash"),
        ("tpu", "bfloat16", (4096, 77), 72, "xla"),
    ],
)
def test_what_suits_the_device_is_taken(platform, dtype, lengths, width, implementation):
    assert chosen(platform, jnp.dtype(dtype), lengths, width) == implementation


def test_splash_runs_on_each_device_with_its_examples():
    q, k, v = (part.repeat(4, axis=0) for part in drawn(**LENGTHS))  # 8 examples
    mesh = parallel.Mesh(data=2, fsdp=4).build(jax.devices())
    with compiled_for(mesh):
        run = jax.jit(lambda q, k, v: splash(q, k, v, interpret=True))
        placed = jax.device_put((q, k, v), parallel.over_batch(mesh))
        out = run(*placed)
        text = run.lower(*placed).compile().as_text()
    assert len(out.sharding.device_set) == 8
    assert not any(kind in text for kind in ("all-gather", "all-reduce", "all-to-all"))
    np.testing.assert_allclose(out, formula(q, k, v, None), atol=1e-5)


@pytest.mark.parametrize(("kernel", "home"), [("cudnn", "cuda"), ("splash", "tpu")])
def test_a_kernel_of_other_devices_is_refused(kernel, home):
    message = f"attention='{kernel}' runs only on {home}, .* compiled for cpu; use attention='auto'"
    with pytest.raises(ValueError, match=message):
        attention(*drawn(64, 64), implementation=kernel)


@pytest.mark.parametrize(
    ("queries", "keys", "form"),
    [(64, 64, "none"), (63, 77, "none"), (63, 77, "keys"), (63, 77, "pairs"), (63, 77, "segments")],
)
def test_cudnn_is_called_with_even_lengths(monkeypatch, queries, keys, form):
    """Lowered for CUDA: the kernel itself needs a GPU. It has no gradient at odd lengths."""
    version = type("Versions", (), {"cudnn_get_version": staticmethod(lambda: 91000)})
    monkeypatch.setattr(fused, "cuda_versions", version)
    monkeypatch.setattr("vqdit.nn.attention.platform", lambda: Platform("cuda"))
    mask = MASKS[form](queries, keys)

    def total(q, k, v):
        out = attention(q, k, v, mask=mask, implementation="cudnn")
        assert out.shape == q.shape
        return jnp.sum(out.astype(jnp.float32))

    traced = jax.jit(jax.grad(total, (0, 1, 2))).trace(*drawn(queries, keys, dtype="bfloat16"))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmha" in text
    even = f"2x{queries + queries % 2}x2x24xbf16"
    calls = [line for line in text.splitlines() if "custom_call @__cudnn$fmha" in line]
    assert len(calls) == 2 and all(even in line for line in calls)  # forward and backward
    assert ("Bias" in calls[0]) == (keys % 2 == 1)
