"""How well a codebook is used: share of codes seen, and perplexity exp(H) of their histogram."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.typing import Array, Bool, Float, Int


class CodeUse(NamedTuple):
    """A histogram of codes per codebook."""

    counts: Float[Array, "q k"]

    @classmethod
    def of(cls, codes: Int[Array, "b *grid q"], size: int, valid: Bool[Array, " b"]) -> "CodeUse":
        """Counts the codes of valid examples; -1 (no code) does not count.

        Args:
            codes: ids.
            size: number of codes of the largest codebook.
            valid: True where an example is real.
        """
        rows = codes.reshape(codes.shape[0], -1, codes.shape[-1])
        real = (valid[:, None, None] & (rows >= 0)).astype(jnp.float32)

        def count(column: Int[Array, " n"], weight: Float[Array, " n"]) -> Float[Array, " k"]:
            return jax.ops.segment_sum(weight, column, size)

        columns = jnp.maximum(rows, 0).reshape(-1, codes.shape[-1]).T
        return cls(jax.vmap(count)(columns, real.reshape(-1, codes.shape[-1]).T))

    def compute(self, name: str) -> dict[str, float]:
        """Returns usage in [0, 1] and perplexity in [1, k], each a mean over the codebooks."""
        counts = np.asarray(self.counts, np.float64)
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
        return {
            f"{name}_usage": float(np.mean(counts > 0)),
            f"{name}_perplexity": float(np.mean(np.exp(entropy))),
        }
