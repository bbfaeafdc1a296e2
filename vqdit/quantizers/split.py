"""SplitVQ: two quantizers of the same vectors, whose results are added.

The first quantizer encodes what is said, and the second how it sounds: only the first is trained to
predict the features of a speech model. Unlike the levels of a residual quantizer, they do not
depend on each other. Defossez et al., "Moshi" (Mimi), arXiv:2410.00037, section 3.3.3.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import Codes, Mask, Quantized, Quantizer, Vectors
from vqdit.quantizers.projected import Projected
from vqdit.quantizers.rvq import RVQ
from vqdit.quantizers.vq import VQ
from vqdit.typing import Array, Float, Int, Key, Named, Params, Stats

CODE = VQ(codebook_size=2048, dim=256)


class SplitVQ(Quantizer):
    """z_q = semantic(z) + acoustic(z); the codes of `semantic` come first.

    Attributes:
        semantic: quantizer with the first codes.
        acoustic: quantizer with the other codes; it must have the same dim, weights and start.
    """

    semantic: Quantizer = Projected(quantizer=RVQ(quantizer=CODE, depth=1), dim=512)
    acoustic: Quantizer = Projected(quantizer=RVQ(quantizer=CODE, depth=7), dim=512)

    def __post_init__(self) -> None:
        for field in ("dim", "weights", "start"):
            both = [getattr(part, field) for part in self._parts]
            if both[0] != both[1]:
                raise ValueError(
                    f"SplitVQ needs the same {field} in both quantizers, got {both[0]} in semantic "
                    f"and {both[1]} in acoustic"
                )

    @property
    def _parts(self) -> tuple[Quantizer, Quantizer]:
        return self.semantic, self.acoustic

    @property
    def dim(self) -> int:
        return self.semantic.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.semantic.codebook_sizes + self.acoustic.codebook_sizes

    @property
    def weights(self) -> Named[float]:
        return self.semantic.weights

    @property
    def start(self) -> int:
        return self.semantic.start

    def started(self) -> "SplitVQ":
        semantic, acoustic = (part.started() for part in self._parts)
        return dataclasses.replace(self, semantic=semantic, acoustic=acoustic)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        keys = jax.random.split(key)
        found = [part.init(key, z, mask) for part, key in zip(self._parts, keys, strict=True)]
        return _transposed(found)

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
        keys = (None, None) if key is None else jax.random.split(key)
        found = [
            part.quantize(p, s, z, key=k, step=step, mask=mask)
            for part, p, s, k in zip(self._parts, params, stats, keys, strict=True)
        ]
        codes = jnp.concatenate([part.codes for part in found], axis=-1)
        losses = jax.tree.map(jnp.add, *(part.losses for part in found))
        z_q = found[0].z_q + found[1].z_q
        if step is not None and self.start > 0:  # before `start`, both return z unchanged
            z_q = jnp.where(step < self.start, z_q / 2.0, z_q)
        return Quantized(z_q, codes, losses)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        parts = zip(self._parts, params, stats, strict=True)
        return jnp.concatenate([part.encode(p, s, z) for part, p, s in parts], axis=-1)

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
        parts = zip(
            self._parts, params, stats, self._split(codes), jax.random.split(key), strict=True
        )
        found = [part.update(p, s, z, own, k, step, mask=mask) for part, p, s, own, k in parts]
        return _transposed(found)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        parts = zip(self._parts, params, stats, self._split(codes), strict=True)
        first, second = (part.lookup(p, s, own) for part, p, s, own in parts)
        return first + second

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        return self.semantic.use(stats[0]) + self.acoustic.use(stats[1])

    def _split(self, codes: Codes) -> tuple[Array, Array]:
        count = len(self.semantic.codebook_sizes)
        return codes[..., :count], codes[..., count:]


def _transposed(found: list[Any]) -> tuple[Params, Stats]:
    params, stats = zip(*found, strict=True)
    return params, stats
