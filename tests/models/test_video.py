"""The causal autoencoder of clips: nothing sees a later frame, and chunks give the whole."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_contract import jit
from vqdit.models import VideoAutoencoder
from vqdit.nn.frames import CausalConv, TimeDownsample, TimeUpsample

BASE = VideoAutoencoder(channels=(4, 6), blocks=1, middle_blocks=0)
DEEP = dataclasses.replace(BASE, channels=(3, 4, 5), space_strides=(2, 1))
TABLE = {
    "factorized, group": BASE,
    "linear": dataclasses.replace(DEEP, convolutions="full", upsampling="linear", norm="layer"),
    "full, rms, zeros": dataclasses.replace(
        BASE, convolutions="full", norm="rms", padding="zeros", z_channels=3, middle_blocks=1
    ),
    "attention, other strides": dataclasses.replace(
        DEEP,
        groups=1,
        padding="zeros",
        attention=(2,),
        time_strides=(1, 2),
        decoder_time_strides=(2, 1),
    ),
}
CAUSAL = [name for name, model in TABLE.items() if model.is_causal]
FRAMES, DIM, CHANNELS = 13, 3, 2
"""Seven frames of tokens, or four."""
CLIP = np.random.default_rng(0).normal(size=(1, FRAMES, 4, 4, CHANNELS)).astype(np.float32)
SMALL = jnp.asarray(CLIP[:, :5])


@functools.cache
def params(name):
    """Random ones, as residual blocks begin as nothing."""
    shapes = jax.eval_shape(lambda: TABLE[name].init(jax.random.key(0), SMALL, DIM))
    draw = np.random.default_rng(1).normal
    return jax.tree.map(lambda leaf: jnp.asarray(draw(0.1, 0.3, leaf.shape), jnp.float32), shapes)


def moved(x):
    """x, and a copy of it for every frame, in which that frame is another one."""
    copies = np.repeat(x, x.shape[1] + 1, axis=0)
    for frame in range(x.shape[1]):
        copies[frame + 1, frame] += 1.0
    return copies


def jitted(name, side):
    """Returns the encoder or the decoder as a compiled function."""
    model, trained = TABLE[name], params(name)
    run, width = (model.encode, DIM) if side == "encode" else (model.decode, CHANNELS)
    return jit(lambda x: run(trained, x, width))


@functools.cache
def results(name):
    """The tokens of `moved` frames, and the frames of `moved` tokens."""
    z = np.asarray(jitted(name, "encode")(moved(CLIP)))
    return z, np.asarray(jitted(name, "decode")(moved(z[:1])))


@pytest.mark.parametrize("name", list(TABLE))
def test_changing_a_frame_changes_no_token_before_it(name):
    step = TABLE[name].time_stride
    z, _ = results(name)
    for frame, changed in enumerate(z[1:]):
        first = -(-frame // step)
        np.testing.assert_array_equal(changed[:first], z[0, :first])
        assert np.abs(changed[first] - z[0, first]).max() > 1e-4


@pytest.mark.parametrize("name", CAUSAL)
def test_changing_tokens_changes_no_pixel_before_them(name):
    step = TABLE[name].time_stride
    _, y = results(name)
    for token, changed in enumerate(y[1:]):
        first = (token - 1) * step + 1 if token else 0
        np.testing.assert_array_equal(changed[:first], y[0, :first])
        assert np.abs(changed[first] - y[0, first]).max() > 1e-4


def test_linear_upsampling_sees_the_next_token_alone():
    model, name = TABLE["linear"], "linear"
    assert not model.is_causal
    _, y = results(name)
    for token, changed in enumerate(y[1:]):
        first = max((token - 2) * model.time_stride + 1, 0)
        np.testing.assert_array_equal(changed[:first], y[0, :first])


def test_the_first_frame_is_coded_alone():
    name = "factorized, group"
    z, y = results(name)
    image = jitted(name, "encode")(CLIP[:, :1])
    np.testing.assert_allclose(image, z[:1, :1], atol=1e-5)
    np.testing.assert_allclose(jitted(name, "decode")(image), y[:1, :1], atol=1e-5)


def in_chunks(step, x, first, size, width):
    """Returns all results of a chunked side."""
    cuts = [0, *range(first, x.shape[1], size), x.shape[1]]
    cache, found = None, []
    for start, end in zip(cuts, cuts[1:], strict=False):
        part = x[:, start:end]
        y, cache = step(part, width, cache, end == x.shape[1])
        found.append(y)
    assert cache is None
    return np.concatenate(found, axis=1), found


@functools.cache
def chunk_steps(name):
    model, trained = TABLE[name], params(name)
    return [
        jit(functools.partial(side, trained), static_argnums=(1, 3))
        for side in (model.encode_chunk, model.decode_chunk)
    ]


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        ("factorized, group", 1),
        ("linear", 2),
        ("full, rms, zeros", 5),
    ],
)
def test_chunks_give_the_whole(name, chunk):
    model, (z, y) = TABLE[name], (part[:1] for part in results(name))
    encode_chunk, decode_chunk = chunk_steps(name)
    step = model.time_stride
    first = 1 + (chunk - 1) * step
    found, parts = in_chunks(encode_chunk, CLIP, first, chunk * step, DIM)
    np.testing.assert_allclose(found, z, atol=1e-5)
    assert [part.shape[1] for part in parts[:-1]] == [chunk] * (len(parts) - 1)
    found, parts = in_chunks(decode_chunk, z, chunk, chunk, CHANNELS)
    np.testing.assert_allclose(found, y, atol=1e-5)
    if model.is_causal:
        assert parts[0].shape[1] == min(first, FRAMES)


def test_the_cache_does_not_grow():
    encode_chunk, _ = chunk_steps("factorized, group")
    cache, sizes = None, []
    for start in range(0, 4, 2):
        x = CLIP[:, :1] if start == 0 else CLIP[:, start : start + 2]
        _, cache = encode_chunk(x, DIM, cache, False)
        sizes.append([leaf.shape for leaf in jax.tree.leaves(cache)])
    assert sizes[0] == sizes[1] and max(shape[1] for shape in sizes[0]) == 2


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        ((16, 8, 8), "13x8x8 or 17x8x8"),
        ((0, 8, 8), "1x8x8 or 5x8x8"),
        ((17, 9, 8), "17x8x8 or 17x12x8"),
        ((4, 8, 2), "1x8x4 or 5x8x4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_nearest(size, nearest):
    model = VideoAutoencoder()
    with pytest.raises(ValueError, match=rf"1 \+ n x 4, .* multiples of 4; nearest.* {nearest}$"):
        model.grid(size)


def test_grids_and_sizes():
    model = VideoAutoencoder(channels=(4, 8, 8, 8), time_strides=(1, 2, 2), patch=2)
    assert model.grid((17, 32, 48)) == (5, 2, 3)
    assert model.size((5, 2, 3)) == (17, 32, 48)
    assert model.grid((1, 16, 16)) == (1, 1, 1)
    still = VideoAutoencoder(channels=(4, 8), time_strides=(1,))
    assert still.grid((4, 8, 8)) == (4, 4, 4) and still.is_causal
    with pytest.raises(ValueError, match="frames, rows and columns, got the size 8x8"):
        model.grid((8, 8))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_strides": (2,)}, "time_strides to be empty or 2 factors of 1 or 2"),
        ({"space_strides": (2, 3)}, "space_strides to be empty or 2 factors of 1 or 2"),
        ({"decoder_time_strides": (2, 1)}, "decoder_time_strides to have the product 4"),
        ({"attention": (3,)}, "attention to list levels from 0 to 2"),
        ({"groups": 5}, "multiples of groups=5"),
        ({"middle_blocks": -1}, "middle_blocks >= 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        VideoAutoencoder(**fields)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["repeat", "zeros"])
def test_the_causal_convolution_is_one_over_three_axes(stride, padding):
    conv = CausalConv(5, stride=stride, padding=padding)
    found, variables = conv.init_with_output(jax.random.key(0), SMALL)
    mode = "edge" if padding == "repeat" else "constant"
    x = np.pad(SMALL, ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0)), mode)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    layout = ("NDHWC", "DHWIO", "NDHWC")
    kernel = variables["params"]["kernel"]
    expected = jax.lax.conv_general_dilated(
        x, kernel, (stride, 1, 1), "VALID", dimension_numbers=layout
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_time_is_halved_and_doubled_in_closed_form():
    """The kernels begin as copies of the newest frame."""
    x, share = SMALL, 1.0 / (1.0 + np.exp(-2.0))
    halved, _ = TimeDownsample().init_with_output(jax.random.key(0), x)
    seen = [x[:, [0, 0, 0]], x[:, [0, 1, 2]], x[:, [2, 3, 4]]]
    expected = [share * part.mean(1) + (1 - share) * part[:, 2] for part in seen]
    np.testing.assert_allclose(halved, np.stack(expected, axis=1), atol=1e-6)
    layer = TimeUpsample()
    variables = {"params": layer.init(jax.random.key(0), x)["params"]}
    doubled = layer.apply(variables, x)
    np.testing.assert_allclose(doubled, x[:, [0, 1, 1, 2, 2, 3, 3, 4, 4]], atol=1e-6)
    doubled = TimeUpsample("linear").apply(variables, x)
    places = [0, 1, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75, 4]
    low = np.floor(places).astype(int)
    far = (np.asarray(places) - low)[:, None, None, None]
    expected = (1 - far) * x[:, low] + far * x[:, np.minimum(low + 1, 4)]
    np.testing.assert_allclose(doubled, expected, atol=1e-6)


def test_a_still_clip_stays_still_when_training_begins():
    still = np.repeat(CLIP[:, :1], 5, axis=1)
    fresh = jit(lambda key: BASE.init(key, jnp.asarray(still), DIM))(jax.random.key(0))
    z = jit(lambda x: BASE.encode(fresh, x, DIM))(still)
    np.testing.assert_allclose(z, np.repeat(z[:, :1], 3, axis=1), atol=1e-5)
