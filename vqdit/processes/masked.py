"""Absorbing (masked) diffusion over codes.

A position is masked at time t with probability m(t), independently:

    q(x_t = mask | x_0) = m(t),        q(x_t = x_0 | x_0) = 1 - m(t).

The network predicts p(x_0 | x_t); with alpha = 1 - m the bound on -log p(x_0) is the integral of

    m'(t) / m(t) * sum over masked positions of -log p(x_0 | x_t).

Sahoo et al., "Simple and Effective Masked Diffusion Language Models", arXiv:2406.07524, eq. 10;
the cosine schedule is from Chang et al., "MaskGIT", arXiv:2202.04200.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.processes.base import Codes, Loss, Noise, Noised, Prediction, Time, Values, X
from vqdit.processes.categorical import MASK, Categorical, Logits
from vqdit.typing import Array, Float, Key


class Masked(Categorical):
    """Masked diffusion over codes.

    Attributes:
        schedule: m(t) is t ("linear") or sin(pi t / 2) ("cosine", MaskGIT's, which masks earlier).
        weighting: weight of the masked positions: m'(t) / m(t) ("elbo"), for which the loss is the
            bound; or 1 ("uniform", as in MaskGIT), which favours sample quality over likelihood.
    """

    weighting: Literal["elbo", "uniform"] = "elbo"

    def mask_probability(self, t: Values) -> Values:
        return self.scheduled(t)

    def code_times(self, t: Values) -> Float[Array, "*b q"]:
        """Returns the time of each of the q codes of a position. Default: t for all of them."""
        return t[..., None]

    def weight(self, t: Values) -> Values:
        """Returns the weight of a masked position; 0 at t = 0, where nothing is masked."""
        if self.weighting == "uniform":
            return jnp.where(t > 0, 1.0, 0.0)
        return self.rate(t)

    def rate(self, t: Values) -> Values:
        """Returns m'(t) / m(t), the weight of a masked position in the bound; 0 at t = 0."""
        safe = jnp.where(t > 0, t, 1.0)
        if self.schedule == "linear":
            ratio = 1.0 / safe
        else:
            ratio = jnp.maximum(jnp.pi / 2 / jnp.tan(jnp.pi / 2 * safe), 0.0)
        return jnp.where(t > 0, ratio, 0.0)

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Codes:
        return jnp.full((keys.shape[0], *shape), MASK, jnp.int32)

    def noise(self, keys: Key[Array, " b"], x_0: Codes, t: Time) -> Noised:
        u = jax.vmap(lambda key: jax.random.uniform(key, x_0.shape[1:], jnp.float32))(
            keys
        )  # in [0, 1)
        is_masked = u < self.mask_probability(self.code_times(t))
        return Noised(jnp.where(is_masked, MASK, x_0), None)

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        del noise
        return self.weight(t) * jnp.sum(self.surprise(prediction, x_0, x_t), axis=-1)

    def scoring_loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        del noise
        return self.rate(t) * jnp.sum(self.surprise(prediction, x_0, x_t), axis=-1)

    def surprise(self, prediction: Prediction, x_0: Codes, x_t: Codes) -> Float[Array, "b l q"]:
        """Returns -log p(x_0) of every masked code in nats; 0 for codes that are not masked."""
        log_p = jax.nn.log_softmax(self.logits(prediction, x_0.shape[-1]), axis=-1)
        target = jnp.maximum(x_0, 0)[..., None]
        surprise = -jnp.take_along_axis(log_p, target, axis=-1)[..., 0]  # b l q
        counts = (x_t == MASK) & (x_0 != MASK)
        return jnp.where(counts, surprise, 0.0)

    def posterior(
        self, logits: Logits, x_t: Codes, t: Float[Array, "*#b"], s: Float[Array, "*#b"]
    ) -> Float[Array, "b l q m"]:
        revealed = super().posterior(logits, x_t, t, s)
        # A code that is not masked is certain, even if the network gives it probability 0.
        seen = jax.nn.one_hot(x_t, revealed.shape[-1], dtype=jnp.float32)
        return jnp.where((x_t == MASK)[..., None], revealed, seen)
