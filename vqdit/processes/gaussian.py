"""What all Gaussian processes share: data are scaled down and normal noise is added.

    x_t = alpha(t) x_0 + sigma(t) eps,      eps ~ N(0, I).

They differ in alpha and sigma, and in what the network predicts: always a target

    a(t) x_0 + b(t) eps,

so that x_t and it give an estimate of x_0 and of eps, two equations for two unknowns: samplers know
nothing else. Kingma et al., "Variational Diffusion Models", arXiv:2107.00630.
"""

import jax.numpy as jnp

from vqdit.processes.base import Process
from vqdit.processes.weighting import Weighting
from vqdit.random import normal
from vqdit.typing import Array, Float, Key

LEAST_VARIANCE = 1e-20
"""Below it a variance has no logarithm: the posterior at s = 0 has none."""


class Gaussian(Process):
    """A process over latents of unit scale.

    Attributes:
        weighting: of the loss at different noise; None weighs the squared error of the target alike
            everywhere.
    """

    weighting: Weighting | None = None

    @property
    def is_discrete(self) -> bool:
        return False

    def width(self, space: tuple[int, ...]) -> int:
        return space[0]

    def alpha(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the scale of the data: 1 at t = 0."""
        raise TypeError(f"{type(self).__name__} must define alpha")

    def sigma(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the scale of the noise: 0 at t = 0, and rising."""
        raise TypeError(f"{type(self).__name__} must define sigma")

    def coefficients(self, t: Float[Array, "*b"]) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
        """Returns a and b of the target a x_0 + b eps."""
        raise TypeError(f"{type(self).__name__} must define coefficients")

    def split(
        self, prediction: Float[Array, "b l w"]
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b l d"] | None]:
        """Returns what is guided, the estimate of the target, and what is not: of the variance."""
        return prediction, None

    def x_0_and_eps(
        self, prediction: Float[Array, "b l w"], x_t: Float[Array, "b l d"], t: Float[Array, "*b"]
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b l d"]]:
        """Returns what a prediction at t > 0 says of the data and of the noise in x_t.

        Args:
            prediction: of the network.
            x_t: the noisy latents.
            t: of a shape that broadcasts to x_t.
        """
        found, _ = self.split(prediction)
        alpha, sigma, (a, b) = self.alpha(t), self.sigma(t), self.coefficients(t)
        determinant = alpha * b - sigma * a
        return (b * x_t - sigma * found) / determinant, (alpha * found - a * x_t) / determinant

    def target(
        self, x_0: Float[Array, "b l d"], eps: Float[Array, "b l d"], t: Float[Array, "*b"]
    ) -> Float[Array, "b l d"]:
        """Returns what the network should predict; t broadcasts to x_0."""
        a, b = self.coefficients(t)
        return a * x_0 + b * eps

    def weight(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the weight of the squared error of the target, for t > 0."""
        if self.weighting is None:
            return jnp.ones_like(t)
        alpha, sigma, (a, b) = self.alpha(t), self.sigma(t), self.coefficients(t)
        # Given x_t, an error of x_0 makes one of (a - b alpha / sigma) times its size here.
        return self.weighting.weight(alpha, sigma) / (alpha * b - sigma * a) ** 2

    def transition(
        self, t: Float[Array, "*b"], s: Float[Array, "*b"]
    ) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
        """Returns the scale of x_s in x_t, s < t, and the variance of the noise added since."""
        scale = self.alpha(t) / self.alpha(s)
        return scale, jnp.maximum(self.sigma(t) ** 2 - (scale * self.sigma(s)) ** 2, 0.0)

    def posterior(
        self,
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, "*b"],
        s: Float[Array, "*b"],
    ) -> tuple[Float[Array, "b l d"], Float[Array, "*b"]]:
        """Returns the mean and the variance of x_s given x_0 and x_t, s < t."""
        scale, added = self.transition(t, s)
        share = added / self.sigma(t) ** 2
        kept = scale * (self.sigma(s) / self.sigma(t)) ** 2
        return kept * x_t + self.alpha(s) * share * x_0, share * self.sigma(s) ** 2

    def log_variance(
        self, prediction: Float[Array, "b l w"], t: Float[Array, "*b"], s: Float[Array, "*b"]
    ) -> Float[Array, "..."]:
        """Returns the logarithm of the variance of a step from t to s < t; finite at s = 0.

        The base's is that of the posterior given x_0, the least there is.

        Args:
            prediction: of the network at t.
            t: of a shape that broadcasts to x_t.
            s: of the same shape.
        """
        del prediction
        _, added = self.transition(t, s)
        return log_of(added * (self.sigma(s) / self.sigma(t)) ** 2)

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float[Array, "b l d"]:
        scale = self.sigma(jnp.float32(1.0))
        return scale * normal(keys, shape)

    def noise(
        self, keys: Key[Array, " b"], x_0: Float[Array, "b l d"], t: Float[Array, "b #l"]
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b l d"]]:
        eps, t = normal(keys, x_0.shape[1:]), t[..., None]
        return self.alpha(t) * x_0 + self.sigma(t) * eps, eps

    def loss(
        self,
        prediction: Float[Array, "b l w"],
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        noise: Float[Array, "b l d"],
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l"]:
        error = self.scoring_loss(prediction, x_0, x_t, noise, t)
        return self.weight(above_0(t)) * error

    def scoring_loss(
        self,
        prediction: Float[Array, "b l w"],
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        noise: Float[Array, "b l d"],
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l"]:
        del x_t
        found, _ = self.split(prediction)
        target = self.target(x_0, noise, t[..., None])
        error = jnp.mean((found.astype(jnp.float32) - target) ** 2, axis=-1)
        return jnp.where(t > 0, error, 0.0)

    def oracle(
        self,
        x_0: Float[Array, "b l d"],
        x_t: Float[Array, "b l d"],
        noise: Float[Array, "b l d"],
        t: Float[Array, "b #l"],
        space: tuple[int, ...],
    ) -> Float[Array, "b l w"]:
        del x_t, space
        return self.target(x_0, noise, t[..., None])


def above_0(t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Replaces t = 0, where there is no loss, by 1: a quotient there would poison the gradient."""
    return jnp.where(t > 0, t, 1.0)


def log_of(variance: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns the logarithm of a variance; finite for 0."""
    return jnp.log(jnp.maximum(variance, LEAST_VARIANCE))
