"""Every autoencoder through the same checks: a new one is a line in the table."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import (
    VQGAN,
    Autoencoder,
    Codec,
    ConvAutoencoder,
    TiTok,
    VideoAutoencoder,
    ViTTokenizer,
    VQGANPlus,
)
from vqdit.models.autoencoder import LeveledAutoencoder
from vqdit.models.vit import PatchTransformers

VIT = {"patch": 4, "depth": 2, "width": 16, "heads": 2}
TABLE = {
    "ConvAutoencoder": ConvAutoencoder(channels=(4, 8), blocks=1),
    "VQGAN": VQGAN(channels=(4, 8), blocks=1, attention=(1,), z_channels=6, groups=2),
    "VQGAN bare": VQGAN(
        channels=(4, 8), blocks=1, attention=(), middle_attention=False, z_channels=5,
        quant_conv=False, groups=1,
    ),
    "VQGANPlus": VQGANPlus(channels=(4, 8), blocks=1, groups=2),
    "ViTTokenizer": ViTTokenizer(**VIT),
    "ViTTokenizer swiglu": ViTTokenizer(**VIT, mlp="swiglu"),
    "TiTok": TiTok(**VIT, size=(8, 12), tokens=3),
    "VideoAutoencoder": VideoAutoencoder(
        channels=(4, 8), blocks=1, convolutions="full", attention=(1,), norm="layer",
        middle_blocks=1, upsampling="linear", z_channels=6,
    ),
}  # fmt: skip
SIZE, DIM, CHANNELS = (8, 12), 5, 3
GRIDS = {"ViTTokenizer": (2, 3), "ViTTokenizer swiglu": (2, 3), "TiTok": (3,)}
NAMES = list(TABLE)
VIDEO, FRAMES = ("VideoAutoencoder",), 3
# Everything runs once or twice: compiling well takes longer than that.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def size_of(name, size=SIZE):
    return (FRAMES, *size) if name in VIDEO else size


DATA = {
    name: jnp.asarray(
        np.random.default_rng(0).normal(size=(3, *size_of(name), CHANNELS)), "float32"
    )
    for name in TABLE
}


def data(name):
    return DATA[name]


@functools.cache
def initialised(name):
    return jit(lambda key: TABLE[name].init(key, data(name), DIM))(jax.random.key(1))


def there_and_back(model, params, x):
    z = model.encode(params, x, DIM)
    return z, model.decode(params, z, CHANNELS)


@functools.cache
def compiled(name):
    return jit(functools.partial(there_and_back, TABLE[name]))


@functools.cache
def outputs(name):
    return compiled(name)(initialised(name), data(name))


def test_the_table_has_every_autoencoder():
    found, open_ = set(), [Autoencoder]
    while open_:
        kinds = open_.pop().__subclasses__()
        open_ += kinds
        found |= {kind for kind in kinds if kind.__module__.startswith("vqdit.")}
    found = {kind for kind in found if not issubclass(kind, Codec)}  # tests/models/test_codecs.py
    assert {type(model) for model in TABLE.values()} == found - {
        PatchTransformers,
        LeveledAutoencoder,
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_made_without_arguments(name):
    cls = type(TABLE[name])
    assert cls() == cls()
    assert cls().downsampling >= 1


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name):
    model, (z, y) = TABLE[name], outputs(name)
    grid = (2, 4, 6) if name in VIDEO else GRIDS.get(name, (4, 6))
    assert z.shape == (3, *grid, DIM)
    assert z.shape[1:-1] == model.grid(size_of(name))
    assert y.shape == data(name).shape
    assert z.dtype == y.dtype == jnp.float32
    assert set(initialised(name)) == {"encoder", "decoder"}
    assert {leaf.dtype for leaf in jax.tree.leaves(initialised(name))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", NAMES)
def test_the_last_layer_is_linear_in_the_output(name):
    """Twice its kernel and bias, twice the output: nothing comes behind it."""
    model, params = TABLE[name], initialised(name)
    *path, leaf = model.last_layer
    doubled = jax.tree.map(lambda leaf: leaf, params)
    layer = functools.reduce(lambda part, step: part[step], path, doubled)
    assert leaf in layer
    layer.update({key: 2.0 * value for key, value in layer.items()})
    z, y = outputs(name)
    decode = jit(functools.partial(model.decode, channels=CHANNELS))
    np.testing.assert_allclose(decode(doubled, z), 2.0 * y, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_one_example_not_compiled_equals_that_of_a_compiled_batch(name):
    alone = there_and_back(TABLE[name], initialised(name), data(name)[1:2])
    chex.assert_trees_all_close(alone, tuple(out[1:2] for out in outputs(name)), atol=2e-5)


def residuals_awake(params):
    """Moves parameters that start at 0, behind which nothing would be seen."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def gradient(model):
    def error(params, x):
        return jnp.mean((there_and_back(model, params, x)[1] - x) ** 2)

    return jit(jax.grad(error))


@functools.cache
def gradients(name):
    return gradient(TABLE[name])(residuals_awake(initialised(name)), data(name))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_and_reach_every_parameter(name):
    """But for biases of keys: softmax does not see a constant."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients(name)):
        words = jax.tree_util.keystr(path, simple=True, separator="/")
        assert jnp.isfinite(leaf).all(), words
        if not words.endswith("/k/bias"):
            assert jnp.abs(leaf).max() > 1e-7, words


@pytest.mark.parametrize("name", ["VQGAN", "VQGANPlus", "TiTok", "VideoAutoencoder"])
def test_recomputing_changes_neither_parameters_nor_gradients(name):
    again = dataclasses.replace(TABLE[name], remat=True)
    init = jax.eval_shape(lambda: again.init(jax.random.key(1), data(name), DIM))
    chex.assert_trees_all_equal_shapes(init, initialised(name))
    params = residuals_awake(initialised(name))
    assert "remat" in str(
        jax.make_jaxpr(functools.partial(there_and_back, again))(params, data(name))
    )
    chex.assert_trees_all_close(gradient(again)(params, data(name)), gradients(name), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_and_float32_comes_out(name):
    model = dataclasses.replace(TABLE[name], dtype="bfloat16")
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(1), data(name), DIM))
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, initialised(name))
    z, y = jit(functools.partial(there_and_back, model))(initialised(name), data(name))
    assert z.dtype == y.dtype == jnp.float32
    assert 0 < jnp.abs(z - outputs(name)[0]).max() < 0.1
    assert 0 < jnp.abs(y - outputs(name)[1]).max() < 0.2


@pytest.mark.parametrize("name", NAMES)
def test_sizes_that_do_not_divide_are_refused(name):
    with pytest.raises(ValueError, match="9x12"):
        TABLE[name].grid(size_of(name, (9, 12)))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "TiTok"])
def test_any_size_that_divides_goes_through_the_same_parameters(name):
    """Made at 8x12; nothing is computed."""
    x = jnp.zeros((2, *size_of(name, (16, 8)), CHANNELS))
    run = functools.partial(there_and_back, TABLE[name])
    z, y = jax.eval_shape(run, initialised(name), x)
    assert z.shape == (2, *TABLE[name].grid(x.shape[1:-1]), DIM)
    assert y.shape == x.shape
    assert TABLE[name].size(z.shape[1:-1]) == x.shape[1:-1]
