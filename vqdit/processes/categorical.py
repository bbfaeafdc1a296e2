"""What all processes over codes share: a code is kept, masked, or replaced by a random one.

Each code by itself, with alpha + K beta + gamma = 1,

    q(x_t = y | x_0) = alpha(t) [y = x_0] + beta(t),        q(x_t = mask | x_0) = gamma(t).

Processes differ in which share of the noise is mask. The network's softmax is pi, its belief in
every x_0 before the code itself is looked at, so that

    p(x_0 | x_t) is in proportion to pi(x_0) q(x_t | x_0),

and p(x_s, x_t) = sum over x_0 of pi(x_0) q(x_s, x_t | x_0) gives the step from t to s < t. A code
that is kept thus needs no learning, nor does the share of noise at a time; where x_t is the mask,
pi is p(x_0 | x_t). Austin et al., "Structured Denoising Diffusion Models in Discrete State-Spaces"
(D3PM), arXiv:2107.03006; pi as in Schiff et al., "Simple Guidance Mechanisms for Discrete
Diffusion Models" (UDLM), arXiv:2412.10193.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.typing import Array, Float, Int

MASK = -1
"""The code of a masked position: "no code", as everywhere in vqdit."""
SURE = 1e4
"""The logit of an oracle: all other codes have probability 0 in float32."""
TINY = 1e-12
"""Keeps divisors from 0 where their quotient is not used."""


class Categorical(Process):
    """A process over codes.

    Attributes:
        schedule: the share of noise is t ("linear") or sin(pi t / 2) ("cosine": MaskGIT's, more
            noise earlier).
    """

    schedule: Literal["linear", "cosine"] = "linear"

    @property
    def is_discrete(self) -> bool:
        return True

    def width(self, space: tuple[int, ...]) -> int:
        if len(set(space)) > 1:
            raise ValueError(f"{type(self).__name__} needs codebooks of one size, got {space}")
        return sum(space)

    def noise_share(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns 1 - alpha(t): the share of the codes that is masked or drawn anew."""
        return t if self.schedule == "linear" else jnp.sin(jnp.pi / 2 * t)

    def time_at(self, share: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return share if self.schedule == "linear" else 2 / jnp.pi * jnp.arcsin(share)

    def mask_probability(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns gamma(t)."""
        raise TypeError(f"{type(self).__name__} must define mask_probability")

    def logits(self, prediction: Float[Array, "b l w"], q: int) -> Float[Array, "b l q k"]:
        """Views the head's outputs as float32 logits of each codebook."""
        return prediction.astype(jnp.float32).reshape(*prediction.shape[:2], q, -1)

    def posterior(
        self,
        logits: Float[Array, "b l q k"],
        x_t: Int[Array, "b l q"],
        t: Float[Array, "*#b"],
        s: Float[Array, "*#b"],
    ) -> Float[Array, "b l q m"]:
        """Returns p(x_s | x_t): the probability of each of the k codes, and last of the mask.

        Args:
            logits: of pi, float32.
            x_t: codes, -1 where masked.
            t: of a shape that broadcasts to x_t.
            s: 0 <= s < t.
        """
        k = logits.shape[-1]
        t, s = t[..., None], s[..., None]
        alpha_t, alpha_s = 1.0 - self.noise_share(t), 1.0 - self.noise_share(s)
        gamma_t, gamma_s = self.mask_probability(t), self.mask_probability(s)
        beta_s = jnp.maximum(1.0 - alpha_s - gamma_s, 0.0) / k
        # From s to t: alpha and 1 - gamma multiply, the rest is drawn anew.
        alpha = alpha_t / jnp.maximum(alpha_s, TINY)
        beta = jnp.maximum((1.0 - gamma_t) / jnp.maximum(1.0 - gamma_s, TINY) - alpha, 0.0) / k
        is_x_t = jax.nn.one_hot(x_t, k)
        at_s = alpha_s * jax.nn.softmax(logits, axis=-1) + beta_s
        joint = at_s * (alpha * is_x_t + beta)
        kept = joint / jnp.maximum(jnp.sum(joint, axis=-1, keepdims=True), TINY)
        stays = gamma_s / jnp.maximum(gamma_t, TINY)
        revealed = at_s * (1.0 - stays) / jnp.maximum(1.0 - gamma_s, TINY)
        is_masked = (x_t == MASK)[..., None]
        codes = jnp.where(is_masked, revealed, kept)
        mask = jnp.where(is_masked, stays, 0.0)
        return jnp.concatenate([codes, jnp.broadcast_to(mask, (*x_t.shape, 1))], axis=-1)

    def oracle(
        self,
        x_0: Int[Array, "b l q"],
        x_t: Int[Array, "b l q"],
        noise: None,
        t: Float[Array, "b #l"],
        space: tuple[int, ...],
    ) -> Float[Array, "b l w"]:
        del x_t, noise, t
        sure = SURE * jax.nn.one_hot(x_0, space[0])  # b l q k
        return sure.reshape(*x_0.shape[:2], -1)
