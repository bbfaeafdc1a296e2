"""The base class of modalities whose data are pixels: images and video."""

import jax.numpy as jnp

from vqdit.modalities.base import Modality
from vqdit.typing import Array, Float, UInt8


class Pixels(Modality):
    """A modality of pixels: uint8 in stored form, float32 in [-1, 1] for networks."""

    def standardize(self, raw: UInt8[Array, "b *size c"]) -> Float[Array, "b *size c"]:
        return (2.0 * raw.astype(jnp.float32) - 255.0) / 255.0  # stays <= 1, jitted or not

    def restore(self, x: Float[Array, "b *size c"]) -> UInt8[Array, "b *size c"]:
        return jnp.clip(jnp.round((x + 1.0) * 127.5), 0, 255).astype(jnp.uint8)

    @property
    def reads_files(self) -> bool:
        return True
