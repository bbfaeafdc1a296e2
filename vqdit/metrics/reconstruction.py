"""Scores of a reconstruction against its original."""

import dm_pix
import jax.numpy as jnp

from vqdit.typing import Array, Float


def psnr(x: Float[Array, "b *size c"], y: Float[Array, "b *size c"]) -> Float[Array, " b"]:
    """Returns the peak signal-to-noise ratio of each image in dB.

    Both are in [-1, 1]; values outside are clipped, as in the 8-bit image that a person sees.
    """

    def unit(images: Float[Array, "b *size c"]) -> Float[Array, "b *size c"]:
        return jnp.clip(images * 0.5 + 0.5, 0.0, 1.0)

    return jnp.asarray(dm_pix.psnr(unit(x), unit(y)))
