"""The interface of diffusion processes, and distributions of times in training.

t = 0 is data and t = 1 is noise in all of vqdit. Random operations have one key per example.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Int, Key

X = Any
"""The tokens of one modality: `Codes` for discrete processes, `Latents` for continuous ones."""
Codes = Int[Array, "b l q"]
"""Ids of a codebook; -1 is the mask."""
Latents = Float[Array, "b l d"]
Time = Float[Array, "b #l"]
"""t in [0, 1]: one value per example, or one per token."""
Values = Float[Array, "*b"]
"""Times of any shape, or a function of them, such as alpha(t)."""
Share = Float[Array, "..."]
"""Times or fractions of positions, of shapes that broadcast."""
Loss = Float[Array, "b l"]
"""The loss of every token."""
Prediction = Float[Array, "b l w"]
"""The output of the network for one modality."""
Index = Int[Array, " b"]
"""The row of each example in the global batch."""
Noise = Any
"""The noise in x_t that the loss needs: eps for Gaussian processes, None for discrete ones."""

TIME_SCALE = 1000.0
"""Factor on t before its embedding. The published embedding has frequencies for steps 0 to 999; for
t in [0, 1], the components with the lowest frequencies would be almost constant.
"""


class Noised(NamedTuple):
    """The result of `Process.noise`: x_t, and the noise in it."""

    x_t: X
    noise: Noise


class NetworkInput(NamedTuple):
    """The result of `Process.network_input`: the scaled x_t, and the time to embed."""

    x: X
    t: Time


class Process(Component):
    """Defines how data become noise, and the loss of predictions. All methods are pure."""

    @property
    def is_discrete(self) -> bool:
        """True if x holds codes, False if x holds latents."""
        raise TypeError(f"{type(self).__name__} must define the property 'is_discrete'")

    def width(self, space: tuple[int, ...]) -> int:
        """Returns the number of network outputs per position.

        Args:
            space: sizes of the q codebooks for discrete processes, (d,) for continuous ones.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'width'")

    def bind(self, space: tuple[int, ...]) -> "Process":
        """Returns the process for tokens of a space, as in `width`. Default: no change."""
        del space
        return self

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> X:
        """Draws x at t = 1; `shape` is the shape of one example."""
        raise TypeError(f"{type(self).__name__} must define the method 'prior'")

    def noise(self, keys: Key[Array, " b"], x_0: X, t: Time) -> Noised:
        """Draws x_t given x_0."""
        raise TypeError(f"{type(self).__name__} must define the method 'noise'")

    def network_input(self, x_t: X, t: Time) -> NetworkInput:
        """Returns the input of the network. Default: x_t unscaled, and t times `TIME_SCALE`."""
        return NetworkInput(x_t, TIME_SCALE * t)

    def loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        """Returns the weighted training loss of every token; loss and gradient are 0 where t = 0.

        Args:
            prediction: the network's prediction at t.
            x_0: the data.
            x_t: the noisy data, which the method `noise` returned.
            noise: the noise in x_t, which the same call returned.
            t: the times.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'loss'")

    def scoring_loss(self, prediction: Prediction, x_0: X, x_t: X, noise: Noise, t: Time) -> Loss:
        """Returns the loss of every token for scores, without weighting; lower is better.

        For discrete processes, its mean over t ~ U(0, 1] and the noise is an upper bound on the
        negative log-likelihood -log p(x_0) in nats. For continuous processes it is the denoising
        error, the squared error of the prediction averaged over channels, which is not a
        likelihood.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'scoring_loss'")

    def noise_share(self, t: Values) -> Values:
        """Returns the expected fraction of codes that are noise (discrete processes only)."""
        raise TypeError(f"{type(self).__name__} must define the method 'noise_share'")

    def time_at(self, share: Values) -> Values:
        """Inverts `noise_share`: returns the t at which `share` of the codes are expected noise."""
        raise TypeError(f"{type(self).__name__} must define the method 'time_at'")

    def time_seen(self, t: Share, open_share: Share, noise: Share | float = 0.0) -> Share:
        """Returns the time that the network gets if only some positions follow the process.

        At this time, the fraction of noise that the process expects equals the expected fraction of
        noise in the example (discrete processes only).

        Args:
            t: time of the positions that follow the process.
            open_share: fraction of the positions that follow the process.
            noise: fraction of the positions that are noise at every time; all other positions are
                known.
        """
        return self.time_at(noise + open_share * self.noise_share(t))

    def oracle(self, x_0: X, x_t: X, noise: Noise, t: Time, space: tuple[int, ...]) -> Prediction:
        """Returns the prediction that minimises the loss given x_0; tests use it as a network."""
        raise TypeError(f"{type(self).__name__} must define the method 'oracle'")


class TimeDistribution(Component):
    """The distribution of t in training, given by its quantile function."""

    def sample(self, key: Key[Array, ""], index: Index, size: int) -> Float[Array, "b 1"]:
        """Draws one t in (0, 1] per example.

        Args:
            key: the key of the training step.
            index: the row of each example in the global batch.
            size: number of examples in the global batch.
        """
        return self.quantile(strata(key, index, size))[:, None]

    def quantile(self, u: Values) -> Values:
        """Returns the u-quantile of t, u in (0, 1]; strictly increasing in u."""
        raise TypeError(f"{type(self).__name__} must define the method 'quantile'")


class Uniform(TimeDistribution):
    """t ~ U(low, 1].

    Attributes:
        low: smallest t, in [0, 1); values above 0 bound weights such as 1 / t.
    """

    low: float = 1e-3

    def __post_init__(self) -> None:
        self.require("low in [0, 1)", 0.0 <= self.low < 1.0)

    def quantile(self, u: Values) -> Values:
        return self.low + (1.0 - self.low) * u


class LogitNormal(TimeDistribution):
    """t = sigmoid(mean + std * n), n ~ N(0, 1), which favours intermediate noise.

    Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206, section 3.1.

    Attributes:
        mean: mean of logit(t); positive values favour noise (t = 1).
        std: standard deviation of logit(t), > 0.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        self.require("std > 0", self.std > 0.0)

    def quantile(self, u: Values) -> Values:
        u = jnp.clip(u, 1e-6, 1.0 - 1e-6)
        return jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u))


def strata(key: Key[Array, ""], index: Index, size: int) -> Float[Array, " b"]:
    """Draws u in (0, 1] per example, one in each of `size` equal strata.

    `index` is the row of each example in the global batch of `size` examples. The whole batch
    shares one random number. The variance of the loss is then much smaller than with independent
    draws. This is the low-discrepancy sampling of Kingma et al., "Variational Diffusion Models",
    arXiv:2107.00630, appendix I.1.
    """
    u = jax.random.uniform(key, dtype=jnp.float32)
    return 1.0 - jnp.mod(u + index / size, 1.0)  # in (0, 1]: at t = 0 there is nothing to learn
