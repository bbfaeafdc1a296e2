"""What a DiT sees of one modality: the codes of its tokenizer, or their standardised embeddings.

A discrete process takes the codes, a continuous one

    x_0 = (z_q - mean) / std,

with the mean and standard deviation of each channel over the training data, measured with the very
weights that are frozen.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.models.dit import Tokens
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.tasks.base import Frozen, Trained
from vqdit.tasks.tokenizer import TokenizerTask
from vqdit.typing import Array, Component, Float


class TokenSpace(Component):
    """A frozen tokenizer, as the process over its tokens needs it.

    Attributes:
        tokenizer: of the modality.
        process: over the codes (discrete) or over z_q (continuous).
    """

    tokenizer: TokenizerTask
    process: Process

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one example's tokens: [l, q] of codes or [l, d] of latents."""
        quantizer = self.tokenizer.quantizer
        codebooks = len(quantizer.codebook_sizes)
        channels = codebooks if self.process.is_discrete else quantizer.dim
        return math.prod(self.tokenizer.grid), channels

    @property
    def tokens(self) -> Tokens:
        """How the modality enters the network."""
        grid, (_, channels) = self.tokenizer.grid, self.shape
        if not self.process.is_discrete:
            return Tokens(grid=grid, width=channels, output=self.process.width((channels,)))
        sizes = self.tokenizer.quantizer.codebook_sizes
        output = self.process.width(sizes)
        return Tokens(grid=grid, codes=sizes[0], codebooks=channels, output=output)

    def freeze(self, trained: Trained, batches: Iterable[Batch], name: str) -> Frozen:
        """Returns the tokenizer's arrays, and the moments of its latents if they are needed.

        Args:
            trained: the tokenizer.
            batches: one pass over the training data.
            name: of the modality in them.
        """
        frozen = {"params": trained.params, "stats": trained.stats}
        if not self.process.is_discrete:
            frozen |= self._moments(frozen, batches, name)
        return frozen

    def frozen_like(self) -> Frozen:
        """Returns arrays of the structure that `freeze` returns: for `jax.eval_shape`."""
        params, stats = self.tokenizer.blank()
        frozen = {"params": params, "stats": stats}
        if not self.process.is_discrete:
            _, dim = self.shape
            frozen |= {"mean": jnp.zeros(dim), "std": jnp.ones(dim)}
        return frozen

    def encode(self, frozen: Frozen, raw: Array) -> X:
        """Returns x_0 of stored examples: codes [b, l, q] or latents [b, l, d]."""
        params, stats = frozen["params"], frozen["stats"]
        codes = self.tokenizer.encode(params, stats, raw)
        if self.process.is_discrete:
            return codes.reshape(codes.shape[0], *self.shape)
        return (self._embedded(frozen, codes) - frozen["mean"]) / frozen["std"]

    def decode(self, frozen: Frozen, x_0: X) -> Array:
        """Returns stored examples from tokens; each latent is snapped to its nearest code."""
        params, stats = frozen["params"], frozen["stats"]
        x_0 = x_0.reshape(x_0.shape[0], *self.tokenizer.grid, x_0.shape[-1])
        if self.process.is_discrete:
            return self.tokenizer.decode(params, stats, x_0)
        z = x_0 * frozen["std"] + frozen["mean"]
        return self.tokenizer.decode_latents(params, stats, z)

    def _embedded(self, frozen: Frozen, codes: Array) -> Float[Array, "b l d"]:
        z_q = self.tokenizer.lookup(frozen["params"], frozen["stats"], codes)
        return z_q.reshape(z_q.shape[0], *self.shape)

    def _moments(
        self, frozen: Frozen, batches: Iterable[Batch], name: str
    ) -> dict[str, Float[Array, " d"]]:
        """Measures mean and standard deviation of each channel of z_q over the training data."""

        @jax.jit
        def sums(batch: Batch) -> tuple[Array, Array, Array]:
            codes = self.tokenizer.encode(frozen["params"], frozen["stats"], batch.data[name])
            z = self._embedded(frozen, codes)
            weight = (batch.valid & batch.present[name]).astype(jnp.float32)[:, None, None]
            count = jnp.sum(weight) * z.shape[1]
            return count, jnp.sum(z * weight, (0, 1)), jnp.sum(z**2 * weight, (0, 1))

        count, first, second = 0.0, 0.0, 0.0
        for batch in batches:
            n, z, square = (np.asarray(part, np.float64) for part in sums(batch))
            count, first, second = count + n, first + z, second + square
        mean = first / count
        std = np.sqrt(np.maximum(second / count - mean**2, 1e-12))
        return {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}
