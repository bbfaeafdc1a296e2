"""The contract of a diffusion process, and the laws by which training draws its times.

t = 0 is data and t = 1 is noise, everywhere. X stands for codes `Int["b l q"]` (discrete
processes; -1 is the mask) or latents `Float["b l d"]` (continuous ones); t is `Float["b #l"]`:
one value per example, or one per token. Randomness comes as one key per example.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Int, Key

X = Any
Noise = Any

TIME_SCALE = 1000.0
"""What t is multiplied by before it is embedded: the frequencies of the published embedding were
made for steps 0 to 999; with t in [0, 1] the lowest ones are almost constant."""


class Process(Component):
    """How data become noise, and how a prediction is scored. All methods are pure."""

    @property
    def is_discrete(self) -> bool:
        """True if x is codes, False if x is latents."""
        raise TypeError(f"{type(self).__name__} must define is_discrete")

    def width(self, space: tuple[int, ...]) -> int:
        """Returns the number of head outputs per position.

        Args:
            space: sizes of the q codebooks for discrete processes, (d,) for continuous ones.
        """
        raise TypeError(f"{type(self).__name__} must define width")

    def bind(self, space: tuple[int, ...]) -> "Process":
        """Returns the process over tokens of this space, as `width` takes it. Default: itself."""
        del space
        return self

    def prior(self, keys: Key[Array, " b"], shape: tuple[int, ...]) -> X:
        """Draws x at t = 1; `shape` is that of one example."""
        raise TypeError(f"{type(self).__name__} must define prior")

    def noise(self, keys: Key[Array, " b"], x_0: X, t: Float[Array, "b #l"]) -> tuple[X, Noise]:
        """Draws x_t given x_0; also returns what was drawn, for `loss`."""
        raise TypeError(f"{type(self).__name__} must define noise")

    def network_input(self, x_t: X, t: Float[Array, "b #l"]) -> tuple[X, Float[Array, "b #l"]]:
        """Returns what the network sees: the scaled x_t and the time it embeds."""
        return x_t, TIME_SCALE * t

    def loss(
        self,
        prediction: Float[Array, "b l w"],
        x_0: X,
        x_t: X,
        noise: Noise,
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l"]:
        """Returns the weighted, unreduced loss; 0 with zero gradient where t = 0."""
        raise TypeError(f"{type(self).__name__} must define loss")

    def scoring_loss(
        self,
        prediction: Float[Array, "b l w"],
        x_0: X,
        x_t: X,
        noise: Noise,
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l"]:
        """Returns what, averaged over t ~ U(0, 1] and the noise, says how well x_0 is predicted.

        Discrete processes: a bound on -log p(x_0), in nats, whatever the weighting of the loss.
        Continuous ones: a squared error, which is no likelihood.
        """
        raise TypeError(f"{type(self).__name__} must define scoring_loss")

    def noise_share(self, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the share of the codes that is noise; for discrete processes."""
        raise TypeError(f"{type(self).__name__} must define noise_share")

    def time_at(self, share: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the t at which a share of the codes is noise; for discrete processes."""
        raise TypeError(f"{type(self).__name__} must define time_at")

    def oracle(
        self, x_0: X, x_t: X, noise: Noise, t: Float[Array, "b #l"], space: tuple[int, ...]
    ) -> Float[Array, "b l w"]:
        """Returns the prediction that minimises the loss, knowing x_0: the process's own test."""
        raise TypeError(f"{type(self).__name__} must define oracle")


class TimeDistribution(Component):
    """The distribution of t in training."""

    def sample(
        self, key: Key[Array, ""], index: Int[Array, " b"], size: int
    ) -> Float[Array, "b 1"]:
        """Draws one t in (0, 1] per example of a global batch.

        Args:
            key: the step's key.
            index: the row of each example in the global batch.
            size: the size of the global batch.
        """
        return self.quantile(strata(key, index, size))[:, None]

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Returns the t that lies above a share u in (0, 1] of all draws: rising in u."""
        raise TypeError(f"{type(self).__name__} must define quantile")


class Uniform(TimeDistribution):
    """t ~ U(low, 1], one draw in each of b equal strata: far less variance than independent draws.

    Low-discrepancy sampling of Kingma et al., "Variational Diffusion Models", arXiv:2107.00630,
    appendix I.1: t_i = (u + i / b) mod 1 with one u for the whole batch.

    Attributes:
        low: the least t, in [0, 1); keeps weights such as 1 / t bounded.
    """

    low: float = 1e-3

    def __post_init__(self) -> None:
        if not 0.0 <= self.low < 1.0:
            raise ValueError(f"Uniform needs low in [0, 1), got {self.low}")

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return self.low + (1.0 - self.low) * u


class LogitNormal(TimeDistribution):
    """t = sigmoid(mean + std * n), n ~ N(0, 1): most training at intermediate noise.

    Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206, section 3.1.

    Attributes:
        mean: m; positive values move training towards noise (t = 1).
        std: s > 0.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0.0:
            raise ValueError(f"LogitNormal needs std > 0, got {self.std}")

    def quantile(self, u: Float[Array, "*b"]) -> Float[Array, "*b"]:
        u = jnp.clip(u, 1e-6, 1.0 - 1e-6)
        return jax.nn.sigmoid(self.mean + self.std * jax.scipy.special.ndtri(u))


def strata(key: Key[Array, ""], index: Int[Array, " b"], size: int) -> Float[Array, " b"]:
    """Returns one number in (0, 1] per example of a batch, one in each of `size` equal strata."""
    u = jax.random.uniform(key)
    return 1.0 - jnp.mod(u + index / size, 1.0)  # in (0, 1]: t = 0 has nothing to learn
