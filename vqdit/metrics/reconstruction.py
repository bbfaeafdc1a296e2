"""Scores of a reconstruction against its original."""

import dm_pix
import jax.numpy as jnp

from vqdit.typing import Array, Float

SSIM_WINDOW = 11
"""Pixels of the Gaussian window (sigma 1.5) of the structural similarity: no image is smaller."""


def psnr(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the peak signal-to-noise ratio of each example in dB, on any number of axes.

    Both are in [-1, 1]; values outside are clipped, as in the 8-bit image that a person sees.
    """

    def unit(data: Float[Array, "b *size c"]) -> Float[Array, "b 1 n c"]:
        # Of an image: dm_pix takes the mean over the last three axes, whatever they are.
        return jnp.clip(data * 0.5 + 0.5, 0.0, 1.0).reshape(len(data), 1, -1, data.shape[-1])

    return jnp.asarray(dm_pix.psnr(unit(x), unit(y)))


def ssim(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns the mean structural similarity of each image, in [-1, 1]; equal ones have 1.

    Both are in [-1, 1]; values outside are clipped. Constants, window and the absence of padding
    are those of Wang et al., "Image Quality Assessment", doi:10.1109/TIP.2003.819861.
    """
    unit = (jnp.clip(data * 0.5 + 0.5, 0.0, 1.0) for data in (x, y))
    return jnp.asarray(dm_pix.ssim(*unit, filter_size=SSIM_WINDOW))
