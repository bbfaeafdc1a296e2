"""The contract of a quantizer, and what several of them share.

A quantizer replaces a vector z by the entry q = e_k of a codebook e nearest to it,

    k = argmin_j dist(z, e_j),        z_q = q   with   dz_q/dz = 1   (straight-through).

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named, Params, Stats

CHUNK = 1024
"""Codes compared at a time by `nearest`: memory is tokens x CHUNK, whatever the codebook."""


class Quantized(NamedTuple):
    """What `Quantizer.quantize` returns.

    Attributes:
        z_q: the code vectors; the value is exactly the codebook's, the gradient reaches z.
        codes: int32 ids, one per codebook; -1 means "no code", whose look-up is 0.
        losses: unweighted scalars by name, such as "commitment".
    """

    z_q: Float[Array, "*b d"]
    codes: Int[Array, "*b q"]
    losses: Named[Float[Array, ""]]


class Quantizer(Component):
    """Turns vectors into codes and back. All methods are pure.

    `params` receive gradients, `stats` do not: what a quantizer learns by itself (an averaged
    codebook, counts) lives in `stats` and changes in `update`, once a step.
    """

    dim: int

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each of the q codebooks."""
        raise TypeError(f"{type(self).__name__} must define codebook_sizes")

    def init(
        self, key: Key[Array, ""], z: Float[Array, "*b d"] | None = None
    ) -> tuple[Params, Stats]:
        """Returns fresh params and stats; `z` (a batch of vectors) allows a start from data."""
        raise TypeError(f"{type(self).__name__} must define init")

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Float[Array, "*b d"],
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ) -> Quantized:
        """Quantizes z.

        Args:
            params: parameters of `init`.
            stats: statistics of `init` or of the last `update`.
            z: vectors.
            key: for stochastic quantizers in training; None means deterministic.
            step: training step, for schedules; None means fully trained.
            mask: True where a vector is real; padding takes no part in losses.
        """
        raise TypeError(f"{type(self).__name__} must define quantize")

    def update(
        self,
        params: Params,
        stats: Stats,
        z: Float[Array, "*b d"],
        codes: Int[Array, "*b q"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        *,
        mask: Bool[Array, "*b"] | None = None,
    ) -> tuple[Params, Stats]:
        """Returns params and stats after a step that quantized z to codes. Default: unchanged."""
        del z, codes, key, step, mask
        return params, stats

    def lookup(
        self, params: Params, stats: Stats, codes: Int[Array, "*b q"]
    ) -> Float[Array, "*b d"]:
        """Returns the vectors of codes; a code of -1 gives the zero vector."""
        raise TypeError(f"{type(self).__name__} must define lookup")


def straight_through(z: Float[Array, "*b d"], q: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Returns q with the gradient of z.

    Written so that the value *is* q to the last bit: z - sg(z) is exactly 0, while the usual
    z + sg(q - z) rounds.
    """
    return jax.lax.stop_gradient(q) + (z - jax.lax.stop_gradient(z))


def nearest(z: Float[Array, "n d"], codebook: Float[Array, "k d"]) -> Int[Array, " n"]:
    """Returns the id of the codebook row nearest to each z in Euclidean distance.

    |z - e|^2 = |z|^2 - 2 z.e + |e|^2, whose first term does not matter. Products are float32 at
    the highest precision: a bfloat16 matmul picks another code for up to 22 % of the tokens.
    Ties go to the lowest id. Chunks of the codebook are scanned, so memory is O(n).
    """
    z, codebook = z.astype(jnp.float32), codebook.astype(jnp.float32)

    def compare(rows: Float[Array, "c d"]) -> Float[Array, "n c"]:
        product = jnp.einsum("n d, c d -> n c", z, rows, precision=jax.lax.Precision.HIGHEST)
        return jnp.sum(rows**2, axis=-1) - 2.0 * product

    size = codebook.shape[0]
    if size <= CHUNK:
        return jnp.argmin(compare(codebook), axis=-1).astype(jnp.int32)

    chunks = -(-size // CHUNK)
    padded = jnp.pad(codebook, ((0, chunks * CHUNK - size), (0, 0)), constant_values=jnp.nan)
    starts = jnp.arange(chunks, dtype=jnp.int32) * CHUNK

    def scan(best, chunk):
        start, rows = chunk
        distance = compare(rows)
        distance = jnp.where(jnp.isnan(rows[:, 0]), jnp.inf, distance)  # padding is never nearest
        code = jnp.argmin(distance, axis=-1)
        value = jnp.take_along_axis(distance, code[:, None], axis=-1)[:, 0]
        better = value < best[0]
        code = start + code.astype(jnp.int32)
        return (jnp.where(better, value, best[0]), jnp.where(better, code, best[1])), None

    start = (jnp.full(z.shape[0], jnp.inf), jnp.zeros(z.shape[0], jnp.int32))
    rows = padded.reshape(chunks, CHUNK, -1)
    (_, codes), _ = jax.lax.scan(scan, start, (starts, rows))
    return codes
