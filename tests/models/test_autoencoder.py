"""The convolutional autoencoder on one, two and three axes, and the codebook module."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import Codebook, ConvAutoencoder
from vqdit.models.autoencoder import doubled, folded, unfolded
from vqdit.quantizers import VQ

MODEL = ConvAutoencoder(channels=(4, 8), blocks=1)


def shapes(model, size):
    """Parameters, latents and outputs for two examples of three channels; nothing is computed."""

    def there_and_back(key, x):
        params = model.init(key, x, 5)
        z = model.encode(params, x, 5)
        return params, z, model.decode(params, z, 3)

    return jax.eval_shape(there_and_back, jax.random.key(0), jnp.zeros((2, *size, 3)))


@pytest.mark.parametrize("size", [(8,), (8, 4), (4, 4, 8)])
def test_shapes_on_any_number_of_axes(size):
    _, z, y = shapes(MODEL, size)
    assert z.shape == (2, *(axis // 2 for axis in size), 5)
    assert MODEL.grid(size) == z.shape[1:-1]
    assert y.shape == (2, *size, 3)


@pytest.mark.parametrize(
    ("size", "channels", "patch", "grid"),
    [
        ((12,), (4,), 4, (3,)),
        ((48,), (4, 8), 6, (4,)),
        ((8, 12), (4, 8), 2, (2, 3)),
        ((4, 8, 4), (4,), 2, (2, 4, 2)),
    ],
)
def test_a_patch_of_positions_is_folded_into_channels_first(size, channels, patch, grid):
    model = ConvAutoencoder(channels=channels, blocks=1, patch=patch)
    assert model.downsampling == patch * 2 ** (len(channels) - 1)
    assert model.grid(size) == grid
    params, z, y = shapes(model, size)
    assert z.shape == (2, *grid, 5) and z.dtype == jnp.float32
    assert y.shape == (2, *size, 3) and y.dtype == jnp.float32
    folded, axes = 3 * patch ** len(size), (3,) * len(size)
    assert params["encoder"]["in"]["kernel"].shape == (*axes, folded, channels[0])
    assert params["decoder"]["out"]["kernel"].shape == (*axes, channels[0], folded)


@pytest.mark.parametrize(
    ("size", "patch"), [((12,), 3), ((4, 6), 2), ((2, 4, 6), 2), ((800,), 160), ((8, 8), 1)]
)
def test_folding_loses_nothing_and_keeps_neighbours_together(size, patch):
    x = np.arange(2 * np.prod(size) * 3, dtype=np.float32).reshape(2, *size, 3)
    patches = folded(jnp.asarray(x), patch)
    part = tuple(edge // patch for edge in size)
    assert patches.shape == (2, *part, 3 * patch ** len(size))
    np.testing.assert_array_equal(unfolded(patches, patch), x)
    cell = tuple(edge - 1 for edge in part)  # the last one
    block = x[(1, *(slice(c * patch, (c + 1) * patch) for c in cell))]
    np.testing.assert_array_equal(patches[(1, *cell)], block.ravel())


def test_a_patch_of_one_position_is_no_patch():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    assert ConvAutoencoder(channels=(4, 8), blocks=1, patch=1) == MODEL
    np.testing.assert_array_equal(folded(x, 1), x)


def test_a_patched_model_can_learn_what_it_is_given():
    model = ConvAutoencoder(channels=(8,), blocks=1, patch=8)
    x = jax.random.normal(jax.random.key(0), (4, 32, 1))
    params = jax.jit(lambda: model.init(jax.random.key(1), x, 8))()

    def error(params):
        return jnp.mean((model.decode(params, model.encode(params, x, 8), 1) - x) ** 2)

    @jax.jit
    def step(params):
        value, gradient = jax.value_and_grad(error)(params)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient), value

    params, first = step(params)
    for _ in range(60):
        params, last = step(params)
    assert last < 0.5 * first


def test_bfloat16_keeps_parameters_and_output_in_float32():
    model = ConvAutoencoder(channels=(4, 8), blocks=1, dtype="bfloat16")
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    params = model.init(jax.random.key(1), x, 4)
    chex.assert_trees_all_equal_dtypes(params, jax.tree.map(jnp.zeros_like, params))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    z = model.encode(params, x, 4)
    assert z.dtype == jnp.float32
    np.testing.assert_allclose(z, MODEL.encode(params, x, 4), atol=0.1)


def test_remat_changes_neither_parameters_nor_gradients():
    again = dataclasses.replace(MODEL, remat=True)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    params = MODEL.init(jax.random.key(1), x, 4)
    chex.assert_trees_all_equal(again.init(jax.random.key(1), x, 4), params)

    def gradient(model):
        error = lambda p: jnp.mean((model.decode(p, model.encode(p, x, 4), 1) - x) ** 2)  # noqa: E731
        return jax.jit(jax.grad(error))(params)

    chex.assert_trees_all_close(gradient(again), gradient(MODEL), atol=1e-6)


def test_an_example_does_not_depend_on_its_batch():
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    params = MODEL.init(jax.random.key(1), x, 4)
    whole = MODEL.encode(params, x, 4)
    np.testing.assert_allclose(MODEL.encode(params, x[2:3], 4), whole[2:3], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "near"), [((9, 8), "8x8 or 10x8"), ((7, 7), "6x6 or 8x8"), ((1, 1), "2x2")]
)
def test_sizes_that_do_not_divide_name_the_nearest(size, near):
    with pytest.raises(ValueError, match=near):
        MODEL.grid(size)


@pytest.mark.parametrize(
    ("size", "patch", "message"),
    [
        (
            (90,),
            20,
            "size 90 is not divisible by the encoder's down-sampling 40 (patch 20, 2 levels of "
            "channels); nearest sizes: 80 or 120",
        ),
        (
            (8, 10),
            2,
            "size 8x10 is not divisible by the encoder's down-sampling 4 (patch 2, 2 levels of "
            "channels); nearest sizes: 8x8 or 8x12",
        ),
        (
            (3,),
            1,
            "size 3 is not divisible by the encoder's down-sampling 2 (2 levels of channels); "
            "nearest sizes: 2 or 4",
        ),
    ],
)
def test_the_patch_counts_in_the_sizes_that_are_refused(size, patch, message):
    with pytest.raises(ValueError) as error:
        ConvAutoencoder(channels=(4, 8), patch=patch).grid(size)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "fields", [{"channels": ()}, {"channels": (4, 0)}, {"blocks": 0}, {"patch": 0}]
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match="ConvAutoencoder needs"):
        ConvAutoencoder(**fields)


def test_the_codebook_module_is_the_quantizer():
    quantizer = VQ(codebook_size=8, dim=4)
    _, stats = quantizer.init(jax.random.key(0))
    z = jax.random.normal(jax.random.key(1), (2, 3, 4))
    module = Codebook(quantizer)
    variables = module.init(jax.random.key(2), z, stats)
    out = jax.jit(module.apply)(variables, z, stats)
    chex.assert_trees_all_close(out, quantizer.quantize({}, stats, z), atol=1e-6)


SMOOTH = ConvAutoencoder(channels=(6, 8), blocks=1, patch=8, upsampling="linear")


@pytest.mark.parametrize("size", [(48,), (16, 32)])
def test_linear_upsampling_has_the_same_shapes(size):
    params, z, y = shapes(SMOOTH, size)
    assert z.shape == (2, *(edge // 16 for edge in size), 5)
    assert y.shape == (2, *size, 3)
    assert {f"smooth_{n}" for n in range(3)} | {"out"} <= set(params["decoder"])
    assert "smooth_3" not in params["decoder"]


def test_equal_latents_give_a_constant_and_no_period_of_a_patch():
    """Away from the borders; folding gives every sample of a patch a value of its own."""
    z = jnp.broadcast_to(jnp.asarray([0.5, -1.0, 0.3]), (1, 40, 3))
    x, spreads = jnp.zeros((1, 640, 1)), {}
    for upsampling in ("linear", "fold"):
        model = dataclasses.replace(SMOOTH, upsampling=upsampling)
        params = model.init(jax.random.key(1), x, 3)
        middle = model.decode(params, z, 1)[0, 256:384, 0]
        spreads[upsampling] = float(jnp.std(middle) / jnp.max(jnp.abs(middle)))
    assert spreads["linear"] < 1e-3 < 0.1 < spreads["fold"]


def test_linear_upsampling_does_not_see_padding():
    x = jax.random.normal(jax.random.key(0), (2, 64, 1))
    params = SMOOTH.init(jax.random.key(1), x, 3)
    mask = jnp.arange(64) < jnp.asarray([64, 30])[:, None]
    z = SMOOTH.encode(params, x, 3, mask)
    together = SMOOTH.decode(params, z, 1, mask)
    alone = SMOOTH.decode(params, z[1:, :2], 1)
    np.testing.assert_allclose(together[1, :30], alone[0, :30], atol=1e-5)


def test_doubling_is_linear_interpolation():
    found = doubled(jnp.asarray([2.0, 4.0, 8.0]).reshape(1, 3, 1))
    np.testing.assert_allclose(found[0, :, 0], [1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


def test_linear_upsampling_needs_a_power_of_two():
    with pytest.raises(
        ValueError, match="ConvAutoencoder needs patch to be a power of 2 with upsa"
    ):
        ConvAutoencoder(patch=6, upsampling="linear")
