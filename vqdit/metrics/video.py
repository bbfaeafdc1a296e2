"""Similarity of reconstructed clips to their originals: frame by frame, and over time."""

from collections.abc import Callable

import jax.numpy as jnp

from vqdit.metrics.reconstruction import psnr, ssim
from vqdit.typing import Array, Float

Clips = Float[Array, "b f h w c"]
HIGHEST = 100.0
"""Largest PSNR of a frame in dB: that of equal frames, such as black ones, would be infinite."""


def frame_psnr(x: Clips, y: Clips) -> Float[Array, " b"]:
    """Returns the PSNR of each clip in dB: the mean over its frames, each 100 dB at most."""
    return _frame_by_frame(lambda x, y: jnp.minimum(psnr(x, y), HIGHEST), x, y)


def frame_ssim(x: Clips, y: Clips) -> Float[Array, " b"]:
    """Returns the SSIM of each clip: the mean over its frames."""
    return _frame_by_frame(ssim, x, y)


def flicker(x: Clips, y: Clips) -> Float[Array, " b"]:
    """Returns how much more the reconstruction y of each clip changes from frame to frame than x.

    It is the mean of |y_t+1 - y_t| minus the mean of |x_t+1 - x_t|, in levels of 8 bits (0 to 255):
    0 for the original, above 0 if y flickers, below 0 if y blurs motion. Clips of one frame have 0.
    Data are in [-1, 1]; values outside are clipped.
    """
    if x.shape[1] < 2:
        return jnp.zeros(len(x))
    return 127.5 * (_change(y) - _change(x))


def _change(x: Clips) -> Float[Array, " b"]:
    return jnp.mean(jnp.abs(jnp.diff(jnp.clip(x, -1.0, 1.0), axis=1)), axis=(1, 2, 3, 4))


def _frame_by_frame(metric: Callable[..., Array], x: Clips, y: Clips) -> Float[Array, " b"]:
    frames = (data.reshape(-1, *data.shape[2:]) for data in (x, y))
    return metric(*frames).reshape(x.shape[:2]).mean(axis=1)
