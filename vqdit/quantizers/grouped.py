"""GroupedVQ: product quantization, with a separate quantizer for each group of channels.

Jegou et al., "Product Quantization for Nearest Neighbor Search", 2011; in tokenizers:
Yang et al., "HiFi-Codec", arXiv:2305.02765.
"""

import functools

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import Codes, Mask, Quantized, Quantizer, Vectors
from vqdit.quantizers.vq import VQ
from vqdit.quantizers.wrapper import Wrapper
from vqdit.typing import Array, Float, Int, Key, Params, Stats


class GroupedVQ(Wrapper):
    """Splits the channels into groups and quantizes each group separately.

    Attributes:
        quantizer: quantizer of each group; every group has its own parameters and statistics.
        groups: number of groups.
    """

    quantizer: Quantizer = VQ(dim=32)
    groups: int = 2

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"GroupedVQ needs groups >= 1, got {self.groups}")

    @property
    def dim(self) -> int:
        return self.groups * self.quantizer.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes * self.groups

    @property
    def residual_scale(self) -> tuple[float, ...]:
        scale = self.quantizer.residual_scale
        return scale if len(scale) == 1 else scale * self.groups

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        keys = jax.random.split(key, self.groups)
        if z is None:
            return jax.vmap(self.quantizer.init)(keys)
        init = functools.partial(self.quantizer.init, mask=mask)
        return jax.vmap(init)(keys, self._split(self.check(z)))

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
        keys = None if key is None else jax.random.split(key, self.groups)

        def one(params: Params, stats: Stats, z: Array, key: Array | None) -> Quantized:
            return self.quantizer.quantize(params, stats, z, key=key, step=step, mask=mask)

        z_q, codes, losses = jax.vmap(one)(params, stats, self._split(self.check(z)), keys)
        return Quantized(_join(z_q), _join(codes), jax.tree.map(jnp.mean, losses))

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        return _join(jax.vmap(self.quantizer.encode)(params, stats, self._split(self.check(z))))

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
        def one(params: Params, stats: Stats, z: Array, codes: Array, key: Array) -> Params:
            return self.quantizer.update(params, stats, z, codes, key, step, mask=mask)

        keys = jax.random.split(key, self.groups)
        return jax.vmap(one)(params, stats, self._split(z), self._split(codes), keys)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        return _join(jax.vmap(self.quantizer.lookup)(params, stats, self._split(codes)))

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        return self.quantizer.use(stats)

    def _split(self, x: Array) -> Array:
        """Returns the groups of the last axis, as a new first axis."""
        return jnp.stack(jnp.split(x, self.groups, axis=-1))


def _join(x: Array) -> Array:
    return jnp.concatenate(list(x), axis=-1)
