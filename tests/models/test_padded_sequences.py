"""Sequences of different lengths in one batch: every network gives what it gives for each alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import VQGAN, ConvAutoencoder, TiTok, ViTTokenizer, VQGANPlus

TABLE = {
    "ConvAutoencoder": ConvAutoencoder(channels=(4, 8), blocks=1),
    "ConvAutoencoder patch": ConvAutoencoder(channels=(4, 8, 8), blocks=1, patch=2),
    "VQGAN": VQGAN(channels=(4, 8), blocks=1, attention=(0,), z_channels=6, groups=2),
    "VQGANPlus": VQGANPlus(channels=(4, 8), blocks=1, groups=2),
    "ViTTokenizer": ViTTokenizer(patch=4, depth=1, width=16, heads=2),
}
LENGTHS, LONGEST, DIM, CHANNELS = (0, 5, 7, 14), 14, 5, 2
"""14 positions are no multiple of any down-sampling in the table but 2."""
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def awake(params):
    """Moves parameters that start at 0, behind which nothing would be seen."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    noise = [0.1 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]  # noqa: B905
    return jax.tree.unflatten(tree, [leaf + more for leaf, more in zip(leaves, noise, strict=True)])


def masks(lengths, longest=LONGEST):
    return jnp.arange(longest) < jnp.asarray(lengths)[:, None]


@pytest.mark.parametrize("name", TABLE)
def test_a_padded_sequence_is_encoded_and_decoded_as_alone(name):
    """Behind the ends of the batch is noise; alone, a sequence is filled to whole tokens by 0."""
    model, x = TABLE[name], jax.random.normal(jax.random.key(0), (len(LENGTHS), LONGEST, CHANNELS))
    params = jit(lambda: awake(model.init(jax.random.key(1), x, DIM)))()
    encode = jit(functools.partial(model.encode, width=DIM))
    decode = jit(functools.partial(model.decode, channels=CHANNELS))
    mask = masks(LENGTHS)
    z = encode(params, x, mask=mask)
    y = decode(params, z + 9.0 * ~model.token_mask(mask)[..., None], mask=mask)
    assert z.shape == (len(LENGTHS), model.real(LONGEST), DIM) and y.shape == x.shape
    for row, length in enumerate(LENGTHS):
        tokens = model.real(length)
        np.testing.assert_array_equal(z[row, tokens:], 0.0)
        np.testing.assert_array_equal(y[row, length:], 0.0)
        if length:
            whole = jnp.zeros((1, tokens * model.downsampling, CHANNELS))
            alone = encode(params, whole.at[0, :length].set(x[row, :length]))
            assert alone.shape == (1, tokens, DIM)
            np.testing.assert_allclose(z[row, :tokens], alone[0], atol=1e-5)
            again = decode(params, alone)[0, :length]
            np.testing.assert_allclose(y[row, :length], again, atol=1e-5)


@pytest.mark.parametrize("name", ["VQGAN", "ViTTokenizer"])
def test_an_empty_sequence_has_finite_gradients(name):
    """As a column that an example lacks: it counts nowhere, but is in the batch."""
    model, x = TABLE[name], jnp.zeros((2, 8, CHANNELS))
    params = jit(lambda: model.init(jax.random.key(1), x, DIM))()
    mask = masks((0, 5), 8)

    @jit
    @jax.grad
    def gradient(params):
        z = model.encode(params, x, DIM, mask)
        return jnp.sum(model.decode(params, z, CHANNELS, mask) ** 2)

    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(params)))


def test_lengths_are_rounded_up_to_whole_tokens():
    model = ConvAutoencoder(channels=(4, 8), patch=3)
    assert [model.real(length) for length in (0, 1, 6, 7, 12)] == [0, 1, 1, 2, 2]
    np.testing.assert_array_equal(model.real(np.asarray([5, 13])), [1, 3])
    with pytest.raises(ValueError, match="TiTok has 3 tokens for every length"):
        TiTok(size=(16,), patch=4, tokens=3).real(8)


def test_titok_takes_sequences_of_one_length():
    model = TiTok(size=(16,), patch=4, depth=1, width=8, heads=2, tokens=3)
    x = jax.random.normal(jax.random.key(0), (2, 16, CHANNELS))

    def there_and_back(key, x):
        params = model.init(key, x, DIM)
        z = model.encode(params, x, DIM)
        return z, model.decode(params, z, CHANNELS)

    z, y = jax.eval_shape(there_and_back, jax.random.key(1), x)
    assert z.shape == (2, *model.grid((16,)), DIM) == (2, 3, DIM)
    assert y.shape == x.shape
