"""Base class of Gaussian processes, which scale the data and add normal noise.

    x_t = alpha(t) x_0 + sigma(t) eps,      eps ~ N(0, I).

Processes differ in alpha and sigma, and in the coefficients a and b of the network's target

    a(t) x_0 + b(t) eps.

The equations of the target and of x_t are linear in x_0 and eps, so a prediction determines
estimates of both. Samplers use only these estimates. Kingma et al., "Variational Diffusion Models",
arXiv:2107.00630.
"""

import jax.numpy as jnp

from vqdit.processes.base import Latents, Loss, Noise, Noised, Prediction, Process, Time, Values, X
from vqdit.processes.weighting import Weighting
from vqdit.random import normal
from vqdit.typing import Array, Float, Key

LEAST_VARIANCE = 1e-20
"""Lower bound of a variance in a logarithm: the posterior at s = 0 has variance 0."""


class Gaussian(Process):
    """A process over latents of unit scale.

    Attributes:
        weighting: weight of the loss as a function of the noise level; None gives the squared error
            of the target the same weight at all levels.
    """

    weighting: Weighting | None = None

    @property
    def is_discrete(self) -> bool:
        return False

    def width(self, space: tuple[int, ...]) -> int:
        return space[0]

    def alpha(self, t: Values) -> Values:
        """Returns the scale of the data: 1 at t = 0."""
        raise TypeError(f"{type(self).__name__} must define the method 'alpha'")

    def sigma(self, t: Values) -> Values:
        """Returns the scale of the noise: 0 at t = 0, increasing in t."""
        raise TypeError(f"{type(self).__name__} must define the method 'sigma'")

    def coefficients(self, t: Values) -> tuple[Values, Values]:
        """Returns a and b of the target a x_0 + b eps."""
        raise TypeError(f"{type(self).__name__} must define the method 'coefficients'")

    def split(self, prediction: Prediction) -> tuple[Latents, Latents | None]:
        """Splits a prediction into the target and, if it is learned, the variance."""
        return prediction, None

    def x_0_and_eps(
        self, prediction: Prediction, x_t: Latents, t: Values
    ) -> tuple[Latents, Latents]:
        """Returns the estimates of x_0 and eps from a prediction at t > 0.

        The times broadcast to x_t.
        """
        found, _ = self.split(prediction)
        alpha, sigma, (a, b) = self.alpha(t), self.sigma(t), self.coefficients(t)
        determinant = alpha * b - sigma * a
        return (b * x_t - sigma * found) / determinant, (alpha * found - a * x_t) / determinant

    def target(self, x_0: Latents, eps: Latents, t: Values) -> Latents:
        """Returns the target of the network; t must broadcast to x_0."""
        a, b = self.coefficients(t)
        return a * x_0 + b * eps

    def weight(self, t: Values) -> Values:
        """Returns the weight of the squared error of the target, for t > 0."""
        if self.weighting is None:
            return jnp.ones_like(t)
        alpha, sigma, (a, b) = self.alpha(t), self.sigma(t), self.coefficients(t)
        # Given x_t, an error e of x_0 implies an error (a - b alpha / sigma) e of the target.
        return self.weighting.weight(alpha, sigma) / (alpha * b - sigma * a) ** 2

    def transition(self, t: Values, s: Values) -> tuple[Values, Values]:
        """Returns c and v of x_t = c x_s + sqrt(v) z for s < t, with z ~ N(0, I)."""
        scale = self.alpha(t) / self.alpha(s)
        return scale, jnp.maximum(self.sigma(t) ** 2 - (scale * self.sigma(s)) ** 2, 0.0)

    def posterior(self, x_0: Latents, x_t: Latents, t: Values, s: Values) -> tuple[Latents, Values]:
        """Returns the mean and the variance of x_s given x_0 and x_t, s < t."""
        scale, added = self.transition(t, s)
        share = added / self.sigma(t) ** 2
        kept = scale * (self.sigma(s) / self.sigma(t)) ** 2
        return kept * x_t + self.alpha(s) * share * x_0, share * self.sigma(s) ** 2

    def log_variance(self, prediction: Prediction, t: Values, s: Values) -> Float[Array, "..."]:
        """Returns the log variance of x_s in a sampling step from t to s < t; finite at s = 0.

        Default: the variance of the posterior given x_0, which is the smallest possible variance.
        `prediction` is the network's output at t; t and s broadcast to x_t.
        """
        del prediction
        _, added = self.transition(t, s)
        return log_of(added * (self.sigma(s) / self.sigma(t)) ** 2)

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Latents:
        return self.sigma(jnp.float32(1.0)) * normal(keys, shape)

    def noise(self, keys: Key[Array, " b"], x_0: Latents, t: Time) -> Noised:
        eps, t = normal(keys, x_0.shape[1:]), t[..., None]
        return Noised(self.alpha(t) * x_0 + self.sigma(t) * eps, eps)

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        return self.weight(above_0(t)) * self.scoring_loss(prediction, x_0, x_t, noise, t)

    def scoring_loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        del x_t
        found, _ = self.split(prediction)
        target = self.target(x_0, noise, t[..., None])
        error = jnp.mean((found.astype(jnp.float32) - target) ** 2, axis=-1)
        return jnp.where(t > 0, error, 0.0)

    def oracle(self, x_0: X, x_t: X, noise: Noise, t: Time, space: tuple[int, ...]) -> Prediction:
        del x_t, space
        return self.target(x_0, noise, t[..., None])


def above_0(t: Values) -> Values:
    """Replaces t = 0, which has no loss, by 1, as a division by 0 would make gradients NaN."""
    return jnp.where(t > 0, t, 1.0)


def log_of(variance: Values) -> Values:
    """Returns the logarithm of a variance; finite for 0."""
    return jnp.log(jnp.maximum(variance, LEAST_VARIANCE))
