"""VQ: the vector quantizer, z_q = e_k with k = argmin_j |z - e_j|.

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937. The codebook
is learned by moving averages (`codebook_learning.py`) or by gradient, from the codebook loss
|sg(z) - e|^2.
Cosine distance and low-dimensional codes: Yu et al., "ViT-VQGAN", arXiv:2110.04627.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.quantizers import codebook_learning, projection
from vqdit.quantizers.base import (
    Codes,
    Mask,
    Quantized,
    Quantizer,
    Vectors,
    require_codebook,
    require_weights,
    rows,
    rows_of,
    squared_error,
    zero_without_code,
)
from vqdit.quantizers.gradients import Estimator, estimate, unit
from vqdit.quantizers.nearest import nearest
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class VQStats(NamedTuple):
    """A codebook learned by moving averages, and the averages of counts and vector sums."""

    codebook: Float[Array, "k c"]
    count: Float[Array, " k"]
    total: Float[Array, "k c"]


class VQUse(NamedTuple):
    """The moving average of the codes' counts, for a codebook that is learned by gradient."""

    count: Float[Array, " k"]


class VQ(Quantizer):
    """One codebook with nearest-neighbour search.

    Attributes:
        codebook_size: number of codes K.
        dim: width d of z.
        code_dim: width of the codes. z is projected to this width before the search, and back
            afterwards. With few dimensions, more codes are used (8 is usual). None means no
            projection.
        bias: whether the two projections have a bias, as in DAC.
        heads: number of parts of z that are quantized separately with the same codebook.
        distance: "euclidean"; "cosine", which normalizes z and the codes to unit length; "angle",
            which finds the code with the largest cosine, but keeps the lengths of z and the codes
            (Kumar et al., "Improved RVQGAN", arXiv:2306.06546).
        learning: how the codebook is learned: "ema", or "gradient", which adds the loss "codebook".
        estimator: gradient estimator: "straight_through", "rotation", or "diveq", which trains the
            codebook by gradient without the loss "codebook".
        decay: g of the moving averages, in [0, 1).
        revive_below: a code whose average frequency falls below this multiple of the uniform
            frequency (1 / K) is replaced by a random vector of the batch; 0 disables this.
        start: first step that quantizes. Before it, z_q is z, so encoder and decoder are trained
            first. Then k-means initializes the codebook from the first batch that is not all
            padding.
        kmeans_iterations: number of Lloyd iterations of this k-means, and of `init` with data.
        shards: number of devices that share the codebook; see `nearest`.
        weights: weights of the losses "commitment" and "codebook"; both must be given. "codebook"
            is used only with learning="gradient"; with estimator="diveq", both are ignored.
    """

    codebook_size: int = 1024
    dim: int = 64
    code_dim: int | None = None
    bias: bool = False
    heads: int = 1
    distance: Literal["euclidean", "cosine", "angle"] = "euclidean"
    learning: Literal["ema", "gradient"] = "ema"
    estimator: Estimator = "straight_through"
    decay: float = 0.99
    revive_below: float = 0.1
    start: int = 0
    kmeans_iterations: int = 10
    shards: int = 1
    weights: Named[float] = Named(commitment=0.25, codebook=1.0)

    def __post_init__(self) -> None:
        require_codebook("VQ", self.codebook_size, self.dim, self.shards)
        for field in ("heads",) + ("code_dim",) * (self.code_dim is not None):
            if getattr(self, field) < 1:
                raise ValueError(f"VQ needs {field} >= 1, got {getattr(self, field)}")
        if self.start < 0 or self.kmeans_iterations < 0:
            raise ValueError(
                f"VQ needs start and kmeans_iterations >= 0, got start={self.start} and "
                f"kmeans_iterations={self.kmeans_iterations}"
            )
        if self.code_dim is None and self.dim % self.heads:
            raise ValueError(
                f"VQ splits dim={self.dim} into heads={self.heads}, which does not divide it; "
                "change one of them, or set code_dim"
            )
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"VQ needs a decay in [0, 1), got {self.decay}; 0.99 is usual")
        if not 0.0 <= self.revive_below < 1.0:
            raise ValueError(
                "VQ needs revive_below in [0, 1), a multiple of the uniform frequency, got "
                f"{self.revive_below}"
            )
        if self.bias and self.code_dim is None:
            raise ValueError(
                "VQ with bias=True needs projections, which it has only with code_dim; set "
                "code_dim, or bias=False"
            )
        require_weights("VQ", self.weights, ("commitment", "codebook"))
        if self.estimator == "diveq" and self.learning == "ema":
            raise ValueError(
                "estimator='diveq' trains the codebook by gradient; set learning='gradient'"
            )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook_size,) * self.heads

    @property
    def _losses(self) -> tuple[str, ...]:
        if self.estimator == "diveq":
            return ()
        return ("commitment",) if self.learning == "ema" else ("commitment", "codebook")

    @property
    def width(self) -> int:
        """Width of a code."""
        return self.code_dim or self.dim // self.heads

    def started(self) -> "VQ":
        return dataclasses.replace(self, start=0)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        k_codes, k_in, k_out = jax.random.split(key, 3)
        params: dict[str, Array] = {}
        if self.code_dim is not None:
            inner = self.heads * self.code_dim
            params = projection.init(k_in, k_out, self.dim, inner, self.bias)
        if z is None:
            shape = self.codebook_size, self.width
            codebook = self._normalize(jax.random.normal(k_codes, shape, jnp.float32))
            count = jnp.full(self.codebook_size, 0.0 if self.start else 1.0, jnp.float32)
        else:
            vectors = rows(self._project(params, self.check(z)))
            weight = jnp.ones(len(vectors), jnp.float32)
            if mask is not None:
                weight = jnp.repeat(mask.reshape(-1), self.heads).astype(jnp.float32)
            codebook, count = self._kmeans(k_codes, vectors, weight)
        return self._with_codebook(params, codebook, count)

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
        h = self._project(params, self.check(z))  # *b heads c
        codebook = self._codebook(params, stats)
        constant = jax.lax.stop_gradient
        codes = self._nearest(h, codebook)
        q = codebook[codes]
        mask = None if mask is None else jnp.broadcast_to(mask[..., None], codes.shape)
        losses = {
            "commitment": squared_error(h, constant(q), mask),
            "codebook": squared_error(constant(h), q, mask),
        }
        losses = {name: losses[name] for name in self._losses}
        z_q = estimate(self.estimator, key, h, q)
        if step is not None and self.start > 0:
            started = self._has_started(stats, step)
            z_q = jnp.where(started, z_q, h)
            losses = {name: jnp.where(started, value, 0.0) for name, value in losses.items()}
        return Quantized(self._restore(params, z_q), codes, Named(losses))

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        return self._nearest(self._project(params, self.check(z)), self._codebook(params, stats))

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
        h = self._project(params, jax.lax.stop_gradient(self.check(z)))
        mask = jnp.ones(z.shape[:-1], bool) if mask is None else mask
        weight = jnp.broadcast_to(mask[..., None], codes.shape).reshape(-1).astype(jnp.float32)
        vectors, codes = rows(h), codes.reshape(-1)
        weight = jnp.where(jnp.isfinite(vectors).all(axis=-1), weight, 0.0)
        some = jnp.any(weight > 0)  # a batch that is only padding changes nothing
        if self.start == 0:
            learned = self._learn(key, params, stats, vectors, codes, weight)
            return jax.tree.map(
                lambda new, old: jnp.where(some, new, old), learned, (params, stats)
            )
        begins = step >= self.start - 1
        phase = jnp.where(self._has_started(stats, step), 2, jnp.where(begins, 1, 0))
        return jax.lax.switch(
            jnp.where(some, phase, 0),
            [
                lambda: (params, stats),
                lambda: self._with_codebook(params, *self._kmeans(key, vectors, weight)),
                lambda: self._learn(key, params, stats, vectors, codes, weight),
            ],
        )

    def _has_started(self, stats: VQStats | VQUse, step: Int[Array, ""]) -> Bool[Array, ""]:
        """Returns whether z is quantized: from `start` on, once the codebook is initialized."""
        return (step >= self.start) & jnp.any(stats.count > 0)

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        z_q = self._restore(params, rows_of(self._codebook(params, stats), codes))
        return zero_without_code(z_q, (codes >= 0).any(axis=-1)) if self.bias else z_q

    def use(self, stats: VQStats | VQUse) -> tuple[Float[Array, "*g k"], ...]:
        return (stats.count,)

    def _nearest(self, h: Float[Array, "*b q c"], codebook: Float[Array, "k c"]) -> Codes:
        h, codebook = jax.lax.stop_gradient((h, codebook))
        if self.distance == "angle":
            h, codebook = unit(h), unit(codebook)
        return nearest(rows(h), codebook, self.shards).reshape(h.shape[:-1])

    def _codebook(self, params: Params, stats: Stats) -> Float[Array, "k c"]:
        if self.learning == "ema":
            return stats.codebook
        return self._normalize(params["codebook"])

    def _with_codebook(
        self, params: Params, codebook: Float[Array, "k c"], count: Float[Array, " k"]
    ) -> tuple[Params, Stats]:
        """Returns params and stats with the given codebook and counts."""
        if self.learning == "ema":
            return params, VQStats(codebook, count, codebook * count[:, None])
        return {**params, "codebook": codebook}, VQUse(count)

    def _project(self, params: Params, z: Vectors) -> Float[Array, "*b q c"]:
        """Returns the vectors to be quantized, one per head."""
        h = z if self.code_dim is None else projection.into(params, z)
        return self._normalize(h.reshape(*z.shape[:-1], self.heads, self.width))

    def _restore(self, params: Params, q: Float[Array, "*b q c"]) -> Vectors:
        q = q.reshape(*q.shape[:-2], self.heads * self.width)
        return q if self.code_dim is None else projection.back(params, q)

    def _normalize(self, z: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        return unit(z) if self.distance == "cosine" else z

    def _kmeans(
        self, key: Key[Array, ""], vectors: Float[Array, "n c"], weight: Float[Array, " n"]
    ) -> tuple[Float[Array, "k c"], Float[Array, " k"]]:
        vectors = jax.lax.stop_gradient(vectors)
        size, iterations = self.codebook_size, self.kmeans_iterations
        return codebook_learning.kmeans(
            key, vectors, weight, size, iterations, self._normalize, self.shards
        )

    def _learn(
        self,
        key: Key[Array, ""],
        params: Params,
        stats: Stats,
        vectors: Float[Array, "n c"],
        codes: Int[Array, " n"],
        weight: Float[Array, " n"],
    ) -> tuple[Params, Stats]:
        """Updates the averages, then replaces unused codes."""
        count, total = codebook_learning.assigned(vectors, codes, weight, self.codebook_size)
        count = codebook_learning.moving(stats.count, count, self.decay)
        if self.learning == "ema":
            total = codebook_learning.moving(stats.total, total, self.decay)
            codebook = self._normalize(codebook_learning.centroids(count, total))
        else:
            codebook = params["codebook"]
        if self.revive_below > 0.0:
            is_dead, uniform = codebook_learning.dead(count, self.revive_below), jnp.mean(count)
            fresh = codebook_learning.draw(key, vectors, self.codebook_size, weight)
            codebook = jnp.where(is_dead[:, None], fresh, codebook)
            # The averages are reset too, or the next update would restore the old code. The count
            # is set to that of uniform use, so the new code is kept until it gets vectors.
            count = jnp.where(is_dead, uniform, count)
            total = jnp.where(is_dead[:, None], fresh * uniform, total)
        if self.learning == "ema":
            return params, VQStats(codebook, count, total)
        return {**params, "codebook": codebook}, VQUse(count)
