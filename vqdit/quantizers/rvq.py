"""RVQ: residual quantization. Each level quantizes the residual of the previous levels.

    r_0 = z,     q_i = Q_i(r_i),     r_{i+1} = r_i - sg(q_i),     z_q = sum_i q_i.

Zeghidour et al., "SoundStream", arXiv:2107.03312, algorithm 1. If levels are dropped at random in
training, every prefix of the codes can be decoded (section III-C there; the number is drawn per
example, as in Kumar et al., "Improved RVQGAN", arXiv:2306.06546).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.quantizers.base import Codes, Mask, Quantized, Quantizer, Vectors
from vqdit.quantizers.vq import VQ
from vqdit.quantizers.wrapper import Wrapper
from vqdit.random import stream
from vqdit.typing import Array, Bool, Float, Int, Key, Params, Stats


class RVQ(Wrapper):
    """A stack of quantizers, each for the residual of the previous one.

    Attributes:
        quantizer: quantizer of every level.
        depth: number of levels.
        shared: whether all levels share one codebook.
        dropout: in [0, 1], fraction of the examples that keep only the first n levels in training,
            with n uniform in 1 to depth (inclusive); the codes of dropped levels are -1.
    """

    quantizer: Quantizer = VQ()
    depth: int = 4
    shared: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"RVQ needs depth >= 1, got {self.depth}")
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"RVQ needs dropout in [0, 1], got {self.dropout}")

    @property
    def dim(self) -> int:
        return self.quantizer.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes * self.depth

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        if self.shared:
            return self.quantizer.init(key, z, mask)
        params, stats = [], []
        for level, level_key in enumerate(jax.random.split(key, self.depth)):
            grown = None if z is None else self._grown(z, level)
            of_level = self.quantizer.init(level_key, grown, mask)
            params.append(of_level[0])
            stats.append(of_level[1])
            if z is not None:
                z = z - self._quantize(level, *of_level, z).z_q
        return tuple(params), tuple(stats)

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
        residual, z_q, codes, losses = self.check(z), jnp.zeros(z.shape, jnp.float32), [], []
        kept = self._kept(None if key is None else stream(key, "dropout"), z.shape[:-1])
        for level in range(self.depth):
            learned = self._of(params, level), self._of(stats, level)
            level_key = None if key is None else stream(key, f"level_{level}")
            is_kept = kept > level
            call = functools.partial(
                self._quantize,
                level,
                *learned,
                key=level_key,
                step=step,
                mask=is_kept if mask is None else mask & is_kept,
            )
            found = call(residual)
            # The losses of every level have gradients with respect to z. z_q has a gradient with
            # respect to z only through the first level; the other levels contribute values and
            # gradients of their own parameters. The compiler merges the two calls, whose values are
            # equal.
            passed = found if level == 0 else call(jax.lax.stop_gradient(residual))
            z_q = z_q + jnp.where(is_kept[..., None], passed.z_q, 0.0)
            codes.append(jnp.where(is_kept[..., None], found.codes, -1))
            losses.append(found.losses)
            residual = residual - jax.lax.stop_gradient(found.z_q)
        mean = jax.tree.map(lambda *values: sum(values) / self.depth, *losses)
        return Quantized(z_q, jnp.concatenate(codes, axis=-1), mean)

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        residual, codes = self.check(z), []
        for level in range(self.depth):
            learned = self._of(params, level), self._of(stats, level)
            codes.append(self.quantizer.encode(*learned, self._grown(residual, level)))
            residual = residual - self.quantizer.lookup(*learned, codes[-1]) * self._scale(level)
        return jnp.concatenate(codes, axis=-1)

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
        mask = jnp.ones(z.shape[:-1], bool) if mask is None else mask
        residual, per_level = self.check(z), jnp.split(codes, self.depth, axis=-1)
        if self.shared:
            return self._update_shared(params, stats, residual, per_level, key, step, mask)
        new_params, new_stats = [], []
        for level, own in enumerate(per_level):
            old = params[level], stats[level]
            there = mask & (own >= 0).all(axis=-1)
            level_key = jax.random.fold_in(key, level)
            grown = self._grown(residual, level)
            new = self.quantizer.update(*old, grown, own, level_key, step, mask=there)
            new_params.append(new[0])
            new_stats.append(new[1])
            residual = residual - self._done(level, old, new, residual, own, step)
        return tuple(new_params), tuple(new_stats)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        z_q = jnp.zeros((*codes.shape[:-1], self.dim), jnp.float32)
        for level, own in enumerate(jnp.split(codes, self.depth, axis=-1)):
            q = self.quantizer.lookup(self._of(params, level), self._of(stats, level), own)
            z_q = z_q + q * self._scale(level)
        return z_q

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        levels = (stats,) if self.shared else stats
        return tuple(count for level in levels for count in self.quantizer.use(level))

    def _quantize(
        self,
        level: int,
        params: Params,
        stats: Stats,
        residual: Vectors,
        **options: Any,
    ) -> Quantized:
        """Quantizes the residual of a level; z_q has the scale of the residual."""
        found = self.quantizer.quantize(params, stats, self._grown(residual, level), **options)
        return found._replace(z_q=found.z_q * self._scale(level))

    def _update_shared(
        self,
        params: Params,
        stats: Stats,
        residual: Vectors,
        per_level: list[Codes],
        key: Key[Array, ""],
        step: Int[Array, ""],
        mask: Bool[Array, "*b"],
    ) -> tuple[Params, Stats]:
        """Updates a shared codebook once, with the vectors of all levels.

        Separate updates would change the codes of later levels.
        """
        residuals, there = [], []
        for level, own in enumerate(per_level):
            is_known = level == 0 or step + 1 != self.start  # k-means uses only z
            residuals.append(self._grown(residual, level))
            there.append(mask & (own >= 0).all(axis=-1) & is_known)
            residual = residual - self.quantizer.lookup(params, stats, own) * self._scale(level)
        stacked = jnp.stack(residuals), jnp.stack(per_level)
        return self.quantizer.update(params, stats, *stacked, key, step, mask=jnp.stack(there))

    def _done(
        self,
        level: int,
        old: tuple[Params, Stats],
        new: tuple[Params, Stats],
        residual: Vectors,
        codes: Codes,
        step: Int[Array, ""],
    ) -> Vectors:
        """Returns z_q of a level; quantizes again if k-means has just made a new codebook."""

        def by_codes() -> Array:
            return self.quantizer.lookup(*old, codes) * self._scale(level)

        if self.start == 0:
            return by_codes()

        def by_new_codebook() -> Array:
            return self._quantize(level, *new, residual).z_q

        return jax.lax.cond(step + 1 == self.start, by_new_codebook, by_codes)

    def _kept(self, key: Key[Array, ""] | None, shape: tuple[int, ...]) -> Int[Array, "*b"]:
        """Draws the number of kept levels for each example (first axis)."""
        if key is None or self.dropout == 0.0:
            return jnp.full(shape, self.depth, jnp.int32)
        k_which, k_count = jax.random.split(key)
        examples = shape[:1] + (1,) * (len(shape) - 1)
        is_short = jax.random.bernoulli(k_which, self.dropout, examples)
        count = jax.random.randint(k_count, examples, 1, self.depth + 1, dtype=jnp.int32)
        return jnp.broadcast_to(jnp.where(is_short, count, self.depth), shape)

    def _of(self, levels: Any, level: int) -> Any:
        return levels if self.shared else levels[level]

    def _scale(self, level: int) -> Float[np.ndarray, " d"]:
        return np.asarray(self.quantizer.residual_scale, np.float32) ** level

    def _grown(self, residual: Vectors, level: int) -> Vectors:
        return residual / self._scale(level)
