"""Projected: a quantizer of another width, between two learned matrices.

With a residual quantizer, all its levels share these matrices, as in Mimi (Defossez et al.,
"Moshi", arXiv:2410.00037, section 3.3); `VQ.code_dim` projects in every level instead, as in DAC.
"""

import jax

from vqdit.quantizers import projection
from vqdit.quantizers.base import Codes, Mask, Quantized, Quantizer, Vectors
from vqdit.quantizers.rvq import RVQ
from vqdit.quantizers.wrapper import Wrapper
from vqdit.typing import Array, Float, Int, Key, Params, Stats


class Projected(Wrapper):
    """Multiplies z by W_in, quantizes the result, and multiplies the code vectors by W_out.

    Attributes:
        quantizer: the quantizer between the matrices.
        dim: width of z.
    """

    quantizer: Quantizer = RVQ()
    dim: int = 512

    def __post_init__(self) -> None:
        self.require("dim >= 1", self.dim >= 1)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        k_in, k_out, k_quantizer = jax.random.split(key, 3)
        params = projection.init(k_in, k_out, self.dim, self.quantizer.dim)
        h = None if z is None else projection.into(params, self.check(z))
        learned, stats = self.quantizer.init(k_quantizer, h, mask)
        return {**params, "quantizer": learned}, stats

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Vectors,
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Mask = None,
    ) -> Quantized:
        h = projection.into(params, self.check(z))
        found = self.quantizer.quantize(
            params["quantizer"], stats, h, key=key, step=step, mask=mask
        )
        return found._replace(z_q=projection.back(params, found.z_q))

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        h = projection.into(params, self.check(z))
        return self.quantizer.encode(params["quantizer"], stats, h)

    def update(
        self,
        params: Params,
        stats: Stats,
        z: Vectors,
        codes: Codes,
        key: Key[Array, ""],
        step: Int[Array, ""],
        *,
        mask: Mask = None,
    ) -> tuple[Params, Stats]:
        h = projection.into(params, jax.lax.stop_gradient(self.check(z)))
        inner = params["quantizer"]
        learned, stats = self.quantizer.update(inner, stats, h, codes, key, step, mask=mask)
        return {**params, "quantizer": learned}, stats

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        return projection.back(params, self.quantizer.lookup(params["quantizer"], stats, codes))

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        return self.quantizer.use(stats)
