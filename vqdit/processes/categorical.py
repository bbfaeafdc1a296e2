"""Base class of processes over codes.

A process keeps, masks or replaces every code independently. For K codes, one position and
alpha + K beta + gamma = 1,

    q(x_t = y | x_0) = alpha(t) [y = x_0] + beta(t),        q(x_t = mask | x_0) = gamma(t).

Processes differ in the fraction of the noise that is the mask. The network's softmax pi is a
distribution of x_0 given the codes at other positions, but not x_t itself. Therefore

    p(x_0 | x_t) is proportional to pi(x_0) q(x_t | x_0),

and p(x_s, x_t) = sum over x_0 of pi(x_0) q(x_s, x_t | x_0) gives the step from t to s < t. So the
network need not learn the probability that a code was kept, nor the amount of noise at t. Where x_t
is the mask, pi is p(x_0 | x_t). Austin et al., "Structured Denoising Diffusion Models in Discrete
State-Spaces" (D3PM), arXiv:2107.03006. The role of pi is that in Schiff et al., "Simple Guidance
Mechanisms for Discrete Diffusion Models" (UDLM), arXiv:2412.10193.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.processes.base import Codes, Noise, Prediction, Process, Time, Values, X
from vqdit.typing import Array, Float

Logits = Float[Array, "b l q k"]
MASK = -1
"""The code of a masked position; -1 means "no code" everywhere in vqdit."""
SURE = 1e4
"""Logit in an oracle's prediction, so large that all other codes have probability 0 in float32."""
TINY = 1e-12
"""Lower bound of divisors that may be 0 if the quotient is not used."""


class Categorical(Process):
    """A process over codes.

    Attributes:
        schedule: fraction of noise at t: t ("linear") or sin(pi t / 2) ("cosine", MaskGIT's, which
            adds noise earlier).
    """

    schedule: Literal["linear", "cosine"] = "linear"

    @property
    def is_discrete(self) -> bool:
        return True

    def width(self, space: tuple[int, ...]) -> int:
        if len(set(space)) > 1:
            raise ValueError(
                f"{type(self).__name__} needs codebooks of equal size, got the sizes {space}"
            )
        return sum(space)

    def noise_share(self, t: Values) -> Values:
        """Returns 1 - alpha(t), the expected fraction of codes that are masked or replaced."""
        return self.scheduled(t)

    def scheduled(self, t: Values) -> Values:
        """Returns the probability that a code is masked or replaced, at the time t of this code."""
        return t if self.schedule == "linear" else jnp.sin(jnp.pi / 2 * t)

    def time_at(self, share: Values) -> Values:
        return share if self.schedule == "linear" else 2 / jnp.pi * jnp.arcsin(share)

    def mask_probability(self, t: Values) -> Values:
        """Returns gamma(t), the probability of the mask."""
        raise TypeError(f"{type(self).__name__} must define the method 'mask_probability'")

    def logits(self, prediction: Prediction, q: int) -> Logits:
        """Returns the network's output as float32 logits of each of the q codebooks."""
        return prediction.astype(jnp.float32).reshape(*prediction.shape[:2], q, -1)

    def posterior(
        self, logits: Logits, x_t: Codes, t: Float[Array, "*#b"], s: Float[Array, "*#b"]
    ) -> Float[Array, "b l q m"]:
        """Returns p(x_s | x_t): the m = k + 1 probabilities of the k codes and the mask.

        `logits` are the logits of pi; t and s, with 0 <= s < t, broadcast to x_t.
        """
        k = logits.shape[-1]
        t, s = t[..., None], s[..., None]
        alpha_t, alpha_s = 1.0 - self.scheduled(t), 1.0 - self.scheduled(s)
        gamma_t, gamma_s = self.mask_probability(t), self.mask_probability(s)
        beta_s = jnp.maximum(1.0 - alpha_s - gamma_s, 0.0) / k
        # alpha and beta of the transition from s to t: alpha and 1 - gamma are multiplicative.
        alpha = alpha_t / jnp.maximum(alpha_s, TINY)
        beta = jnp.maximum((1.0 - gamma_t) / jnp.maximum(1.0 - gamma_s, TINY) - alpha, 0.0) / k
        is_x_t = jax.nn.one_hot(x_t, k, dtype=jnp.float32)
        at_s = alpha_s * jax.nn.softmax(logits, axis=-1) + beta_s
        joint = at_s * (alpha * is_x_t + beta)
        kept = joint / jnp.maximum(jnp.sum(joint, axis=-1, keepdims=True), TINY)
        stays = gamma_s / jnp.maximum(gamma_t, TINY)
        revealed = at_s * (1.0 - stays) / jnp.maximum(1.0 - gamma_s, TINY)
        is_masked = (x_t == MASK)[..., None]
        codes = jnp.where(is_masked, revealed, kept)
        mask = jnp.where(is_masked, stays, 0.0)
        return jnp.concatenate([codes, jnp.broadcast_to(mask, (*x_t.shape, 1))], axis=-1)

    def oracle(self, x_0: X, x_t: X, noise: Noise, t: Time, space: tuple[int, ...]) -> Prediction:
        del x_t, noise, t
        sure = SURE * jax.nn.one_hot(x_0, space[0], dtype=jnp.float32)  # b l q k
        return sure.reshape(*x_0.shape[:2], -1)
