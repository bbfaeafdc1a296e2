"""Training of VQ-VAE tokenizers: encoder, codebook and decoder are trained jointly.

    L = |x - D(z_q)|  +  beta |z - sg(z_q)|^2,        z = E(x),  z_q = codebook(z).

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937, eq. 3. The
quantizer determines how the codebook learns: from the second term of eq. 3, or by an update of the
quantizer, such as moving averages.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.losses import Distillation
from vqdit.masked_mean import masked_mean, mean_of_each
from vqdit.metrics import COUNTABLE, BitRate, CodeUse, Mean, Metrics, codebook_health
from vqdit.quantizers import VQ, Quantized, Quantizer
from vqdit.random import stream
from vqdit.tasks.autoencoder import Mask
from vqdit.tasks.autoencoder_training import AutoencoderTrainingTask
from vqdit.tasks.base import Frozen, Resolve
from vqdit.tasks.bottleneck import BottleneckOutput
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class TokenizerTask(AutoencoderTrainingTask):
    """A VQ-VAE of one modality; its tokens are codes.

    Attributes:
        quantizer: the codebook; its `dim` is the width of the latents.
        distillation: trains the first codebooks to predict the features of a frozen network.
    """

    quantizer: Quantizer = VQ()
    distillation: Distillation | None = None

    @property
    def weights(self) -> Named[float]:
        own = {} if self.distillation is None else {"distillation": self.distillation.weight}
        return self.quantizer.weights | own

    @property
    def without_training(self) -> "TokenizerTask":
        return dataclasses.replace(super().without_training, distillation=None)

    @property
    def trained_losses(self) -> dict[str, Any]:
        own = {} if self.distillation is None else {"distillation": self.distillation}
        return super().trained_losses | own

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[TokenizerTask, Frozen]":
        _, frozen = super().load(resolve, batches)
        if self.distillation is not None:
            loaded = jax.tree.map(jnp.asarray, self.distillation.teacher.load())
            frozen = {**frozen, "distillation": loaded}
        return self, frozen

    def frozen_like(self) -> Frozen:
        own = self.distillation
        teacher = {} if own is None else {"distillation": own.teacher.like()}
        return {**super().frozen_like(), **teacher}

    @property
    def dim(self) -> int:
        return self.quantizer.dim

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return self.quantizer.codebook_sizes

    def continued(self) -> "TokenizerTask":
        """Returns the task for a learned codebook, which quantizes from the first step on."""
        return dataclasses.replace(self, quantizer=self.quantizer.started())

    def start(
        self,
        key: Key[Array, ""],
        params: Params,
        x: Float[Array, "b *size c"],
        mask: Mask = None,
    ) -> tuple[Params, Stats]:
        if self.distillation is not None:
            matrix = self.distillation.init(stream(key, "distillation"), self.dim, x)
            params = {**params, "distillation": matrix}
        z, key = self.model.encode(params, x, self.width, mask), stream(key, "quantizer")
        if mask is None:
            learned, stats = self.quantizer.init(key, z)
        else:
            learned, stats = self.quantizer.init(key, z, self.model.token_mask(mask))
        return {**params, "quantizer": learned}, stats

    def bottleneck(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        mask: Bool[Array, "b *grid"],
    ) -> BottleneckOutput:
        quantized = self.quantizer.quantize(
            params["quantizer"], stats, h, key=stream(key, "quantize"), step=step, mask=mask
        )
        metrics = self._health(stats, h, quantized, mask)
        return BottleneckOutput(
            quantized.z_q, quantized.losses, metrics, (h, quantized.codes, mask)
        )

    def further_losses(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        x: Float[Array, "b *size c"],
        update: Any,
    ) -> dict[str, Float[Array, ""]]:
        if self.distillation is None:
            return {}
        h, codes, within = update
        is_first = jnp.arange(codes.shape[-1]) < self.distillation.codebooks
        first = self.lookup(params, stats, jnp.where(is_first, codes, -1))
        first = jax.lax.stop_gradient(first) + (h - jax.lax.stop_gradient(h))
        first, within = first.reshape(len(x), -1, self.dim), within.reshape(len(x), -1)
        learned, teacher = params["distillation"], frozen["distillation"]
        each = self.distillation.loss(learned, teacher, x, first, within)
        return {"distillation": masked_mean(each, jnp.sum(within, axis=1))}

    def _health(
        self,
        stats: Stats,
        h: Float[Array, "b *grid d"],
        quantized: Quantized,
        mask: Bool[Array, "b *grid"],
    ) -> Named[Float[Array, ""]]:
        """Returns metrics of codebook usage in this step, and the quantization error."""
        error = masked_mean(jnp.mean((h - quantized.z_q) ** 2, axis=-1), mask)
        use = codebook_health(
            quantized.codes, self.quantizer.codebook_sizes, mask, self.quantizer.use(stats)
        )
        return jax.lax.stop_gradient(Named(quantization_error=error) | use)

    def update_bottleneck(
        self, params: Params, stats: Stats, update: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        z, codes, mask = update
        learned, stats = self.quantizer.update(
            params["quantizer"], stats, z, codes, key, step, mask=mask
        )
        return {**params, "quantizer": learned}, stats

    def tokens(
        self, params: Params, stats: Stats, h: Float[Array, "b *grid w"]
    ) -> Int[Array, "b *grid q"]:
        return self.quantizer.encode(params["quantizer"], stats, h)

    def lookup(
        self, params: Params, stats: Stats, tokens: Int[Array, "b *grid q"]
    ) -> Float[Array, "b *grid d"]:
        return self.quantizer.lookup(params["quantizer"], stats, tokens)

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        sizes = self.quantizer.codebook_sizes
        shape = (*self.grid, len(sizes))
        is_right = self.is_grid(tokens.shape[1:-1]) and tokens.shape[-1:] == (len(sizes),)
        if not is_right or not np.issubdtype(tokens.dtype, np.integer):
            raise ValueError(
                f"decode takes integers [b, {', '.join(map(str, shape))}], "
                f"got {tokens.dtype} {list(tokens.shape)}"
            )
        wrong = np.argwhere((tokens < -1) | (tokens >= np.asarray(sizes)))
        if len(wrong):
            code, book = tokens[tuple(wrong[0])], int(wrong[0][-1])
            of = f" of codebook {book}" if len(sizes) > 1 else ""
            raise ValueError(
                f"code {code}{of} is out of range; use 0 to {sizes[book] - 1}, or -1 for no code"
            )
        return tokens.astype(np.int32)

    def measure(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        tokens: Array,
        valid: Bool[Array, " b"],
        mask: Bool[Array, "b l"] | None = None,
    ) -> Metrics:
        z_q = self.lookup(params, stats, tokens)
        error = mean_of_each((h - z_q) ** 2, mask)
        weight = valid if mask is None else jnp.sum(mask & valid[:, None], axis=1)
        found: dict[str, Any] = {"quantization_error": Mean.of(error, weight)}
        size = max(self.quantizer.codebook_sizes)
        if size <= COUNTABLE:
            found["codebook"] = CodeUse.of(tokens, size, valid)
            if rate := getattr(self.modality, "rate", 0):
                positions = jnp.sum(weight if mask is not None else valid * tokens.shape[1])
                duration = self.model.downsampling / rate
                found["kbit_per_s"] = BitRate.of(
                    tokens, self.quantizer.codebook_sizes, valid, positions, duration
                )
        return Named(found)

    def decode_latents(
        self, params: Params, stats: Stats, z: Float[Array, "b *grid d"], mask: Mask = None
    ) -> Array:
        """Returns stored examples of the codes nearest to the latents."""
        codes = self.tokens(params, self.bottleneck_stats(stats), z)
        return self.decode(params, stats, codes, mask)
