"""How the DiT's parts go together: what comes in by which route, what is kept, what is returned."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DiT, Tokens
from vqdit.typing import Named

INPUTS = Named(
    image=Tokens(grid=(4, 4), width=3, output=3, patch=2),
    label=Tokens(route="adaln", grid=(1,), codes=10),
    text=Tokens(route="cross", grid=(6,), codes=9, patch=1),
)
KINDS = ("adaln_zero", "in_context", "cross_attention", "mm_dit")
MODELS = {
    "adaln_zero": DiT(depth=2, dim=16, heads=2, registers=3, positions="both", qk_norm=True),
    "in_context": DiT(depth=2, dim=16, heads=2, registers=3, block="in_context", mlp="swiglu"),
    "cross_attention": DiT(
        depth=2, dim=16, heads=2, block="cross_attention", norm="rms", positions="rope"
    ),
    "mm_dit": DiT(depth=2, dim=16, heads=2, block="mm_dit", positions="rope"),
}


def data():
    x = Named(
        image=jax.random.normal(jax.random.key(2), (2, 16, 3)),
        label=jnp.asarray([[[3]], [[-1]]]),
        text=jax.random.randint(jax.random.key(3), (2, 6, 1), 0, 9),
    )
    t = Named(image=jnp.full((2, 1), 300.0), label=jnp.zeros((2, 1)), text=jnp.zeros((2, 1)))
    return x, t, Named(text=jnp.arange(6)[None] < jnp.asarray([[4], [6]]))


@functools.cache
def shapes(model, inputs=INPUTS):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))


def drawn(model, inputs=INPUTS):
    """Parameters none of which is zero, without the time that `init` takes; scales are around 1."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        is_scale = path[-1].key == "scale"
        return is_scale + 0.3 * random.normal(size=leaf.shape).astype("f4")

    return jax.tree_util.tree_map_with_path(draw, shapes(model, inputs))


def size(model, inputs=INPUTS):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, inputs)))


@pytest.mark.parametrize("kind", KINDS)
def test_time_label_and_text_come_in_and_padding_does_not(kind):
    model, (x, t, mask) = MODELS[kind], data()
    params = drawn(model)
    apply = jax.jit(lambda params, x, t: model.apply(params, INPUTS, x, t, mask=mask)["image"])
    base = apply(params, x, t)
    assert base.shape == (2, 16, 3) and base.dtype == jnp.float32

    text = x["text"]
    hidden = apply(params, x | {"text": text.at[0, 4:].set(0)}, t)
    np.testing.assert_array_equal(hidden, base)
    for changed in (
        apply(params, x | {"text": text.at[:, 0].set((text[:, 0] + 1) % 9)}, t),
        apply(params, x | {"text": text.at[:, :2].set(text[:, 1::-1])}, t),  # the order counts
        apply(params, x | {"label": x["label"] + 1}, t),
        apply(params, x, t | {"image": t["image"] + 100.0}),
    ):
        for one, other in zip(changed, base, strict=True):
            assert np.abs(one - other).max() > 1e-3
    # The head starts at zero, and so does all that adds to the tokens of adaLN.
    blank = {name: part for name, part in params.items() if name != "image_head"}
    zero = jax.tree.map(jnp.zeros_like, params["image_head"])
    assert (apply(blank | {"image_head": zero}, x, t) == 0.0).all()


def test_what_adds_to_the_tokens_starts_at_zero_in_adaln_and_mm_dit():
    for kind, zeros in (("adaln_zero", ["modulation", "cross_out"]), ("mm_dit", [])):
        params = jax.jit(lambda kind=kind: MODELS[kind].init(jax.random.key(0), INPUTS))()
        blocks = params["blocks"]
        zeros = zeros or [f"{name}_modulation" for name in ("image", "text")]
        for name in zeros:
            assert not any(leaf.any() for leaf in jax.tree.leaves(blocks[name]))
        assert not params["image_head"]["kernel"].any()


def test_the_last_block_of_mm_dit_only_looks_at_the_text():
    params = shapes(MODELS["mm_dit"])
    text = {name for name in params["blocks"] if name.startswith("text")}
    parts = ("mlp_in", "mlp_out", "modulation", "out", "qkv")
    assert text == {f"text_{part}" for part in parts}
    assert params["blocks"]["text_qkv"]["kernel"].shape == (1, 16, 48)  # one block, scanned
    assert {name for name in params["last"] if name.startswith("text")} == {
        "text_kv",
        "text_modulation",
    }
    without = Named({name: INPUTS[name] for name in ("image", "label")})
    assert "last" not in shapes(MODELS["mm_dit"], without)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_watched_among_the_tokens_that_are_predicted(kind):
    model, (x, t, _) = MODELS[kind], data()
    found = jax.eval_shape(lambda params: model.attend(params, INPUTS, x, t), shapes(model))
    assert found.shape == (2, 2, 4, 4)
    assert model.spans(INPUTS) == {"image": slice(0, 4)}


PUBLISHED = Named(
    image=Tokens(grid=(32, 32), width=4, output=8),
    label=Tokens(route="adaln", grid=(1,), codes=1000),
)


def closed_form(name):
    """The published DiT for 32 x 32 x 4 latents with learned sigma and 1000 classes."""
    model = DiT.named(name)
    d, channels, tokens = model.dim, 4 * model.patch**2, (32 // model.patch) ** 2
    block = 18 * d**2 + 15 * d
    ends = d * channels + d + (2 * d**2 + 2 * d) + (d + 1) * 2 * channels
    return model.depth * block + ends + (257 * d + d**2 + d) + 1001 * d + tokens * d


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("S/1", None),
        ("S/2", 32_963_360),
        ("S/4", None),
        ("S/8", None),
        ("B/2", 130_512_416),
        ("L/2", 458_102_816),
        ("XL/2", 675_129_632),
    ],
)
def test_named_sizes_have_exactly_the_published_parameters(name, count):
    model = DiT.named(name)
    frozen = (32 // model.patch) ** 2 * model.dim  # the positions, which are counted there
    assert size(model, PUBLISHED) + frozen == closed_form(name)
    assert count in (None, closed_form(name))


@pytest.mark.parametrize(
    ("block", "millions"), [("in_context", 449), ("cross_attention", 598), ("adaln_zero", 675)]
)
def test_blocks_have_the_published_parameters(block, millions):
    """Peebles & Xie, table 4."""
    model = DiT.named("XL/2", block=block)
    assert round((size(model, PUBLISHED) + 256 * model.dim) / 1e6) == millions


def products(model):
    """How many matrix products the gradient takes, in its jaxpr."""
    x, t, _ = data()

    def total(params):
        return jnp.sum(model.apply(params, INPUTS, x, t)["image"] ** 2)

    return str(jax.make_jaxpr(jax.grad(total))(shapes(model))).count("dot_general")


def test_remat_recomputes_what_is_not_kept():
    model = MODELS["adaln_zero"]
    plain, full, attention, dots = (
        products(dataclasses.replace(model, remat=remat))
        for remat in (False, True, "attention", "dots")
    )
    assert plain < dots < attention < full


def test_features_are_the_tokens_after_the_blocks():
    """Of the first block: what a network of one block hands to its head."""
    model, (x, t, _) = DiT(depth=3, dim=16, heads=2), data()
    inputs = Named({name: INPUTS[name] for name in ("image", "label")})
    params = drawn(model, inputs)
    run = jax.jit(lambda params: model.features(params, inputs, x, t, after=(1, 3)))
    predictions, tokens = run(params)
    apply = jax.jit(lambda params, model: model.apply(params, inputs, x, t), static_argnums=1)
    np.testing.assert_allclose(predictions["image"], apply(params, model)["image"], atol=1e-5)
    assert {name: part.shape for name, part in tokens.items()} == {"image": (2, 2, 4, 16)}

    # The head of the identity, after a norm that nothing modulates.
    head = {"kernel": np.eye(16, dtype="f4")[:, :12], "bias": np.zeros(12, "f4")}
    zero = jax.tree.map(jnp.zeros_like, params["image_modulation"])
    plain = params | {"image_head": head, "image_modulation": zero}
    for number, h in zip((1, 3), tokens["image"], strict=True):
        first = jax.tree.map(lambda leaf, n=number: leaf[:n], params["blocks"])
        out = apply(plain | {"blocks": first}, dataclasses.replace(model, depth=number))["image"]
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-6)
        expected = h[..., :12].reshape(2, 2, 2, 2, 2, 3).transpose(0, 1, 3, 2, 4, 5)
        np.testing.assert_allclose(out, expected.reshape(2, 16, 3), rtol=1e-3, atol=1e-4)


def test_features_cost_nothing_where_nobody_asks():
    model, (x, t, _) = MODELS["adaln_zero"], data()
    params = shapes(model)
    plain = jax.jit(lambda params: model.apply(params, INPUTS, x, t)).lower(params).as_text()
    watched = jax.jit(lambda params: model.features(params, INPUTS, x, t, after=(1,)))
    kept = "tensor<1x2x4x16xf32>"  # the tokens of one block
    assert kept not in plain and kept in watched.lower(params).as_text()


def test_what_cannot_work_is_refused():
    x, t, _ = data()
    with pytest.raises(
        ValueError, match="block='in_context' and block='cross_attention' need one time"
    ):
        each = t | {"image": jnp.zeros((2, 16))}
        model = MODELS["in_context"]
        jax.eval_shape(lambda params: model.apply(params, INPUTS, x, each), shapes(model))
    with pytest.raises(ValueError, match="blocks 1 to 2, got 3"):
        MODELS["mm_dit"].features({}, INPUTS, x, t, after=(3,))
    with pytest.raises(ValueError, match="does not support registers, got registers=1"):
        DiT(block="mm_dit", registers=1)
    with pytest.raises(ValueError, match="registers >= 0, got -1"):
        DiT(registers=-1)
    with pytest.raises(ValueError, match="attention='cudnn' needs dtype='bfloat16'"):
        DiT(attention="cudnn")
    with pytest.raises(ValueError, match="2 axes need at least 4 channels per head, got 2"):
        DiT(dim=8, heads=4, positions="rope").check(INPUTS)
    with pytest.raises(ValueError, match="depth >= 2 if a modality .* as 'text' does"):
        DiT(depth=1, block="mm_dit").check(INPUTS)
    head = INPUTS | {"text": dataclasses.replace(INPUTS["text"], output=9)}
    with pytest.raises(ValueError, match="'text' has route='cross', .* but output=9"):
        DiT().check(head)


def test_swiglu_has_two_thirds_of_the_hidden_width_in_multiples_of_eight():
    params = shapes(MODELS["in_context"])["blocks"]  # 2 / 3 of 64 is 42
    assert params["mlp_in"]["kernel"].shape == (2, 16, 2 * 48)
    assert params["mlp_out"]["kernel"].shape == (2, 48, 16)
    xl = shapes(DiT.named("XL/2", mlp="swiglu"), PUBLISHED)["blocks"]
    assert xl["mlp_out"]["kernel"].shape == (28, 3072, 1152)
