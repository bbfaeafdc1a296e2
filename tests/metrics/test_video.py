"""Metrics of clips: those of pictures, frame by frame, and how much more they change in time."""

import jax.numpy as jnp
import numpy as np

from vqdit.metrics import flicker, frame_psnr, frame_ssim, psnr, ssim


def clips(seed=0, shape=(2, 3, 12, 12, 1)):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1.0, 1.0, shape), jnp.float32)


def test_frames_are_measured_as_pictures_and_averaged():
    x, y = clips(0), clips(1)
    for metric, picture in ((frame_psnr, psnr), (frame_ssim, ssim)):
        each = [picture(x[:, t], y[:, t]) for t in range(3)]
        np.testing.assert_allclose(metric(x, y), np.mean(each, axis=0), rtol=1e-5)


def test_equal_frames_do_not_hide_the_others():
    x = clips(0)
    y = x.at[:, 0].add(jnp.where(x[:, 0] < 0, 0.02, 0.0))
    expected = (np.asarray(psnr(x[:, 0], y[:, 0])) + 200.0) / 3.0
    np.testing.assert_allclose(frame_psnr(x, y), expected, rtol=1e-5)


def test_flicker_is_the_change_beyond_that_of_the_original():
    still = jnp.zeros((2, 4, 5, 5, 1))
    blinking = still.at[1, ::2].set(0.2)  # by 0.2 of 2, which are 25.5 levels, in every frame
    np.testing.assert_allclose(flicker(still, blinking), [0.0, 25.5], atol=1e-4)
    np.testing.assert_allclose(flicker(blinking, still), [0.0, -25.5], atol=1e-4)
    np.testing.assert_allclose(flicker(blinking, 1.5 + blinking), [0.0, -25.5], atol=1e-4)
    np.testing.assert_allclose(flicker(blinking[:, :1], still[:, :1]), [0.0, 0.0])
