"""Codebook usage: the fraction of used codes, and the perplexity exp(H) of their histogram."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Bool, Float, Int, Named

COUNTABLE = 2**24
"""Largest codebook size for which a histogram is kept, as it must fit in memory."""

DEAD = 0.1
"""A code is dead if its frequency is below this multiple of the mean frequency of codes."""


class CodeUse(NamedTuple):
    """Histograms of codes, one per codebook."""

    counts: Float[Array, "q k"]

    @classmethod
    def of(cls, codes: Int[Array, "b *grid q"], size: int, valid: Bool[Array, " b"]) -> "CodeUse":
        """Counts the codes of valid examples, except -1 (no code).

        `size` is the size of the largest codebook; `valid` is False for examples that are padding.
        """
        rows = codes.reshape(codes.shape[0], -1, codes.shape[-1])
        real = (valid[:, None, None] & (rows >= 0)).astype(jnp.float32)

        def count(column: Int[Array, " n"], weight: Float[Array, " n"]) -> Float[Array, " k"]:
            return jax.ops.segment_sum(weight, column, size)

        columns = jnp.maximum(rows, 0).reshape(-1, codes.shape[-1]).T
        return cls(jax.vmap(count)(columns, real.reshape(-1, codes.shape[-1]).T))

    def compute(self, name: str) -> dict[str, float]:
        """Returns three metrics.

        Returns:
            Means over the codebooks.

            - `name_usage`: fraction of the codes that were used, in [0, 1].
            - `name_perplexity`: exp(H) of the histogram, in [1, k].
            - `name_dead`: fraction of the codes with less than a tenth of the uniform frequency, in
              [0, 1].
        """
        counts = np.asarray(self.counts, np.float64)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
        return {
            f"{name}_usage": float(np.mean(counts > 0)),
            f"{name}_perplexity": float(np.mean(np.exp(entropy))),
            f"{name}_dead": float(np.mean(share < DEAD / counts.shape[1])),
        }


def codebook_health(
    codes: Int[Array, "b *grid q"],
    sizes: tuple[int, ...],
    mask: Bool[Array, "b *grid"],
    use: Sequence[Float[Array, "*g k"]] = (),
) -> Named[Float[Array, ""]]:
    """Returns metrics of the use of codebooks in one batch, as means over the codebooks.

    Args:
        codes: ids of codes; -1 (no code) is not counted.
        sizes: sizes of the codebooks.
        mask: False at positions that are padding.
        use: moving averages of the codes' counts (see `Quantizer.use`); () if there are none.

    Returns:
        Scalars, or {} if a codebook has more than `COUNTABLE` codes:

        - codebook_usage: number of distinct codes in the batch, divided by the largest possible
          number, the smaller of the codebook's size and the number of positions.
        - codebook_perplexity: exp(H) of the histogram.
        - dead_codes: with `use`, fraction of the codes whose moving average is less than a tenth of
          the mean over the codes; without it, 1 minus the number of codes with at least a tenth of
          the uniform frequency in the batch, divided by the same largest possible number.
    """
    if max(sizes) > COUNTABLE:
        return Named()
    real = jnp.where(mask[..., None], codes, -1)
    counts = CodeUse.of(real, max(sizes), jnp.ones(len(codes), bool)).counts
    total = jnp.maximum(jnp.sum(counts, axis=1), 1.0)
    size = jnp.asarray(sizes, jnp.float32)
    reachable = jnp.minimum(size, total)
    share = counts / total[:, None]
    entropy = -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1.0)), axis=1)
    alive = jnp.sum(share >= jnp.maximum(DEAD / size, 1e-20)[:, None], axis=1) / reachable
    dead = jnp.mean(1.0 - alive)
    if use:
        shares = [jnp.mean(k < DEAD * jnp.mean(k, axis=-1, keepdims=True)) for k in use]
        dead = jnp.mean(jnp.stack(shares))
    return Named(
        codebook_usage=jnp.mean(jnp.sum(counts > 0, axis=1) / reachable),
        codebook_perplexity=jnp.mean(jnp.exp(entropy)),
        dead_codes=dead,
    )


class BitRate(NamedTuple):
    """The bits per second of the codes of sounds: as stored, and after ideal entropy coding.

    Attributes:
        counts: how often each code occurs, by codebook.
        stored: total number of bits of all codes, with log2 K bits for each code of a codebook of
            size K.
        seconds: duration of all sounds.
    """

    counts: Float[Array, "q k"]
    stored: Float[Array, ""]
    seconds: Float[Array, ""]

    @classmethod
    def of(
        cls,
        codes: Int[Array, "b l q"],
        sizes: tuple[int, ...],
        valid: Bool[Array, " b"],
        tokens: Int[Array, ""],
        seconds: float,
    ) -> "BitRate":
        """Counts the codes of valid examples, except -1 (no code).

        Args:
            codes: ids of codes.
            sizes: sizes of the codebooks.
            valid: False where an example is padding.
            tokens: number of real positions of all valid examples.
            seconds: duration of a position.
        """
        counts = CodeUse.of(codes, max(sizes), valid).counts
        bits = jnp.log2(jnp.asarray(sizes, jnp.float32))
        return cls(counts, jnp.sum(jnp.sum(counts, axis=1) * bits), tokens * seconds)

    def compute(self, name: str) -> dict[str, float]:
        """Returns two rates, or nothing without sounds.

        Returns:
            Rates in kbit/s.

            - `name`: the rate of codes of log2 K bits each.
            - `name_entropy`: the rate of an ideal entropy coder that knows the histogram of each
              codebook, but no context; coders that use the context may need less.
        """
        if not self.seconds:
            return {}
        counts = np.asarray(self.counts, np.float64)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        bits = -np.sum(counts * np.log2(np.where(share > 0, share, 1.0)))
        scale = 1e-3 / float(self.seconds)
        return {name: float(self.stored) * scale, f"{name}_entropy": float(bits) * scale}
