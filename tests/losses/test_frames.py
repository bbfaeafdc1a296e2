"""Losses of clips: those of images on every frame, and the change from frame to frame."""

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses import LPIPS, Perceptual, PerFrame, TemporalDifference

X, Y = np.random.default_rng(0).normal(size=(2, 2, 5, 4, 6, 3)).astype(np.float32)


class Brightest(Perceptual):
    def distance(self, params, x, y):
        return jnp.max(jnp.abs(x - y), axis=(1, 2, 3)) * params

    def load(self):
        return jnp.float32(2.0)


def test_a_loss_of_images_is_averaged_over_the_frames():
    loss = PerFrame(loss=Brightest())
    assert loss.name == "brightest"
    expected = 2.0 * np.abs(X - Y).max(axis=(2, 3, 4)).mean(axis=1)
    np.testing.assert_allclose(loss.distance(loss.load(), jnp.asarray(X), jnp.asarray(Y)), expected)


def test_a_constant_error_does_not_flicker():
    loss, x = TemporalDifference(), jnp.asarray(X)
    np.testing.assert_allclose(loss.distance({}, x, x + x[:, :1]), 0.0, atol=1e-6)
    change = np.abs(np.diff(Y, axis=1) - np.diff(X, axis=1)).mean(axis=(1, 2, 3, 4))
    np.testing.assert_allclose(loss.distance({}, x, jnp.asarray(Y)), change, rtol=1e-5)


@pytest.mark.parametrize(
    ("loss", "size", "message"),
    [
        (TemporalDifference(), (32, 32), "needs clips of frames, rows and columns, got size 32x32"),
        (TemporalDifference(), (1, 32, 32), "needs clips of 2 frames or more, got 1"),
        (PerFrame(loss=LPIPS()), (5, 8, 32), "LPIPS needs .* got size 8x32"),
        (PerFrame(loss=LPIPS()), (32, 32), "PerFrame needs clips"),
    ],
)
def test_other_data_are_refused(loss, size, message):
    with pytest.raises(ValueError, match=message):
        loss.check(size, 3)
    loss.check((17, 32, 32), 3)
