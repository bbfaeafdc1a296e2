"""FSQ: finite scalar quantization, which rounds each dimension to one of a few levels.

    z_q = round(bound(z)) / (L // 2),        code = sum_i digit_i prod_{j < i} L_j.

There is no learned codebook, and no auxiliary loss. Mentzer et al., "Finite Scalar Quantization:
VQ-VAE Made Simple", arXiv:2309.15505. Levels of table 1: 2^8 (8, 6, 5), 2^10 (8, 5, 5, 5),
2^12 (7, 5, 5, 5, 5), 2^14 (8, 8, 8, 6, 5), 2^16 (8, 8, 8, 5, 5, 5).
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.quantizers.base import (
    Codes,
    Mask,
    Quantized,
    Quantizer,
    Vectors,
    require_size,
    zero_without_code,
)
from vqdit.quantizers.gradients import with_gradient_of
from vqdit.typing import Array, Int, Key, Named, Params, Stats

MARGIN = 1e-3
"""eps in the function that bounds z."""


class FSQ(Quantizer):
    """Finite scalar quantization.

    Attributes:
        levels: number of values of each dimension, at least 2; 5 or more are recommended.
        bound: function that bounds z before rounding. "tan", as published, is (L - 1)(1 - eps) / 2
            tanh(z + tan(offset / half)). "atanh", which most public checkpoints use, has 1 + eps
            instead of 1 - eps and atanh instead of tan, so that z = 0 is exactly level 0.
            "symmetric" spaces the levels evenly on [-1, 1], for even and odd L (Parker et al.,
            "Scaling Transformers for Low-Bitrate High-Quality Speech Coding", arXiv:2411.19842).
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    bound: Literal["tan", "atanh", "symmetric"] = "tan"

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"FSQ needs at least two levels per dimension, got {self.levels}")
        require_size("FSQ", math.prod(self.levels), f"levels={self.levels}")

    @property
    def dim(self) -> int:
        return len(self.levels)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    @property
    def residual_scale(self) -> tuple[float, ...]:
        return tuple(1.0 / (level - 1) for level in self.levels)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        del key, z, mask
        return {}, {}

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
        del params, stats, key, step, mask
        bounded = self._bounded(self.check(z))
        digits = self._digits(bounded)
        z_q = with_gradient_of(self._values(digits), bounded / self._half)
        return Quantized(z_q, self._codes(digits), Named())

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        del params, stats
        return self._codes(self._digits(self._bounded(self.check(z))))

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        del params, stats
        digits = jnp.maximum(codes, 0) // self._basis % np.asarray(self.levels, np.int32)
        return zero_without_code(self._values(digits), codes[..., 0] >= 0)

    def _digits(self, bounded: Vectors) -> Int[Array, "*b d"]:
        # Rounded in float32, then integers: bfloat16 has only 507 values between 0 and 999.
        digits = jnp.round(jax.lax.stop_gradient(bounded)).astype(jnp.int32) + self._zero
        return jnp.clip(digits, 0, np.asarray(self.levels, np.int32) - 1)

    def _codes(self, digits: Int[Array, "*b d"]) -> Codes:
        return jnp.sum(digits * self._basis, axis=-1, dtype=jnp.int32)[..., None]

    def _bounded(self, z: Vectors) -> Vectors:
        """Returns z bounded so that rounding and adding `_zero` gives 0 to L - 1."""
        level = np.asarray(self.levels, np.float64)
        if self.bound == "symmetric":  # digits, from 0
            return jnp.asarray((level - 1.0) / 2.0, jnp.float32) * (jnp.tanh(z) + 1.0)
        offset = np.where(level % 2 == 0, 0.5, 0.0)
        if self.bound == "tan":
            half = (level - 1.0) * (1.0 - MARGIN) / 2.0
            shift = np.tan(offset / half)
        else:
            half = (level - 1.0) * (1.0 + MARGIN) / 2.0
            shift = np.arctanh(offset / half)
        half, shift, offset = (np.asarray(x, np.float32) for x in (half, shift, offset))
        return jnp.tanh(z + shift) * jnp.asarray(half) - offset

    @property
    def _zero(self) -> np.ndarray:
        """The digit of the bounded value 0."""
        if self.bound == "symmetric":
            return np.zeros(self.dim, np.int32)
        return np.asarray(self.levels, np.int32) // 2

    @property
    def _half(self) -> np.ndarray:
        """Ratio of bounded values to z_q."""
        level = np.asarray(self.levels, np.float32)
        return (level - 1.0) / 2.0 if self.bound == "symmetric" else level // 2

    @property
    def _basis(self) -> np.ndarray:
        """Place value of each digit in the code; 1 for the first dimension."""
        return np.cumprod((1, *self.levels[:-1])).astype(np.int32)

    def _values(self, digits: Int[Array, "*b d"]) -> Vectors:
        centre = self._half if self.bound == "symmetric" else self._zero.astype(np.float32)
        return (digits.astype(jnp.float32) - centre) / self._half
