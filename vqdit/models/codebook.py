"""A Flax module that wraps a quantizer, for use in your own Flax networks."""

import flax.linen as nn

from vqdit.quantizers.base import Quantized, Quantizer
from vqdit.typing import Array, Bool, Float, Int, Key, Stats


class Codebook(nn.Module):
    """Holds the parameters of a quantizer; the quantizer's statistics are passed as an argument.

    >>> import jax, jax.numpy as jnp
    >>> from vqdit.quantizers import VQ
    >>> vq = VQ(codebook_size=8, dim=4)
    >>> z, key = jnp.ones((2, 3, 4)), jax.random.key(0)
    >>> _, stats = vq.init(key)
    >>> variables = Codebook(vq).init(key, z, stats)
    >>> Codebook(vq).apply(variables, z, stats).codes.shape
    (2, 3, 1)
    """

    quantizer: Quantizer

    @nn.compact
    def __call__(
        self,
        z: Float[Array, "*b d"],
        stats: Stats,
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ) -> Quantized:
        """Quantizes z as `Quantizer.quantize` does; `Quantizer.update` updates the statistics."""
        params = self.param("quantizer", lambda k: self.quantizer.init(k)[0])
        return self.quantizer.quantize(params, stats, z, key=key, step=step, mask=mask)
