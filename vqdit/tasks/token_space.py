"""The tokens of one modality for a DiT: codes, or standardised latents.

A discrete process takes codes: the codes of a tokenizer, or the data themselves if they are already
codes, such as text (`CodeSpace`). A continuous process takes

    x_0 = (z - mean) / std,

where z are the embeddings z_q of the codes, or the latents of a tokenizer without a codebook.
`mean` and `std` of each channel are measured over the training data with the frozen weights.

Data may have tokens instead of stored examples (`vqdit encode`): codes, or the concatenated mean
and standard deviation of the posterior.
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
from vqdit.typing import Array, Bool, Component, Float, Int, Key

Mask = Bool[Array, "b n"]


class TokenSpace(Component):
    """Converts stored examples of one modality to tokens, and tokens to stored examples.

    Attributes:
        process: process over the tokens.
        patch: edge of the square of positions that forms one token of the DiT; 0 uses the DiT's
            patch.
        block: number of codes that are generated together; 0 generates all together.
    """

    process: Process
    patch: int = 0
    block: int = 0

    @property
    def modality(self) -> Modality:
        """The modality of the stored examples."""
        raise TypeError(f"{type(self).__name__} must define the property 'modality'")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of positions along each axis."""
        raise TypeError(f"{type(self).__name__} must define the property 'grid'")

    @property
    def longest(self) -> int:
        """Number of tokens of the longest example if examples differ in length, else 0."""
        return self.grid[0] if self.modality.lengths else 0

    def token_lengths(self, lengths: Int[Array, " b"]) -> Int[Array, " b"]:
        """Returns the number of tokens of examples of variable length.

        Args:
            lengths: stored positions of each example.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'token_lengths'")

    @property
    def positions_per_token(self) -> int:
        """Number of positions of the data per token, for examples of variable length.

        Positions are those of the stored examples, such as the samples of a sound.
        """
        raise TypeError(f"{type(self).__name__} must define the property 'positions_per_token'")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the codebooks for a discrete process, (d,) for a continuous one."""
        raise TypeError(f"{type(self).__name__} must define the property 'sizes'")

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of one example's tokens: [l, q] of codes or [l, d] of latents."""
        channels = len(self.sizes) if self.process.is_discrete else self.sizes[0]
        return math.prod(self.grid), channels

    @property
    def tokens(self) -> Tokens:
        """The network's input for the modality."""
        output, (_, channels) = self.process.width(self.sizes), self.shape
        if not self.process.is_discrete:
            return Tokens(grid=self.grid, width=channels, patch=self.patch, output=output)
        return Tokens(
            grid=self.grid,
            codes=self.sizes[0],
            codebooks=channels,
            patch=self.patch,
            output=output,
            block=self.block,
        )

    @property
    def bound_process(self) -> Process:
        """The process, bound to the sizes of these tokens."""
        return self.process.bind(self.sizes)

    def freeze(self, trained: Trained | None, batches: Iterable[Batch], name: str) -> Frozen:
        """Returns the arrays that `encode` and `decode` need.

        Args:
            trained: the tokenizer, if the space has one.
            batches: one pass over the training data.
            name: the column of the modality in the data.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'freeze'")

    def frozen_like(self) -> Frozen:
        """Returns arrays with the structure of the result of `freeze`, for `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} must define the method 'frozen_like'")

    def vectors(self, frozen: Frozen) -> Float[Array, "q k e"] | None:
        """Returns the embedding of every code; None if there are no codes or no embeddings."""
        del frozen

    def encode(self, frozen: Frozen, raw: Array, mask: Mask | None = None) -> X:
        """Returns x_0 of stored examples, or of their tokens: codes [b, l, q] or latents [b, l, d].

        Args:
            frozen: arrays of `freeze`.
            raw: stored examples, or tokens.
            mask: for examples of variable length, True at stored positions that are not padding.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'encode'")

    def draw(
        self, frozen: Frozen, raw: Array, keys: Key[Array, " b"], mask: Mask | None = None
    ) -> X:
        """Returns x_0 for training, which may be a sample of the tokenizer's posterior."""
        del keys
        return self.encode(frozen, raw, mask)

    def decode(self, frozen: Frozen, x_0: X, mask: Mask | None = None) -> Array:
        """Returns stored examples from tokens; `mask` is False at padding."""
        raise TypeError(f"{type(self).__name__} must define the method 'decode'")


class TokenizerSpace(TokenSpace):
    """The tokens of a frozen tokenizer.

    Attributes:
        tokenizer: the tokenizer.
        posterior: latents for training from a normal posterior: its mean, or a sample.
        codebooks: number of codes per position, the first ones; 0 means all.
    """

    tokenizer: AutoencoderTask
    posterior: Literal["mean", "sample"] = "mean"
    codebooks: int = 0

    @property
    def modality(self) -> Modality:
        return self.tokenizer.modality

    @property
    def grid(self) -> tuple[int, ...]:
        return self.tokenizer.grid

    @property
    def sizes(self) -> tuple[int, ...]:
        if not self.process.is_discrete:
            return (self.tokenizer.dim,)
        return self.tokenizer.codebook_sizes[: self.codebooks or None]

    def freeze(self, trained: Trained | None, batches: Iterable[Batch], name: str) -> Frozen:
        """Returns the arrays that training does not change: those of the tokenizer.

        For continuous processes, they also have the mean and standard deviation of its latents.
        """
        if trained is None:
            raise ValueError(
                f"the tokenizer of {name!r} must be trained, but its parameters are missing; "
                "train it first"
            )
        frozen = {"params": trained.params, "stats": trained.stats}
        if not self.process.is_discrete:
            frozen |= self._moments(frozen, batches, name)
        return frozen

    def frozen_like(self) -> Frozen:
        params, stats = self.tokenizer.blank()
        frozen = {"params": params, "stats": stats}
        if not self.process.is_discrete:
            _, dim = self.shape
            frozen |= {"mean": jnp.zeros(dim), "std": jnp.ones(dim)}
        return frozen

    def token_lengths(self, lengths: Int[Array, " b"]) -> Int[Array, " b"]:
        return self.tokenizer.token_lengths(lengths)

    @property
    def positions_per_token(self) -> int:
        return self.tokenizer.model.downsampling

    def encode(self, frozen: Frozen, raw: Array, mask: Mask | None = None) -> X:
        tokens = self._tokens(frozen, raw, mask)
        if self.process.is_discrete:
            codes = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
            return codes[..., : self.shape[1]]
        return (self._embedded(frozen, tokens) - frozen["mean"]) / frozen["std"]

    def draw(
        self, frozen: Frozen, raw: Array, keys: Key[Array, " b"], mask: Mask | None = None
    ) -> X:
        if self.posterior == "mean":
            return self.encode(frozen, raw, mask)
        z, std = self._normal(frozen, raw, mask)
        noise = jax.vmap(lambda key: jax.random.normal(key, z.shape[1:]))(keys)
        return (z + std * noise - frozen["mean"]) / frozen["std"]

    def decode(self, frozen: Frozen, x_0: X, mask: Mask | None = None) -> Array:
        params, stats = frozen["params"], frozen["stats"]
        if self.codebooks:  # the other codes are missing
            more = len(self.tokenizer.codebook_sizes) - self.codebooks
            x_0 = jnp.pad(x_0, ((0, 0), (0, 0), (0, more)), constant_values=-1)
        if mask is None:
            x_0 = x_0.reshape(x_0.shape[0], *self.tokenizer.grid, x_0.shape[-1])
        else:  # a mask of stored positions
            mask = jnp.repeat(mask, self.positions_per_token, axis=1)
        if self.process.is_discrete:
            return self.tokenizer.decode(params, stats, x_0, mask)
        # With a codebook, each z is replaced by its nearest code.
        z = x_0 * frozen["std"] + frozen["mean"]
        return self.tokenizer.decode_latents(params, stats, z, mask)

    def vectors(self, frozen: Frozen) -> Float[Array, "q k e"] | None:
        if not self.process.is_discrete:
            return None
        total, each = len(self.tokenizer.codebook_sizes), []
        for number, size in enumerate(self.sizes):
            codes = jnp.full((size, total), -1).at[:, number].set(jnp.arange(size))
            each.append(self.tokenizer.lookup(frozen["params"], frozen["stats"], codes))
        return jnp.stack(each)

    def _tokens(self, frozen: Frozen, raw: Array, mask: Mask | None = None) -> Array:
        """Returns the tokens of stored examples; encoded data are returned unchanged."""
        if not self._is_encoded(raw):
            return self.tokenizer.encode(frozen["params"], frozen["stats"], raw, mask)
        return raw.astype(jnp.int32) if self.tokenizer.codebook_sizes else jnp.split(raw, 2, -1)[0]

    def _normal(
        self, frozen: Frozen, raw: Array, mask: Mask | None = None
    ) -> tuple[Float[Array, "b l d"], ...]:
        """Returns mean and standard deviation of the posterior."""
        if self._is_encoded(raw):
            moments = jnp.split(raw, 2, axis=-1)
        else:
            moments = self.tokenizer.moments(frozen["params"], frozen["stats"], raw, mask)
        return tuple(moment.reshape(len(raw), -1, self.shape[1]) for moment in moments)

    def _is_encoded(self, raw: Array) -> bool:
        modality = self.modality
        axes = 2 if modality.lengths else 1  # the padded length is arbitrary
        return raw.shape[axes:] != modality.shape[axes - 1 :] or raw.dtype != modality.dtype

    def _embedded(self, frozen: Frozen, tokens: Array) -> Float[Array, "b l d"]:
        z = self.tokenizer.lookup(frozen["params"], frozen["stats"], tokens)
        return z.reshape(z.shape[0], -1, self.shape[1])

    def _moments(
        self, frozen: Frozen, batches: Iterable[Batch], name: str
    ) -> dict[str, Float[Array, " d"]]:
        """Measures mean and standard deviation of each channel of z over the training data."""

        @jax.jit
        def sums(batch: Batch) -> tuple[Array, Array, Array]:
            raw, mask = batch.data[name], batch.mask.get(name)
            if self.posterior == "mean":
                z, spread = self._embedded(frozen, self._tokens(frozen, raw, mask)), 0.0
            else:
                z, spread = self._normal(frozen, raw, mask)
            weight = (batch.valid & batch.present[name]).astype(jnp.float32)[:, None, None]
            square = z**2 + spread**2  # the mean square of posterior samples
            count = jnp.sum(weight) * z.shape[1]
            if mask is not None:
                lengths = self.token_lengths(jnp.sum(mask, axis=1))
                weight = weight * (jnp.arange(z.shape[1]) < lengths[:, None])[..., None]
                count = jnp.sum(weight)
            return count, jnp.sum(z * weight, (0, 1)), jnp.sum(square * weight, (0, 1))

        count, first, second = 0.0, 0.0, 0.0
        for batch in batches:
            n, z, square = (np.asarray(part, np.float64) for part in sums(batch))
            count, first, second = count + n, first + z, second + square
        mean = first / count
        std = np.sqrt(np.maximum(second / count - mean**2, 1e-12))
        return {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)}


class CodeSpace(TokenSpace):
    """The tokens of data that are already discrete, and therefore need no tokenizer.

    Attributes:
        data: text or a label.
    """

    data: Modality
    patch: int = 1

    @property
    def modality(self) -> Modality:
        return self.data

    @property
    def grid(self) -> tuple[int, ...]:
        return self.data.grid

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.data.vocabulary,)

    def freeze(self, trained: Trained | None, batches: Iterable[Batch], name: str) -> Frozen:
        """Returns which codes occur in the training data: bool [k]."""
        del trained
        occurs = np.zeros(self.data.vocabulary, bool)

        @jax.jit
        def found(batch: Batch) -> Array:  # compiled, as the rows may be on several machines
            codes = self.data.standardize(jnp.asarray(batch.data[name]))  # b l 1
            real = (batch.valid & batch.present[name])[:, None, None]
            if name in batch.mask:
                real = real & batch.mask[name][..., None]
            return jnp.zeros(len(occurs), bool).at[codes].max(real)

        for batch in batches:
            occurs |= np.asarray(found(batch))
        return {"occurs": jnp.asarray(occurs)}

    def frozen_like(self) -> Frozen:
        return {"occurs": jnp.ones(self.data.vocabulary, bool)}

    def token_lengths(self, lengths: Int[Array, " b"]) -> Int[Array, " b"]:
        return lengths

    @property
    def positions_per_token(self) -> int:
        return 1

    def encode(self, frozen: Frozen, raw: Array, mask: Mask | None = None) -> X:
        del frozen, mask
        return self.data.standardize(raw)

    def decode(self, frozen: Frozen, x_0: X, mask: Mask | None = None) -> Array:
        del frozen, mask
        return self.data.restore(x_0)
