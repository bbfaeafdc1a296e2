"""Similarity of a reconstruction to its original."""

import dm_pix
import jax.numpy as jnp

from vqdit.typing import Array, Float

SSIM_WINDOW = 11
"""Width in pixels of SSIM's Gaussian window (sigma 1.5); images must not be smaller."""


def psnr(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the peak signal-to-noise ratio of each example in dB, for any number of axes.

    Data are in [-1, 1]; values outside are clipped, as in an 8-bit image.
    """

    def unit(data: Float[Array, "b *size c"]) -> Float[Array, "b 1 n c"]:
        # dm_pix averages over the last three axes.
        return jnp.clip(data * 0.5 + 0.5, 0.0, 1.0).reshape(len(data), 1, -1, data.shape[-1])

    return jnp.asarray(dm_pix.psnr(unit(x), unit(y)))


def ssim(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns the mean structural similarity of each image, in [-1, 1]; 1 for equal images.

    Data are in [-1, 1]; values outside are clipped. Constants and window (without padding) are
    those of Wang et al., "Image Quality Assessment", doi:10.1109/TIP.2003.819861.
    """
    unit = (jnp.clip(data * 0.5 + 0.5, 0.0, 1.0) for data in (x, y))
    return jnp.asarray(dm_pix.ssim(*unit, filter_size=SSIM_WINDOW))
