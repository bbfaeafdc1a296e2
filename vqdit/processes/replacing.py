"""Base class of processes that replace codes by random codes.

With the network's distribution pi of x_0, f_y = alpha pi(y) + beta is the estimate of q(x_t = y),
and g_y = alpha [y = x_0] + beta is the true value. The bound on -log p(x_0) in the limit of
infinitely many steps is the integral over t of

    rate * sum over codes y of g_y h(s_y / r_y - 1),        h(d) = d - log(1 + d) >= 0,

where s_y / r_y is f_y / g_y if x_t is the mask, and (f_y / g_y) / (f_j / g_j) if x_t is the code j.
The rate is the rate of jumps from y to x_t, divided by q(x_t | x_0). The bound thus compares the
network's rates of reverse jumps with the true rates. At t = 1 all codes are noise, so the bound has
no term for the prior. Campbell et al., "A Continuous Time Framework for Discrete Denoising Models",
arXiv:2205.14987; Lou et al., "Discrete Diffusion Modeling by Estimating the Ratios of the Data
Distribution" (SEDD), arXiv:2310.16834, eq. 14; for uniform noise it is eq. 18 of Schiff et al.
(UDLM), arXiv:2412.10193.
"""

import dataclasses

import jax
import jax.numpy as jnp

from vqdit.processes.base import Codes, Loss, Noise, Noised, Prediction, Time, Values, X
from vqdit.processes.categorical import MASK, Categorical, Logits
from vqdit.random import streams
from vqdit.typing import Array, Float, Key

CLOSE = 0.5
"""log(1 + d) is computed as log1p(d) for |d| below this, else as the log of the quotient f / g."""


class Replacing(Categorical):
    """A process that replaces at least some codes by random codes.

    Attributes:
        codes: K, the size of each codebook; 0 means the size of the tokens' codebooks, which
            `bind` sets.
        auxiliary: weight of the auxiliary loss -log p(x_0 | x_t), which is added to the bound at
            every position. As in VQ-Diffusion, the auxiliary loss is multiplied by 2 - t, so its
            weight is largest near the data.
    """

    codes: int = 0
    auxiliary: float = 0.0

    def __post_init__(self) -> None:
        self.require("codes >= 0", self.codes >= 0)
        self.require("auxiliary >= 0", self.auxiliary >= 0.0)

    @property
    def mask_share(self) -> float:
        """The fraction of the noise that is the mask, in [0, 1)."""
        raise TypeError(f"{type(self).__name__} must define the property 'mask_share'")

    def width(self, space: tuple[int, ...]) -> int:
        width = super().width(space)
        if self.codes not in (0, space[0]):
            raise ValueError(
                f"{type(self).__name__} has codes={self.codes}, but its tokens have codebooks of "
                f"{space[0]} codes; set codes=0, which takes their size"
            )
        return width

    def bind(self, space: tuple[int, ...]) -> "Replacing":
        self.width(space)
        return dataclasses.replace(self, codes=space[0])

    def mask_probability(self, t: Values) -> Values:
        return self.mask_share * self.noise_share(t)

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Codes:
        return self._noise(keys, shape)

    def noise(self, keys: Key[Array, " b"], x_0: Codes, t: Time) -> Noised:
        u = jax.vmap(lambda key: jax.random.uniform(key, x_0.shape[1:], jnp.float32))(
            streams(keys, "kept")
        )
        is_noise = u < self.noise_share(t)[..., None]
        # Positions without a code keep the value -1: they are neither data nor noise.
        x_t = jnp.where(is_noise & (x_0 != MASK), self._noise(keys, x_0.shape[1:]), x_0)
        return Noised(x_t, None)

    def _noise(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Codes:
        """Draws noise for every position: the mask or a random code."""
        if not self.codes:
            raise ValueError(
                f"{type(self).__name__} needs the number of codes to draw random codes, got "
                "codes=0; use process.bind(sizes)"
            )
        codes, masks = streams(keys, "code"), streams(keys, "mask")
        drawn = jax.vmap(
            lambda key: jax.random.randint(key, shape, 0, self.codes, dtype=jnp.int32)
        )(codes)
        u = jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32))(masks)
        return jnp.where(u < self.mask_share, MASK, drawn)

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        bound = self.scoring_loss(prediction, x_0, x_t, noise, t)
        if not self.auxiliary:
            return bound
        logits = self.logits(prediction, x_0.shape[-1])
        return bound + self.auxiliary * (2.0 - t) * self._surprise(logits, x_0, x_t, t)

    def scoring_loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        del noise
        logits = self.logits(prediction, x_0.shape[-1])
        share = self.mask_share
        n, slope = self.noise_share(t), self._slope(t)
        alpha, beta = self._keep_and_replace(t, logits.shape[-1])  # b #l 1 1

        is_x_0 = jax.nn.one_hot(x_0, logits.shape[-1], dtype=jnp.float32)
        is_x_t = jax.nn.one_hot(x_t, logits.shape[-1], dtype=jnp.float32)
        log_pi = jax.nn.log_softmax(logits, axis=-1)
        # pi - [y = x_0] without cancellation, which matters at t near 0 and near 1.
        wrong = jnp.where(is_x_0 > 0, jnp.expm1(log_pi), jnp.exp(log_pi))
        g = alpha * is_x_0 + beta
        excess = alpha * wrong / g  # f / g - 1
        ratio = (alpha * jnp.exp(log_pi) + beta) / g
        here, ratio_here = (
            jnp.sum(jnp.where(is_x_t > 0, part, 0.0), axis=-1, keepdims=True)
            for part in (excess, ratio)
        )
        ratio_here = jnp.where((x_t == MASK)[..., None], 1.0, ratio_here)
        divergence = _divergence((excess - here) / ratio_here, jnp.log(ratio / ratio_here))

        # The rates of jumps to a random code and to the mask, divided by q(x_t | x_0). The former
        # diverges at t = 1, but `divergence` vanishes faster.
        replaced = slope * (1.0 - share) / (jnp.maximum(1.0 - n, 1e-6) * (1.0 - share * n))
        masked = slope / jnp.where(t > 0, n * (1.0 - share * n), 1.0)
        g_here = jnp.sum(is_x_t * g, axis=-1)
        rate = jnp.where(
            x_t == MASK,
            masked[..., None],
            replaced[..., None] / logits.shape[-1] / jnp.maximum(g_here, 1e-30),
        )
        bound = rate * jnp.sum(g * divergence, axis=-1)
        counts = (x_0 != MASK) & (t > 0)[..., None]
        return jnp.sum(jnp.where(counts, bound, 0.0), axis=-1)

    def _surprise(self, logits: Logits, x_0: Codes, x_t: Codes, t: Time) -> Loss:
        """Returns -log p(x_0 | x_t) of each position, in nats."""
        alpha, beta = self._keep_and_replace(t, logits.shape[-1])
        likelihood = jnp.log(
            alpha * jax.nn.one_hot(x_t, logits.shape[-1], dtype=jnp.float32) + beta
        )
        log_p = jax.nn.log_softmax(jax.nn.log_softmax(logits) + likelihood, axis=-1)
        target = jnp.maximum(x_0, 0)[..., None]
        surprise = -jnp.take_along_axis(log_p, target, axis=-1)[..., 0]
        counts = (x_0 != MASK) & (t > 0)[..., None]
        return jnp.sum(jnp.where(counts, surprise, 0.0), axis=-1)

    def _slope(self, t: Values) -> Values:
        """Returns the derivative of the fraction of noise with respect to t."""
        if self.schedule == "linear":
            return jnp.ones_like(t)
        return jnp.maximum(jnp.pi / 2 * jnp.cos(jnp.pi / 2 * t), 0.0)

    def _keep_and_replace(
        self, t: Time, k: int
    ) -> tuple[Float[Array, "b #l 1 1"], Float[Array, "b #l 1 1"]]:
        """Returns alpha and beta; at t = 0, which has no loss, returns their values at t = 1."""
        n = jnp.where(t > 0, self.noise_share(t), 1.0)[..., None, None]
        return 1.0 - n, (1.0 - self.mask_share) * n / k


def _divergence(excess: Logits, log_ratio: Logits) -> Logits:
    """Returns d - log(1 + d) for d = excess, given log_ratio = log(1 + d); see `CLOSE`."""
    is_close = jnp.abs(excess) < CLOSE
    log = jnp.where(is_close, jnp.log1p(jnp.where(is_close, excess, 0.0)), log_ratio)
    return jnp.maximum(excess - log, 0.0)
