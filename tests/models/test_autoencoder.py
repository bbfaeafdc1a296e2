"""The convolutional autoencoder on one, two and three axes, and the codebook module."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import Codebook, ConvAutoencoder
from vqdit.quantizers import VQ

MODEL = ConvAutoencoder(channels=(4, 8), blocks=1)


@pytest.mark.parametrize("size", [(8,), (8, 4), (4, 4, 8)])
def test_shapes_on_any_number_of_axes(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    params = MODEL.init(jax.random.key(1), x, 5)
    z = MODEL.encode(params, x, 5)
    assert z.shape == (2, *(axis // 2 for axis in size), 5)
    assert MODEL.grid(size) == z.shape[1:-1]
    assert MODEL.decode(params, z, 3).shape == x.shape


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


@pytest.mark.parametrize("fields", [{"channels": ()}, {"channels": (4, 0)}, {"blocks": 0}])
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
