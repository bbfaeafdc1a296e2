"""VQ: one codebook, learned by exponential moving averages.

With n_k the number of vectors assigned to code k in this step and s_k their sum,

    N_k <- g N_k + (1 - g) n_k        m_k <- g m_k + (1 - g) s_k        e_k = m_k / N~_k,

where N~ is N after Laplace smoothing. van den Oord et al., arXiv:1711.00937, appendix A.1.
Start by k-means and revival of unused codes as in Zeghidour et al., "SoundStream",
arXiv:2107.03312; cosine distance as in Yu et al., "ViT-VQGAN", arXiv:2110.04627.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.quantizers.base import Quantized, Quantizer, nearest, straight_through
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params

EPSILON = 1e-5
"""Laplace smoothing of the counts, and the guard of norms."""


class VQStats(NamedTuple):
    """The averaged codebook. `codebook` is what look-ups use; the others are its averages."""

    codebook: Float[Array, "k d"]
    count: Float[Array, " k"]
    total: Float[Array, "k d"]


class VQ(Quantizer):
    """One codebook with nearest-neighbour look-up, learned by moving averages.

    Attributes:
        codebook_size: number of codes K.
        dim: width d of a code vector.
        distance: "euclidean", or "cosine", under which z and the codes have unit length.
        decay: g of the moving averages, in [0, 1).
        revive_below: a code whose average count falls below this share of uniform use (1 / K)
            is replaced by a random vector of the batch; 0 never revives.
        start: first step that quantizes. Before it z passes unchanged, so that encoder and
            decoder find each other; then k-means places the codes on the encoder's vectors.
        kmeans_iterations: Lloyd iterations of that start (also of `init`, if it is given data).
    """

    codebook_size: int = 1024
    dim: int = 64
    distance: Literal["euclidean", "cosine"] = "euclidean"
    decay: float = 0.99
    revive_below: float = 0.1
    start: int = 0
    kmeans_iterations: int = 10

    def __post_init__(self) -> None:
        if self.codebook_size < 2:
            raise ValueError(f"VQ needs codebook_size >= 2, got {self.codebook_size}")
        if self.dim < 1:
            raise ValueError(f"VQ needs dim >= 1, got {self.dim}")
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"VQ needs a decay in [0, 1), got {self.decay}; 0.99 is usual")
        if not 0.0 <= self.revive_below < 1.0:
            raise ValueError(
                f"VQ needs revive_below in [0, 1), a share of uniform use, got {self.revive_below}"
            )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,)

    def init(
        self, key: Key[Array, ""], z: Float[Array, "*b d"] | None = None
    ) -> tuple[Params, VQStats]:
        if z is not None:
            return {}, self._kmeans(key, self._normalize(_rows(z)), None)
        codebook = self._normalize(jax.random.normal(key, (self.codebook_size, self.dim)))
        return {}, VQStats(codebook, jnp.ones(self.codebook_size), codebook)

    def quantize(
        self,
        params: Params,
        stats: VQStats,
        z: Float[Array, "*b d"],
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ) -> Quantized:
        del params, key
        z = self._normalize(z.astype(jnp.float32))
        codes = nearest(_rows(jax.lax.stop_gradient(z)), stats.codebook).reshape(z.shape[:-1])
        q = stats.codebook[codes]
        # The loss is taken before the straight-through step, whose z_q is q in value.
        commitment = jnp.mean((z - jax.lax.stop_gradient(q)) ** 2, axis=-1)
        valid = jnp.ones_like(commitment) if mask is None else mask.astype(jnp.float32)
        loss = jnp.sum(commitment * valid) / jnp.maximum(jnp.sum(valid), 1.0)
        z_q = straight_through(z, q)
        if step is not None and self.start > 0:
            started = step >= self.start
            z_q, loss = jnp.where(started, z_q, z), jnp.where(started, loss, 0.0)
        return Quantized(z_q, codes[..., None], Named(commitment=loss))

    def update(
        self,
        params: Params,
        stats: VQStats,
        z: Float[Array, "*b d"],
        codes: Int[Array, "*b q"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        *,
        mask: Bool[Array, "*b"] | None = None,
    ) -> tuple[Params, VQStats]:
        rows = self._normalize(_rows(jax.lax.stop_gradient(z)))
        weight = None if mask is None else mask.reshape(-1).astype(jnp.float32)
        if self.start == 0:
            return params, self._average(key, stats, rows, codes.reshape(-1), weight)
        phase = jnp.clip(step - self.start + 2, 0, 2)  # before, at and after step start - 1
        stats = jax.lax.switch(
            phase,
            [
                lambda: stats,
                lambda: self._kmeans(key, rows, weight),
                lambda: self._average(key, stats, rows, codes.reshape(-1), weight),
            ],
        )
        return params, stats

    def lookup(
        self, params: Params, stats: VQStats, codes: Int[Array, "*b q"]
    ) -> Float[Array, "*b d"]:
        del params
        code = codes[..., 0]
        return jnp.where(code[..., None] < 0, 0.0, stats.codebook[jnp.maximum(code, 0)])

    def _normalize(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        if self.distance == "euclidean":
            return z
        return z * jax.lax.rsqrt(jnp.maximum(jnp.sum(z**2, axis=-1, keepdims=True), EPSILON**2))

    def _average(
        self,
        key: Key[Array, ""],
        stats: VQStats,
        rows: Float[Array, "n d"],
        codes: Int[Array, " n"],
        weight: Float[Array, " n"] | None,
    ) -> VQStats:
        """One step of the moving averages, then revival."""
        count, total = _assigned(rows, codes, weight, self.codebook_size)
        count = self.decay * stats.count + (1.0 - self.decay) * count
        total = self.decay * stats.total + (1.0 - self.decay) * total
        everything = jnp.sum(count)
        smoothed = (count + EPSILON) / (everything + self.codebook_size * EPSILON) * everything
        codebook = self._normalize(total / smoothed[:, None])
        if self.revive_below > 0.0:
            uniform = everything / self.codebook_size
            is_dead = count < self.revive_below * uniform
            fresh = rows[_draw(key, rows.shape[0], self.codebook_size, weight)]
            codebook = jnp.where(is_dead[:, None], fresh, codebook)
            # Reset the averages too: else the next write takes the old code back. A full share
            # gives the newcomer time to find its vectors.
            count = jnp.where(is_dead, uniform, count)
            total = jnp.where(is_dead[:, None], fresh * uniform, total)
        return VQStats(codebook, count, total)

    def _kmeans(
        self, key: Key[Array, ""], rows: Float[Array, "n d"], weight: Float[Array, " n"] | None
    ) -> VQStats:
        """Lloyd's algorithm from random vectors of the batch; averages start at its result."""
        rows = jax.lax.stop_gradient(rows.astype(jnp.float32))
        centroids = rows[_draw(key, rows.shape[0], self.codebook_size, weight)]

        def iterate(centroids: Float[Array, "k d"], _: None) -> tuple[Float[Array, "k d"], None]:
            count, total = _assigned(rows, nearest(rows, centroids), weight, self.codebook_size)
            mean = self._normalize(total / jnp.maximum(count, 1.0)[:, None])
            return jnp.where(count[:, None] > 0, mean, centroids), None

        centroids, _ = jax.lax.scan(iterate, centroids, length=self.kmeans_iterations)
        count, _ = _assigned(rows, nearest(rows, centroids), weight, self.codebook_size)
        return VQStats(centroids, count, centroids * count[:, None])


def _rows(z: Float[Array, "*b d"]) -> Float[Array, "n d"]:
    return z.reshape(-1, z.shape[-1])


def _assigned(
    rows: Float[Array, "n d"],
    codes: Int[Array, " n"],
    weight: Float[Array, " n"] | None,
    size: int,
) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
    """Returns how many vectors each code got, and their sum; global under jit by construction."""
    weight = jnp.ones(rows.shape[0]) if weight is None else weight
    count = jax.ops.segment_sum(weight, codes, size)
    return count, jax.ops.segment_sum(rows * weight[:, None], codes, size)


def _draw(
    key: Key[Array, ""], n: int, count: int, weight: Float[Array, " n"] | None
) -> Int[Array, " k"]:
    """Draws row numbers among the real rows; none twice before each was drawn once."""
    order = jax.random.uniform(key, (n,))
    if weight is not None:
        order = jnp.where(weight > 0, order, jnp.inf)  # padding comes last
    real = n if weight is None else jnp.maximum(jnp.sum(weight > 0), 1)
    return jnp.argsort(order)[jnp.arange(count) % real]
