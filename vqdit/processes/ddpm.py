"""DDPM: variance-preserving diffusion with a table of betas.

    alpha^2 + sigma^2 = 1,      alpha_i^2 = prod_{j <= i} (1 - beta_j),      i = 0 ... N - 1.

Step i of the table is at t = (i + 1) / N. Between steps log alpha is linear in t, so t may be any
number in [0, 1]. The variance of a step from t to s is between the variance of the posterior given
x_0 and the variance of the noise added between s and t. A learned variance interpolates between the
logarithms of these bounds. Ho et al., "Denoising Diffusion Probabilistic Models", arXiv:2006.11239;
cosine schedule and learned variance: Nichol & Dhariwal, "Improved DDPM", arXiv:2102.09672; v:
Salimans & Ho, "Progressive Distillation", arXiv:2202.00512.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.processes.base import Latents, Loss, NetworkInput, Noise, Prediction, Time, Values, X
from vqdit.processes.gaussian import Gaussian, above_0, log_of
from vqdit.processes.likelihood import binned_log_likelihood, gaussian_kl
from vqdit.typing import Array, Float


def linear_betas(steps: int) -> np.ndarray:
    """Returns betas from 1e-4 to 0.02 for 1000 steps; for other numbers, scaled by 1000 / steps."""
    return np.linspace(0.1 / steps, 20.0 / steps, steps)


def scaled_linear_betas(steps: int) -> np.ndarray:
    """Returns the betas of Stable Diffusion, whose square roots are linear."""
    return np.linspace(math.sqrt(0.85 / steps), math.sqrt(12.0 / steps), steps) ** 2


def cosine_betas(steps: int) -> np.ndarray:
    """Returns betas for which alpha^2 is a squared cosine; they are at most 0.999."""
    t = np.linspace(0.0, 1.0, steps + 1)
    alpha_2 = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1.0 - alpha_2[1:] / alpha_2[:-1], 0.999)


BETAS = {"linear": linear_betas, "scaled_linear": scaled_linear_betas, "cosine": cosine_betas}


class DDPM(Gaussian):
    """Variance-preserving diffusion.

    Attributes:
        schedule: schedule of the betas.
        steps: N, the length of the table of betas; the network embeds the index of the step.
        prediction: what the network predicts: "eps" (the noise), "x_0" (the data) or "v".
        learned_sigma: whether the network also predicts the variance of every step, in additional
            channels, one per channel of the latents. These channels are trained by the variational
            bound, which is added to the loss and has no gradient with respect to the other
            channels.
    """

    schedule: Literal["linear", "scaled_linear", "cosine"] = "linear"
    steps: int = 1000
    prediction: Literal["eps", "x_0", "v"] = "eps"
    learned_sigma: bool = False

    def __post_init__(self) -> None:
        self.require("steps >= 2", self.steps >= 2, "1000 is usual")

    def alpha(self, t: Values) -> Values:
        return jnp.exp(self._log_alpha(t))

    def sigma(self, t: Values) -> Values:
        return jnp.sqrt(-jnp.expm1(2.0 * self._log_alpha(t)))

    def _log_alpha(self, t: Values) -> Values:
        steps = np.log1p(-BETAS[self.schedule](self.steps))
        table = jnp.asarray(np.concatenate([[0.0], 0.5 * np.cumsum(steps)]), jnp.float32)
        place = self.steps * jnp.asarray(t, jnp.float32)
        below = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, self.steps - 1)
        return table[below] + (place - below) * (table[below + 1] - table[below])

    def network_input(self, x_t: X, t: Time) -> NetworkInput:
        return NetworkInput(x_t, jnp.maximum(self.steps * t - 1.0, 0.0))

    def coefficients(self, t: Values) -> tuple[Values, Values]:
        if self.prediction == "eps":
            return jnp.zeros_like(t), jnp.ones_like(t)
        if self.prediction == "x_0":
            return jnp.ones_like(t), jnp.zeros_like(t)
        return -self.sigma(t), self.alpha(t)

    def width(self, space: tuple[int, ...]) -> int:
        return 2 * space[0] if self.learned_sigma else space[0]

    def split(self, prediction: Prediction) -> tuple[Latents, Latents | None]:
        if not self.learned_sigma:
            return prediction, None
        found, fraction = jnp.split(prediction, 2, axis=-1)
        return found, fraction

    def log_variance(self, prediction: Prediction, t: Values, s: Values) -> Float[Array, "..."]:
        _, fraction = self.split(prediction)
        if fraction is None:
            return super().log_variance(prediction, t, s)
        # The posterior variance at s = 0 is 0; it is replaced by the value of the previous step, as
        # published.
        is_last = s <= 0
        before = jnp.where(is_last, jnp.minimum(2.0 * t, 1.0), t)
        least = super().log_variance(prediction, before, jnp.where(is_last, t, s))
        most = log_of(self.transition(t, s)[1])
        share = (fraction.astype(jnp.float32) + 1.0) / 2.0
        return share * most + (1.0 - share) * least

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        loss = super().loss(prediction, x_0, x_t, noise, t)
        if not self.learned_sigma:
            return loss
        # Eq. 16 of Improved DDPM: 0.001 times the bound, a sum of N terms.
        bound = self.steps / 1000.0 * self.bound(prediction, x_0, x_t, above_0(t))
        return loss + jnp.where(t > 0, bound, 0.0)

    def bound(self, prediction: Prediction, x_0: Latents, x_t: Latents, t: Time) -> Loss:
        """Returns the bound's term for the step from t > 0 to t - 1 / N, in bits per channel.

        The gradient is only with respect to the learned variance. The term of the step from 1 / N
        to 0 is the likelihood of 8-bit pixels, as in the published code of DiT, which uses it even
        for latents.
        """
        t = t[..., None]
        is_last = self.steps * t < 1.5
        s = jnp.where(is_last, 0.0, t - 1.0 / self.steps)
        found, _ = self.x_0_and_eps(jax.lax.stop_gradient(prediction), x_t, t)
        log_variance = self.log_variance(prediction, t, s)
        true, _ = self.posterior(x_0, x_t, t, s)
        mean, _ = self.posterior(found, x_t, t, s)
        kl = gaussian_kl(true - mean, super().log_variance(prediction, t, s), log_variance)
        # In other steps the mean is far from x_0, and the unused likelihood would overflow.
        mean = jnp.where(is_last, mean, x_0)
        nats = jnp.where(is_last, -binned_log_likelihood(x_0, mean, log_variance), kl)
        return jnp.mean(nats, axis=-1) / math.log(2.0)

    def oracle(self, x_0: X, x_t: X, noise: Noise, t: Time, space: tuple[int, ...]) -> Prediction:
        target = super().oracle(x_0, x_t, noise, t, space)
        if not self.learned_sigma:
            return target
        # Given x_0, the optimal variance is that of the posterior, which a fraction of -1 selects.
        return jnp.concatenate([target, -jnp.ones_like(target)], axis=-1)
