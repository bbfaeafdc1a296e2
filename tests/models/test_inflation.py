"""An autoencoder of clips that starts from one of images does the same to single frames."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.test_contract import jit, residuals_awake
from vqdit.models import VQGAN, ConvAutoencoder, VideoAutoencoder
from vqdit.models.inflation import can_inflate, inflated

VIDEO = {"channels": (4, 8), "blocks": 1}
TABLE = {
    "factorized": (
        ConvAutoencoder(channels=(4, 8), blocks=1, patch=2),
        VideoAutoencoder(**VIDEO, patch=2),
    ),
    "full": (
        VQGAN(channels=(4, 8), blocks=1, attention=(-1,), z_channels=3, groups=2),
        VideoAutoencoder(
            **VIDEO, convolutions="full", attention=(1,), z_channels=3, groups=2,
            middle_attention=True, padding="zeros", upsampling="linear",
        ),
    ),
}  # fmt: skip
IMAGE = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 3)), jnp.float32)
STILL = jnp.repeat(IMAGE[:, None], 5, axis=1)


def results(model, params, x):
    z = model.encode(params, x, 5)
    return z, model.decode(params, z, 3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "full")) for name in TABLE]
)
def test_a_frame_has_the_tokens_and_pixels_of_the_image(name):
    image, video = TABLE[name]
    assert can_inflate(video, image) and not can_inflate(image, video)

    @jit
    def run(key):
        of_image, of_video = jax.random.split(key)
        found = residuals_awake(image.init(of_image, IMAGE, 5))
        params = inflated(video, image, video.init(of_video, STILL, 5), found)
        return (
            results(image, found, IMAGE),
            results(video, params, STILL[:, :1]),
            results(video, params, STILL),
        )

    wanted, alone, still = run(jax.random.key(0))
    for expected, one, many in zip(wanted, alone, still, strict=True):
        assert expected.std() > 0.1
        np.testing.assert_allclose(one, expected[:, None], atol=1e-5)
        np.testing.assert_allclose(many, np.repeat(expected[:, None], many.shape[1], 1), atol=1e-5)
    assert still[0].shape[1] == 3


def zeros(model, x):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x, 5))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": (4, 6)}, r"needs channels=\(4, 8\), got \(4, 6\)"),
        ({"norm": "rms"}, "needs norm='group', got 'rms'"),
        ({"space_strides": (1,)}, r"needs space_strides=\(2,\), got \(1,\)"),
        ({"attention": (1,)}, "coder/level_1_attention_0 of the latter is missing"),
        ({"z_channels": 3}, "is missing in the former, or has another size there"),
    ],
)
def test_other_networks_are_refused(fields, message):
    image, video = TABLE["factorized"]
    video = dataclasses.replace(video, **fields)
    found, fresh = zeros(image, IMAGE), zeros(video, STILL)
    with pytest.raises(ValueError, match=message):
        inflated(video, image, fresh, found)
