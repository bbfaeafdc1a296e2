"""What a DiT sees of one modality: the codes of its tokenizer, or its standardised latents.

A modality whose data are codes already, such as text, is its own token space (`CodeSpace`).

A discrete process takes the codes, a continuous one

    x_0 = (z - mean) / std,

where z are the embeddings z_q of the codes, or the latents of a tokenizer without any, with the
mean and standard deviation of each channel over the training data, measured with the very weights
that are frozen.

Instead of stored examples there may be their tokens, encoded once and for all: codes, or the mean
and the standard deviation of the posterior side by side.
"""

import math
from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.modalities import Modality
from vqdit.models.dit import Tokens
from vqdit.processes import Process
from vqdit.processes.base import X
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Frozen, Trained
from vqdit.typing import Array, Component, Float, Key


class TokenSpace(Component):
    """A frozen tokenizer, as the process over its tokens needs it.

    Attributes:
        tokenizer: of the modality.
        process: over the codes (discrete), or over z_q or latents (continuous).
        patch: edge of the positions that make one token; 0 takes the DiT's.
        posterior: what training sees of a normal posterior: its mean, or a sample.
    """

    tokenizer: AutoencoderTask
    process: Process
    patch: int = 0
    posterior: Literal["mean", "sample"] = "mean"

    @property
    def modality(self) -> Modality:
        """What is tokenized."""
        return self.tokenizer.modality

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions along each axis."""
        return self.tokenizer.grid

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one example's tokens: [l, q] of codes or [l, d] of latents."""
        codebooks = len(self.tokenizer.codebook_sizes)
        channels = codebooks if self.process.is_discrete else self.tokenizer.dim
        return math.prod(self.tokenizer.grid), channels

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the codebooks for a discrete process, (d,) for a continuous one."""
        tokenizer = self.tokenizer
        return tokenizer.codebook_sizes if self.process.is_discrete else (tokenizer.dim,)

    @property
    def tokens(self) -> Tokens:
        """How the modality enters the network."""
        grid, (_, channels) = self.tokenizer.grid, self.shape
        output = self.process.width(self.sizes)
        if not self.process.is_discrete:
            return Tokens(grid=grid, width=channels, patch=self.patch, output=output)
        return Tokens(
            grid=grid, codes=self.sizes[0], codebooks=channels, patch=self.patch, output=output
        )

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
        """Returns x_0 of stored examples, or of their tokens: [b, l, q] codes or [b, l, d]."""
        tokens = self._tokens(frozen, raw)
        if self.process.is_discrete:
            return tokens.reshape(tokens.shape[0], *self.shape)
        return (self._embedded(frozen, tokens) - frozen["mean"]) / frozen["std"]

    def draw(self, frozen: Frozen, raw: Array, keys: Key[Array, " b"]) -> X:
        """Returns x_0 as training sees it: a sample, if that is what it sees of the posterior."""
        if self.posterior == "mean":
            return self.encode(frozen, raw)
        z, std = self._normal(frozen, raw)
        noise = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:]))(keys)
        return (z + std * noise - frozen["mean"]) / frozen["std"]

    def decode(self, frozen: Frozen, x_0: X) -> Array:
        """Returns stored examples from tokens; each z_q is snapped to its nearest code."""
        params, stats = frozen["params"], frozen["stats"]
        x_0 = x_0.reshape(x_0.shape[0], *self.tokenizer.grid, x_0.shape[-1])
        if self.process.is_discrete:
            return self.tokenizer.decode(params, stats, x_0)
        z = x_0 * frozen["std"] + frozen["mean"]
        return self.tokenizer.decode_latents(params, stats, z)

    def vectors(self, frozen: Frozen) -> Float[Array, "q k e"] | None:
        """Returns the vector of every code; None for a continuous process."""
        if not self.process.is_discrete:
            return None
        sizes = self.tokenizer.codebook_sizes
        each = []
        for number, size in enumerate(sizes):
            codes = jnp.full((size, len(sizes)), -1).at[:, number].set(jnp.arange(size))
            each.append(self.tokenizer.lookup(frozen["params"], frozen["stats"], codes))
        return jnp.stack(each)

    def _tokens(self, frozen: Frozen, raw: Array) -> Array:
        """Returns the tokens of stored examples, or those that are there already."""
        if not self._is_encoded(raw):
            return self.tokenizer.encode(frozen["params"], frozen["stats"], raw)
        return raw.astype(jnp.int32) if self.tokenizer.codebook_sizes else jnp.split(raw, 2, -1)[0]

    def _normal(self, frozen: Frozen, raw: Array) -> tuple[Float[Array, "b l d"], ...]:
        """Returns mean and standard deviation of the posterior."""
        if self._is_encoded(raw):
            moments = jnp.split(raw, 2, axis=-1)
        else:
            moments = self.tokenizer.moments(frozen["params"], frozen["stats"], raw)
        return tuple(moment.reshape(len(raw), *self.shape) for moment in moments)

    def _is_encoded(self, raw: Array) -> bool:
        modality = self.modality
        return raw.shape[1:] != modality.shape or raw.dtype != modality.dtype

    def _embedded(self, frozen: Frozen, tokens: Array) -> Float[Array, "b l d"]:
        z = self.tokenizer.lookup(frozen["params"], frozen["stats"], tokens)
        return z.reshape(z.shape[0], *self.shape)

    def _moments(
        self, frozen: Frozen, batches: Iterable[Batch], name: str
    ) -> dict[str, Float[Array, " d"]]:
        """Measures mean and standard deviation of each channel of z over the training data."""

        @jax.jit
        def sums(batch: Batch) -> tuple[Array, Array, Array]:
            raw = batch.data[name]
            if self.posterior == "mean":
                z, spread = self._embedded(frozen, self._tokens(frozen, raw)), 0.0
            else:
                z, spread = self._normal(frozen, raw)
            weight = (batch.valid & batch.present[name]).astype(jnp.float32)[:, None, None]
            square = z**2 + spread**2  # what samples of the posterior have on average
            count = jnp.sum(weight) * z.shape[1]
            return count, jnp.sum(z * weight, (0, 1)), jnp.sum(square * weight, (0, 1))

        count, first, second = 0.0, 0.0, 0.0
        for batch in batches:
            n, z, square = (np.asarray(part, np.float64) for part in sums(batch))
            count, first, second = count + n, first + z, second + square
        mean = first / count
        std = np.sqrt(np.maximum(second / count - mean**2, 1e-12))
        return {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}


class CodeSpace(Component):
    """A modality whose data are codes, as the process over them needs it; see `TokenSpace`.

    Attributes:
        modality: text or a label.
        process: over the codes.
        patch: edge of the positions that make one token; 0 takes the DiT's.
    """

    modality: Modality
    process: Process
    patch: int = 1

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions along each axis."""
        return self.modality.grid

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one example's codes: [l, 1]."""
        return math.prod(self.grid), 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of the only codebook."""
        return (self.modality.vocabulary,)

    @property
    def tokens(self) -> Tokens:
        """How the modality enters the network."""
        output = self.process.width(self.sizes)
        return Tokens(grid=self.grid, codes=self.sizes[0], patch=self.patch, output=output)

    def freeze(self, batches: Iterable[Batch], name: str) -> Frozen:
        """Returns which codes occur in the training data: bool [k]."""
        occurs = np.zeros(self.modality.vocabulary, bool)
        for batch in batches:
            present = np.asarray(batch.valid & batch.present[name])
            codes = np.asarray(self.modality.standardize(jnp.asarray(batch.data[name])))
            occurs[np.unique(codes[present])] = True
        return {"occurs": jnp.asarray(occurs)}

    def frozen_like(self) -> Frozen:
        """Returns arrays of the structure that `freeze` returns: for `jax.eval_shape`."""
        return {"occurs": jnp.ones(self.modality.vocabulary, bool)}

    def vectors(self, frozen: Frozen) -> None:
        """Returns None: symbols have no vectors."""
        del frozen

    def encode(self, frozen: Frozen, raw: Array) -> X:
        """Returns the codes [b, l, 1] of stored examples."""
        del frozen
        return self.modality.standardize(raw)

    def draw(self, frozen: Frozen, raw: Array, keys: Key[Array, " b"]) -> X:
        """Returns what `encode` does: there is nothing to draw."""
        del keys
        return self.encode(frozen, raw)

    def decode(self, frozen: Frozen, x_0: X) -> Array:
        """Returns stored examples from codes."""
        del frozen
        return self.modality.restore(x_0)
