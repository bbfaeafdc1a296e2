"""The DiT: published parameter counts, formulas in NumPy, and what it must not depend on."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DiT, Tokens
from vqdit.models.dit import _fold, _unfold
from vqdit.nn.embeddings import positions, sinusoid
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


@pytest.mark.parametrize(("grid", "patch"), [((6,), 3), ((4, 6), 2), ((2, 4, 2), 2)])
def test_unfold_is_the_inverse_of_fold(grid, patch):
    x = jax.random.normal(jax.random.key(0), (2, int(np.prod(grid)), 5))
    folded = _fold(x, grid, patch)
    assert folded.shape == (2, x.shape[1] // patch ** len(grid), 5 * patch ** len(grid))
    np.testing.assert_array_equal(_unfold(folded, grid, patch), x)


def test_bad_settings_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="XL/2"):
        DiT.named("XXL/3")
    with pytest.raises(ValueError, match="divide dim"):
        DiT(dim=10, heads=3)
    with pytest.raises(ValueError, match=r"7x7.*patch 2; nearest grids: 6x6 or 8x8"):
        SMALL.check(Named(image=Tokens(grid=(7, 7), codes=4, output=4)))
