"""Similarity of a reconstruction to its original."""

import dm_pix
import jax.numpy as jnp

from vqdit.masked_mean import mean_of_each
from vqdit.typing import Array, Bool, Float

SSIM_WINDOW = 11
"""Width in pixels of SSIM's Gaussian window (sigma 1.5); images must not be smaller."""


def psnr(
    x: Float[Array, "b *size c"],
    y: Float[Array, "b *size c"],
    mask: Bool[Array, "b n"] | None = None,
) -> Float[Array, " b"]:
    """Returns the peak signal-to-noise ratio of each example in dB, for any number of axes.

    Data are in [-1, 1]; values outside are clipped, as in an 8-bit image. For sequences of
    different lengths, `mask` is False at padding.
    """

    def unit(data: Float[Array, "b *size c"]) -> Float[Array, "b 1 n c"]:
        # dm_pix averages over the last three axes.
        return jnp.clip(data * 0.5 + 0.5, 0.0, 1.0).reshape(len(data), 1, -1, data.shape[-1])

    if mask is None:
        return jnp.asarray(dm_pix.psnr(unit(x), unit(y)))
    error = ((unit(x) - unit(y)) ** 2).reshape(x.shape)
    return -10.0 * jnp.log10(mean_of_each(error, mask))


def ssim(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Returns the mean structural similarity of each image, in [-1, 1]; 1 for equal images.

    Data are in [-1, 1]; values outside are clipped. Constants and window (without padding) are
    those of Wang et al., "Image Quality Assessment", doi:10.1109/TIP.2003.819861.
    """
    unit = (jnp.clip(data * 0.5 + 0.5, 0.0, 1.0) for data in (x, y))
    return jnp.asarray(dm_pix.ssim(*unit, filter_size=SSIM_WINDOW))
