"""Codecs: lengths, sequences of different lengths in one batch, gradients, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.models import DAC, SEANet
from vqdit.models.seanet import LOUDNESS, Mimi, loudness

SMALL = {"channels": 4, "strides": (2, 3)}
TABLE = {
    "SEANet": SEANet(**SMALL, layers=1, padding="constant"),
    "SEANet centred": SEANet(
        **SMALL, middle="attention", heads=2, window=3, causal=False, blocks=2, norm="none"
    ),
    "SEANet time_group_norm": SEANet(
        **SMALL, middle="none", causal=False, norm="time_group_norm", conv_shortcut=False
    ),
    "DAC": DAC(**SMALL, decoder_channels=12, blocks=2),
    "DAC cut": DAC(**SMALL, decoder_channels=12, blocks=1, cut_odd=True, norm="none"),
    "Mimi": Mimi(channels=4, strides=(3,), layers=1, heads=2, window=3, hidden=6),
}
NAMES, DIM, CHANNELS, LONGEST = list(TABLE), 8, 2, 31
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, LONGEST, CHANNELS)), jnp.float32)


@functools.cache
def initialised(name):
    def make(k_params, k_noise):
        params = TABLE[name].init(k_params, X, DIM)
        leaves, tree = jax.tree.flatten(params)
        keys = jax.random.split(k_noise, len(leaves))
        pairs = zip(leaves, keys, strict=True)
        noise = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in pairs]
        return jax.tree.unflatten(tree, noise)

    return jit(make)(jax.random.key(1), jax.random.key(2))


@functools.cache
def compiled(name):
    """There and back."""
    return jit(functools.partial(there_and_back, TABLE[name]))


def there_and_back(model, params, x, mask=None):
    z = model.encode(params, x, DIM, mask)
    return z, model.decode(params, z, CHANNELS, mask)


def gradient(name, mask=None):
    def loss(params):
        return jnp.sum(there_and_back(TABLE[name], params, X, mask)[1] ** 2)

    return jit(jax.grad(loss))(initialised(name))


@functools.cache
def outputs(name):
    return compiled(name)(initialised(name), X)


@pytest.mark.parametrize("name", NAMES)
def test_any_length_is_rounded_up_to_whole_tokens(name):
    model, (z, y) = TABLE[name], outputs(name)
    tokens = -(-LONGEST // model.downsampling)
    assert model.downsampling == 6 and model.real(LONGEST) == tokens
    assert z.shape == (3, tokens, DIM) and y.shape == (3, tokens * 6, CHANNELS)
    assert z.dtype == y.dtype == jnp.float32
    assert np.abs(np.diff(y, axis=1)).max() > 1e-4
    assert model.grid((36,)) == (6,)
    with pytest.raises(ValueError, match="31 is not divisible by the encoder's down-sampling 6"):
        model.grid((31,))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name):
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(name)):
        words = jax.tree_util.keystr(path, simple=True, separator="/")
        assert jnp.isfinite(leaf).all(), words
        # Behind a norm a constant makes no difference.
        if not (TABLE[name].norm == "time_group_norm" and words.endswith("/bias")):
            assert jnp.abs(leaf).max() > 1e-7, words


@pytest.mark.parametrize("name", NAMES)
def test_a_padded_sequence_is_encoded_and_decoded_as_alone(name):
    model, lengths = TABLE[name], (0, 17, LONGEST)
    mask = jnp.arange(LONGEST) < jnp.asarray(lengths)[:, None]
    z, y = compiled(name)(initialised(name), X, mask)
    assert y.shape == X.shape
    for row, length in ((1, 17), (2, LONGEST)):
        tokens = model.real(length)
        alone = X[row : row + 1, :length] if length < LONGEST else X
        z_alone, y_alone = (part[-1:] for part in compiled(name)(initialised(name), alone))
        np.testing.assert_allclose(z[row, :tokens], z_alone[0], atol=1e-5)
        np.testing.assert_allclose(y[row, :length], y_alone[0, :length], atol=1e-5)
        np.testing.assert_array_equal(z[row, tokens:], 0.0)
        np.testing.assert_array_equal(y[row, length:], 0.0)


def test_an_empty_sequence_has_finite_gradients():
    mask = jnp.arange(LONGEST) < jnp.asarray((0, 17, LONGEST))[:, None]
    found = gradient("SEANet time_group_norm", mask)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize("name", ["SEANet", "Mimi"])
def test_a_causal_codec_does_not_see_the_future(name):
    """A change behind a token changes no earlier token, and none of the samples before it."""
    model, (z, y) = TABLE[name], outputs(name)
    assert model.is_causal
    z_changed, y_changed = compiled(name)(initialised(name), X.at[:, 18:].add(1.0))
    np.testing.assert_allclose(z_changed[:, :3], z[:, :3], atol=1e-6)
    np.testing.assert_allclose(y_changed[:, :18], y[:, :18], atol=1e-6)
    assert np.abs(z_changed - z)[:, 3].max() > 1e-3


def test_weight_norm_starts_as_the_kernel_and_scales_it():
    params = TABLE["SEANet"].init(jax.random.key(0), X, DIM)["encoder"]["front"]["in"]
    norms = jnp.sqrt(jnp.sum(params["kernel"] ** 2, (0, 1)))
    np.testing.assert_allclose(params["scale"], norms, rtol=1e-6)


def test_normalize_removes_the_loudness_of_each_recording():
    model = SEANet(**SMALL, middle="none", normalize=True)
    params = jit(lambda: model.init(jax.random.key(0), X, DIM))()
    there_and_back = jit(lambda x: model.decode(params, model.encode(params, x, DIM), CHANNELS))
    np.testing.assert_allclose(there_and_back(X), there_and_back(0.1 * X), atol=1e-6)
    expected = np.sqrt(np.mean(np.mean(X, axis=2) ** 2, axis=1)) + 1e-8
    np.testing.assert_allclose(loudness(X), expected, rtol=1e-5)
    assert 0.0 < LOUDNESS < 1.0 and not model.is_causal


def test_what_no_codec_can_be_is_refused():
    for make, message in (
        (lambda: SEANet(strides=()), "strides of 1 or more"),
        (lambda: SEANet(causal=False, trim_right=0.5), "trim_right = 1 unless causal=True"),
        (lambda: SEANet(heads=5, middle="attention"), "heads to divide the widths 512 and 512"),
        (lambda: DAC(decoder_channels=100), "multiple of 16, as each stride halves it"),
        (lambda: SEANet(channels=5), "compress to divide the widths 5 and 5"),
        (lambda: DAC(channels=4, strides=(2,), decoder_channels=8).last_layer, "ends in tanh"),
        (lambda: Mimi().encoder_stages(500), "a multiple of 16, got 500"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
