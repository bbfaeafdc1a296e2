"""Training of autoencoders with a normal posterior over continuous latents, without a codebook.

    L = |x - D(z)|  +  w KL(q(z|x) | N(0, 1)),        z ~ q(z|x) in training, its mean afterwards,

where the error is summed over the elements of the data, and the divergence over the elements of the
latents. The loss is L divided by the number of elements of the data, so that the error is a mean,
as for `TokenizerTask`. If examples differ in length, the metric `kl` is in nats per token instead
of nats per example.

Rombach et al., "Latent Diffusion Models", arXiv:2112.10752, appendix G.
"""

import math

import jax.numpy as jnp
import numpy as np

from vqdit.masked_mean import masked_mean
from vqdit.metrics import Mean, Metrics
from vqdit.nn.conv import zero_behind
from vqdit.random import stream
from vqdit.regularizers import KL
from vqdit.tasks.autoencoder import Mask
from vqdit.tasks.autoencoder_training import AutoencoderTrainingTask
from vqdit.tasks.bottleneck import BottleneckOutput
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class KLTask(AutoencoderTrainingTask):
    """A variational autoencoder of one modality: its tokens are latents float32 [b, *grid, d].

    Attributes:
        regularizer: the posterior; its `dim` is the width of the latents.
    """

    regularizer: KL = KL()

    @property
    def weights(self) -> Named[float]:
        elements = math.prod(self.modality.grid) * self.channels
        if self.modality.lengths:
            elements = self.model.downsampling * self.channels  # of one token
        return Named(kl=self.regularizer.weight / elements)

    @property
    def dim(self) -> int:
        return self.regularizer.dim

    @property
    def width(self) -> int:
        return 2 * self.regularizer.dim

    def bottleneck(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        mask: Bool[Array, "b *grid"],
    ) -> BottleneckOutput:
        del params, stats, step
        posterior = self.regularizer.posterior(h)
        if self.modality.lengths:
            kl = masked_mean(self.regularizer.each(posterior), mask)
        else:
            valid = mask.reshape(len(mask), -1)[:, 0]
            kl = masked_mean(self.regularizer.loss(posterior), valid)
        z = self.regularizer.sample(posterior, stream(key, "posterior"))
        return BottleneckOutput(z, Named(kl=kl), Named(), None)

    def moments(
        self, params: Params, stats: Stats, raw: Array, mask: Mask = None
    ) -> tuple[Array, Array]:
        del stats
        h = self.model.encode(params, self.input(raw), self.width, mask)
        mean, log_variance = self.regularizer.posterior(h)
        std = jnp.exp(0.5 * log_variance)
        return mean, std if mask is None else zero_behind(std, self.model.token_mask(mask))

    def tokens(
        self, params: Params, stats: Stats, h: Float[Array, "b *grid w"]
    ) -> Float[Array, "b *grid d"]:
        del params, stats
        return self.regularizer.posterior(h).mean

    def lookup(
        self, params: Params, stats: Stats, tokens: Float[Array, "b *grid d"]
    ) -> Float[Array, "b *grid d"]:
        del params, stats
        return tokens

    def decode_latents(
        self, params: Params, stats: Stats, z: Float[Array, "b *grid d"], mask: Mask = None
    ) -> Array:
        return self.decode(params, stats, z, mask)

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        shape = (*self.grid, self.dim)
        is_right = self.is_grid(tokens.shape[1:-1]) and tokens.shape[-1:] == (self.dim,)
        if not is_right or not np.issubdtype(tokens.dtype, np.floating):
            raise ValueError(
                f"decode takes float latents [b, {', '.join(map(str, shape))}], "
                f"got {tokens.dtype} {list(tokens.shape)}"
            )
        return tokens.astype(np.float32)

    def measure(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        tokens: Array,
        valid: Bool[Array, " b"],
        mask: Bool[Array, "b l"] | None = None,
    ) -> Metrics:
        del params, stats, tokens
        posterior = self.regularizer.posterior(h)
        if mask is None:
            return Named(kl=Mean.of(self.regularizer.loss(posterior), valid))
        is_real = mask & valid[:, None]
        return Named(kl=Mean.of(self.regularizer.each(posterior).ravel(), is_real.ravel()))
