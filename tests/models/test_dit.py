"""The DiT: published parameter counts, formulas in NumPy, and what it must not depend on."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DiT, Tokens
from vqdit.nn.embeddings import positions, sinusoid
from vqdit.nn.patches import fold, unfold
from vqdit.typing import Named

LATENTS = Tokens(grid=(4, 4), width=3, output=3)
CODES = Tokens(grid=(4, 4), codes=7, output=7)
LABEL = Tokens(route="adaln", grid=(1,), codes=10)
SMALL = DiT(depth=2, dim=16, heads=2, patch=2)


def randomized(params, key):
    """Parameters without the zeros of the start, so that every part matters."""
    leaves, structure = jax.tree.flatten(params)
    new = [
        0.2 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, new)


@pytest.mark.parametrize(
    ("name", "millions"), [("S/2", 33.0), ("B/2", 130.5), ("L/2", 458.1), ("XL/2", 675.1)]
)
def test_published_parameter_counts(name, millions):
    """32 x 32 x 4 latents, 1000 classes, learned sigma; the published count has the positions."""
    model = DiT.named(name)
    inputs = Named(
        image=Tokens(grid=(32, 32), width=4, output=8),
        label=Tokens(route="adaln", grid=(1,), codes=1000),
    )
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes)) + 256 * model.dim
    assert round(count / 1e6, 1) == millions
    if name == "XL/2":
        assert count == 675_129_632


def test_output_is_exactly_zero_at_the_start():
    inputs = Named(image=LATENTS, label=LABEL)
    params = SMALL.init(jax.random.key(0), inputs)
    x = Named(
        image=jax.random.normal(jax.random.key(1), (2, 16, 3)), label=jnp.ones((2, 1, 1), int)
    )
    t = Named(image=jnp.full((2, 1), 500.0), label=jnp.zeros((2, 1)))
    np.testing.assert_array_equal(SMALL.apply(params, inputs, x, t)["image"], jnp.zeros((2, 16, 3)))


def layer_norm(x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-6)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def numpy_dit(params, model, x, t, label):
    """The published DiT, written from the paper in NumPy, float64. x: [b, 4, 4, 3]."""
    b, p, d = len(x), model.patch, model.dim
    tokens = (
        x.reshape(b, 4 // p, p, 4 // p, p, 3).transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, p * p * 3)
    )
    h = dense(params["image_patch"], tokens) + positions((4 // p, 4 // p), d)
    angle = t[:, None] * np.exp(-np.log(1e4) * np.arange(128) / 128)
    c = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    c = dense(params["image_time"]["Dense_1"], silu(dense(params["image_time"]["Dense_0"], c)))
    c = c + np.asarray(params["label_embed"]["table"], np.float64)[0][label]
    for depth in range(model.depth):
        block = jax.tree.map(
            lambda leaf, n=depth: np.asarray(leaf[n], np.float64), params["blocks"]
        )
        modulation = np.split(dense(block["modulation"], silu(c))[:, None], 6, axis=-1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        a = layer_norm(h) * (1 + scale_1) + shift_1
        q, k, v = np.split(dense(block["qkv"], a), 3, axis=-1)
        heads = [part.reshape(b, -1, model.heads, d // model.heads) for part in (q, k, v)]
        score = np.einsum("blhd,bmhd->bhlm", heads[0], heads[1]) / np.sqrt(d // model.heads)
        a = np.einsum("bhlm,bmhd->blhd", softmax(score), heads[2]).reshape(b, -1, d)
        h = h + gate_1 * dense(block["out"], a)
        m = layer_norm(h) * (1 + scale_2) + shift_2
        h = h + gate_2 * dense(block["mlp_out"], gelu_tanh(dense(block["mlp_in"], m)))
    shift, scale = np.split(dense(params["image_modulation"], silu(c))[:, None], 2, axis=-1)
    out = dense(params["image_head"], layer_norm(h) * (1 + scale) + shift)
    out = out.reshape(b, 4 // p, 4 // p, p, p, 3).transpose(0, 1, 3, 2, 4, 5)
    return out.reshape(b, 4, 4, 3)


@pytest.mark.parametrize("depth", [2, 8])  # unrolled, and scanned
def test_with_one_modality_and_a_label_it_is_the_published_dit(depth):
    model = DiT(depth=depth, dim=16, heads=2, patch=2)
    inputs = Named(image=LATENTS, label=LABEL)
    params = randomized(model.init(jax.random.key(0), inputs), jax.random.key(1))
    x = jax.random.normal(jax.random.key(2), (3, 4, 4, 3))
    t, label = jnp.asarray([3.0, 400.0, 999.0]), jnp.asarray([0, 9, -1])  # -1: dropped
    out = model.apply(
        params,
        inputs,
        Named(image=x.reshape(3, 16, 3), label=label[:, None, None]),
        Named(image=t[:, None], label=jnp.zeros((3, 1))),
    )["image"]
    row = np.asarray([0, 9, 10])  # the last row of the table is "no label"
    expected = numpy_dit(params, model, np.asarray(x, np.float64), np.asarray(t, np.float64), row)
    np.testing.assert_allclose(out.reshape(3, 4, 4, 3), expected, rtol=2e-4, atol=2e-4)


def test_time_per_token_agrees_with_time_per_example():
    inputs = Named(image=CODES)
    model = DiT(depth=1, dim=16, heads=2, patch=1)
    params = randomized(model.init(jax.random.key(0), inputs), jax.random.key(1))
    x = Named(image=jax.random.randint(jax.random.key(2), (2, 16, 1), -1, 7))
    t = jnp.asarray([[100.0], [700.0]])
    one = model.apply(params, inputs, x, Named(image=t))
    many = model.apply(params, inputs, x, Named(image=jnp.broadcast_to(t, (2, 16))))
    chex.assert_trees_all_close(one, many, atol=1e-5)


def test_each_modality_is_modulated_by_its_own_time():
    inputs = Named(a=LATENTS, b=CODES)
    params = randomized(SMALL.init(jax.random.key(0), inputs), jax.random.key(1))
    x = Named(
        a=jax.random.normal(jax.random.key(2), (1, 16, 3)),
        b=jax.random.randint(jax.random.key(3), (1, 16, 1), 0, 7),
    )

    def apply(t_a, t_b):
        t = Named(a=jnp.full((1, 1), t_a), b=jnp.full((1, 1), t_b))
        return SMALL.apply(params, inputs, x, t)

    base, other = apply(10.0, 20.0), apply(10.0, 900.0)
    assert base["a"].shape == (1, 16, 3)
    assert base["b"].shape == (1, 16, 7)
    assert not np.allclose(base["b"], other["b"])  # through its own modulation
    assert not np.allclose(base["a"], other["a"])  # and through attention to it


def test_padding_is_never_attended_to():
    tokens = Tokens(grid=(6,), codes=7, output=7)
    model, inputs = DiT(depth=2, dim=16, heads=2, patch=1), Named(text=tokens)
    params = randomized(model.init(jax.random.key(0), inputs), jax.random.key(1))
    x = jax.random.randint(jax.random.key(2), (1, 6, 1), 0, 7)
    mask = Named(text=jnp.arange(6)[None] < 4)
    t = Named(text=jnp.full((1, 1), 5.0))
    one = model.apply(params, inputs, Named(text=x), t, mask=mask)["text"]
    other = model.apply(params, inputs, Named(text=x.at[:, 4:].set(0)), t, mask=mask)["text"]
    np.testing.assert_array_equal(one[:, :4], other[:, :4])


def test_remat_and_bfloat16_change_only_what_they_say():
    inputs = Named(image=LATENTS)
    params = randomized(SMALL.init(jax.random.key(0), inputs), jax.random.key(1))
    x = Named(image=jax.random.normal(jax.random.key(2), (2, 16, 3)))
    t = Named(image=jnp.full((2, 1), 300.0))

    def value_and_gradient(model):
        def total(params):
            return jnp.sum(model.apply(params, inputs, x, t)["image"] ** 2)

        return jax.jit(jax.value_and_grad(total))(params)

    plain = value_and_gradient(SMALL)
    remat = value_and_gradient(DiT(depth=2, dim=16, heads=2, patch=2, remat=True))
    chex.assert_trees_all_close(plain, remat, rtol=1e-4, atol=1e-4)
    low = DiT(depth=2, dim=16, heads=2, patch=2, dtype="bfloat16")
    half = value_and_gradient(low)
    chex.assert_trees_all_equal_dtypes(plain, half)  # parameters and output stay float32
    np.testing.assert_allclose(plain[0], half[0], rtol=0.05)


def test_positions_share_channels_with_the_columns_first():
    table = positions((2, 3), 8).reshape(2, 3, 8)
    frequency = np.asarray([1.0, 0.01])
    for row in range(2):
        for column in range(3):
            expected = [
                *np.sin(column * frequency),
                *np.cos(column * frequency),
                *np.sin(row * frequency),
                *np.cos(row * frequency),
            ]
            np.testing.assert_allclose(table[row, column], expected, atol=1e-6)


def test_time_embedding_divides_by_128():
    t = jnp.asarray([0.0, 1.0, 999.0])
    frequency = np.asarray([1e4 ** (-i / 128) for i in range(128)])
    angle = np.asarray(t)[:, None] * frequency
    expected = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    np.testing.assert_allclose(sinusoid(t), expected, atol=1e-4)


AUDIO = Tokens(grid=(6,), width=2, output=2, patch=1)
IMAGE = Tokens(grid=(4, 4), codes=7, output=7, patch=2)
TEXT = Tokens(grid=(5,), codes=9, output=9)
THREE = Named(audio=AUDIO, image=IMAGE, label=LABEL, text=TEXT)
ONE_LAYER = DiT(depth=1, dim=16, heads=2, patch=1)


def three(batch=2):
    x = Named(
        audio=jax.random.normal(jax.random.key(2), (batch, 6, 2)),
        image=jax.random.randint(jax.random.key(3), (batch, 16, 1), -1, 7),
        label=jnp.arange(batch)[:, None, None] - 1,
        text=jax.random.randint(jax.random.key(4), (batch, 5, 1), -1, 9),
    )
    t = Named(
        audio=jnp.full((batch, 1), 100.0),
        image=jnp.full((batch, 1), 900.0),
        label=jnp.zeros((batch, 1)),
        text=jnp.linspace(0.0, 999.0, batch * 5).reshape(batch, 5),  # one per token
    )
    return x, t


def drawn(model, seed=0):
    """Parameters for `THREE`, none of them zero, without the time that `init` takes."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), THREE))
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: 0.2 * random.normal(size=leaf.shape).astype("f4"), shapes)


@pytest.fixture(scope="module")
def randomized_three():
    model = DiT(depth=2, dim=16, heads=2, patch=1)
    return model, drawn(model)


def test_every_modality_has_a_patch_embedding_time_and_head_of_its_own(randomized_three):
    model, params = randomized_three
    assert set(params) == {
        "blocks",
        *(f"{name}_{part}" for name in ("audio", "image", "text") for part in ("time", "head")),
        *(f"{name}_modulation" for name in ("audio", "image", "text")),
        *(f"{name}_embed" for name in ("image", "label", "text")),  # tables of codes
        *(f"{name}_patch" for name in ("audio", "image")),  # latents, and codes that are folded
    }
    assert params["image_patch"]["kernel"].shape == (4 * 16, 16)  # four embedded codes
    assert params["audio_patch"]["kernel"].shape == (2, 16)
    assert params["image_head"]["kernel"].shape == (16, 4 * 7)
    assert params["audio_head"]["kernel"].shape == (16, 2)
    assert params["text_head"]["kernel"].shape == (16, 9)
    assert model.spans(THREE) == {
        "audio": slice(0, 6),
        "image": slice(6, 10),
        "text": slice(10, 15),
    }
    out = jax.eval_shape(lambda params: model.apply(params, THREE, *three()), params)
    assert {name: part.shape for name, part in out.items()} == {
        "audio": (2, 6, 2),
        "image": (2, 16, 7),
        "text": (2, 5, 9),
    }


def test_a_modalitys_patch_goes_before_that_of_the_network(randomized_three):
    model, params = randomized_three
    wide = DiT(depth=2, dim=16, heads=2, patch=2)
    own = Named(
        audio=AUDIO,
        image=Tokens(grid=(4, 4), codes=7, output=7),  # takes the network's
        label=LABEL,
        text=Tokens(grid=(5,), codes=9, output=9, patch=1),
    )
    assert wide.spans(own) == model.spans(THREE)
    one = jax.jit(lambda params: model.apply(params, THREE, *three()))(params)
    other = jax.jit(lambda params: wide.apply(params, own, *three()))(params)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_patch_that_does_not_divide_the_grid_is_refused_by_modality():
    with pytest.raises(ValueError) as error:
        SMALL.check(Named(image=CODES, text=TEXT))
    assert str(error.value) == (
        "the grid of 'text', 5, is not divisible by the DiT's patch 2; use a grid of 4 or 6, or "
        "patch=1"
    )
    SMALL.check(Named(image=CODES, text=Tokens(grid=(5,), codes=9, output=9, patch=1)))
    with pytest.raises(
        ValueError, match="the grid of 'image', 4x4, is not divisible by .* patch 3"
    ):
        ONE_LAYER.check(Named(image=Tokens(grid=(4, 4), codes=7, output=7, patch=3)))


def test_attention_is_the_softmax_by_hand(randomized_three):
    """One layer: modulated tokens, two heads, in NumPy and float64."""
    (x, t), params = three(), drawn(ONE_LAYER)
    found = jax.jit(lambda params: ONE_LAYER.attend(params, THREE, x, t))(params)
    assert found.shape == (1, 2, 15, 15) and found.dtype == jnp.float32

    rows, conditions = [], []
    label = np.asarray(params["label_embed"]["table"], np.float64)[0][[10, 0]]  # -1, then class 0
    for name, part in (("audio", AUDIO), ("image", IMAGE), ("text", TEXT)):
        tokens, patch = np.asarray(x[name], np.float64), part.patch or 1
        if part.codes:
            table = np.asarray(params[f"{name}_embed"]["table"], np.float64)[0]
            codes = np.asarray(x[name])[..., 0]
            tokens = table[np.where(codes < 0, part.codes, codes)]
        if name == "image":
            tokens = tokens.reshape(2, 2, 2, 2, 2, 16).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 64)
        if name != "text":
            tokens = dense(params[f"{name}_patch"], tokens)
        grid = tuple(size // patch for size in part.grid)
        rows.append(tokens + positions(grid, 16))
        angle = np.asarray(t[name], np.float64)[..., None] * np.exp(
            -np.log(1e4) * np.arange(128) / 128
        )
        time = np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
        mlp = params[f"{name}_time"]
        time = dense(mlp["Dense_1"], silu(dense(mlp["Dense_0"], time))) + label[:, None]
        conditions.append(np.broadcast_to(time, (2, tokens.shape[1], 16)))
    h, c = np.concatenate(rows, axis=1), silu(np.concatenate(conditions, axis=1))
    block = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), params["blocks"])
    shift, scale = np.split(dense(block["modulation"], c), 6, axis=-1)[:2]
    q, k, _ = np.split(dense(block["qkv"], layer_norm(h) * (1 + scale) + shift), 3, axis=-1)
    q, k = (part.reshape(2, 15, 2, 8) for part in (q, k))
    expected = softmax(np.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(8)).mean(axis=1)
    np.testing.assert_allclose(found[0], expected, rtol=2e-4, atol=1e-6)
    assert expected.max() > 3 / 15  # not merely uniform


@pytest.mark.parametrize("depth", [2, 8])  # unrolled, and scanned
def test_rows_of_attention_sum_to_one_in_every_layer(depth):
    model = DiT(depth=depth, dim=16, heads=2, patch=1)
    params = drawn(model)
    found = jax.jit(lambda params: model.attend(params, THREE, *three()))(params)
    assert found.shape == (depth, 2, 15, 15)
    assert (found >= 0.0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, atol=1e-6)
    # No two layers look alike.
    assert len({layer.tobytes() for layer in np.asarray(found)}) == depth


@pytest.mark.parametrize(("grid", "patch"), [((6,), 3), ((4, 6), 2), ((2, 4, 2), 2)])
def test_unfold_is_the_inverse_of_fold(grid, patch):
    x = jax.random.normal(jax.random.key(0), (2, int(np.prod(grid)), 5))
    folded = fold(x, grid, patch)
    assert folded.shape == (2, x.shape[1] // patch ** len(grid), 5 * patch ** len(grid))
    np.testing.assert_array_equal(unfold(folded, grid, patch), x)


def test_codes_that_look_alike_start_alike():
    """Embeddings start as one linear map of the codes' vectors; "no code" keeps its own."""
    vectors = jax.random.normal(jax.random.key(7), (2, 5, 3)).at[1, 4].set(jnp.ones(3))
    vectors = vectors.at[0, 2].set(vectors[0, 1])  # two codes with one vector
    inputs = Named(image=Tokens(grid=(4,), codes=5, codebooks=2, output=10), label=LABEL)
    init = jax.jit(lambda vectors: ONE_LAYER.init(jax.random.key(0), inputs, vectors))
    plain, started = init(Named()), init(Named(image=vectors))
    table = np.asarray(started["image_embed"]["table"])
    assert table.shape == (2, 6, 16)
    np.testing.assert_array_equal(table[0, 1], table[0, 2])
    np.testing.assert_array_equal(table[:, -1], plain["image_embed"]["table"][:, -1])
    centred = np.asarray(vectors - vectors.mean(axis=(0, 1)), np.float64).reshape(10, 3)
    scaled = centred / np.sqrt(np.mean(centred**2))
    rows = table[:, :-1].reshape(10, 16)
    weights, residual, rank, _ = np.linalg.lstsq(scaled, rows, rcond=None)
    assert rank == 3
    np.testing.assert_allclose(scaled @ weights, rows, atol=1e-5)
    limit = np.sqrt(6 / (3 + 16))  # a Xavier uniform matrix, as latents are embedded with
    assert np.abs(weights).max() <= limit + 1e-4 and np.abs(weights).max() > 0.7 * limit
    # Scale and offset of the vectors do not matter; nothing else changes.
    again = init(Named(image=100.0 * vectors + 7.0))
    np.testing.assert_allclose(again["image_embed"]["table"], table, atol=1e-3)
    rest = lambda params: {name: part for name, part in params.items() if name != "image_embed"}  # noqa: E731
    chex.assert_trees_all_equal(rest(started), rest(plain))


def test_embedders_per_block_are_the_shared_ones_where_they_are_equal():
    """Also with several modalities, registers and a time per token, in a stack that is scanned."""
    depth = 13
    shared = DiT(depth=depth, dim=16, heads=2, patch=1, registers=2)
    own = dataclasses.replace(shared, embedders="per_block")
    params, (x, t) = jax.tree.map(jnp.asarray, drawn(shared)), three()
    parts = [name for name in params if name.endswith("_time") or name == "label_embed"]
    stacked = {name: jax.tree.map(lambda a: jnp.stack([a] * depth), params[name]) for name in parts}
    shapes = jax.eval_shape(lambda: own.init(jax.random.key(0), THREE))
    chex.assert_trees_all_equal_shapes(shapes, params | stacked)
    expected = jax.jit(lambda *args: shared.apply(args[0], THREE, *args[1:]))(params, x, t)
    apply = jax.jit(lambda *args: own.apply(args[0], THREE, *args[1:]))
    found = apply(params | stacked, x, t)
    chex.assert_trees_all_close(found, expected, atol=1e-5)
    changed = jax.tree.map(lambda a: a.at[1].add(0.5), stacked["image_time"])
    other = apply(params | stacked | {"image_time": changed}, x, t)
    assert np.abs(other["image"] - expected["image"]).max() > 1e-2


@pytest.mark.parametrize("field", ["depth", "dim", "heads", "patch", "mlp_ratio"])
@pytest.mark.parametrize("value", [0, -1])
def test_sizes_are_at_least_one(field, value):
    with pytest.raises(ValueError, match=f"DiT needs {field} >= 1, got {value}"):
        DiT(**{field: value})


def test_bad_settings_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="embedders='per_block' needs block='adaln_zero', got"):
        DiT(embedders="per_block", block="mm_dit")
    for name, close in (("xl/2", "XL/2"), ("XXL/2", "XL/2"), ("b-4", "B/4"), ("huge", "XL/2")):
        with pytest.raises(ValueError, match=f"unknown DiT '{name}'; .* such as '{close}'"):
            DiT.named(name)
    with pytest.raises(ValueError, match="heads to divide dim=10, got 3"):
        DiT(dim=10, heads=3)
    with pytest.raises(ValueError, match=r"7x7.*patch 2; use a grid of 6x6 or 8x8"):
        SMALL.check(Named(image=Tokens(grid=(7, 7), codes=4, output=4)))
