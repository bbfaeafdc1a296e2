"""Flow matching: the network predicts the velocity of x along a path from data to noise.

    x_t = alpha x_0 + sigma eps,      eps ~ N(0, I),      v = dx_t/dt = alpha' x_0 + sigma' eps.

On straight lines (rectified flow) alpha = 1 - t and sigma = t, so v = eps - x_0. On circles (gvp,
generalised variance-preserving) alpha = cos(pi t / 2) and sigma = sin(pi t / 2). The loss is the
mean squared error of v. Lipman et al., "Flow Matching for Generative Modeling", arXiv:2210.02747;
Liu et al., "Flow Straight and Fast", arXiv:2209.03003; gvp and the convention "noise_first" are
from Ma et al., "SiT", arXiv:2401.08740.
"""

from typing import Literal

import jax.numpy as jnp

from vqdit.processes.base import TIME_SCALE, NetworkInput, Time, Values, X
from vqdit.processes.gaussian import Gaussian

LEAST_SIGMA = 0.05
"""Lower bound of sigma in the weight that converts an error of x_0 to an error of v."""


class Flow(Gaussian):
    """Flow matching over latents of unit scale.

    Attributes:
        path: "linear" or "gvp".
        prediction: what the network predicts: "v" or "x_0". For "x_0" without a weighting, the loss
            is the error of the v that is computed from x_0 (JiT: Li & He, "Back to Basics",
            arXiv:2511.13720).
        convention: time and velocity of the network: t and v ("data_first"), or 1 - t and -v
            ("noise_first", as in SiT and JiT). It affects only the network; t = 0 is always data.
        time_scale: factor on the time before its embedding; 1 in SiT.
    """

    path: Literal["linear", "gvp"] = "linear"
    prediction: Literal["v", "x_0"] = "v"
    convention: Literal["data_first", "noise_first"] = "data_first"
    time_scale: float = TIME_SCALE

    def __post_init__(self) -> None:
        self.require("time_scale > 0", self.time_scale > 0.0, "1000 is usual; SiT uses 1")

    def alpha(self, t: Values) -> Values:
        # cos(pi t / 2), written so that it is exactly 0 at t = 1 in floating point.
        return 1.0 - t if self.path == "linear" else jnp.sin(jnp.pi / 2 * (1.0 - t))

    def sigma(self, t: Values) -> Values:
        return t if self.path == "linear" else jnp.sin(jnp.pi / 2 * t)

    def slopes(self, t: Values) -> tuple[Values, Values]:
        """Returns the time derivatives of alpha and sigma."""
        if self.path == "linear":
            return -jnp.ones_like(t), jnp.ones_like(t)
        return -jnp.pi / 2 * self.sigma(t), jnp.pi / 2 * self.alpha(t)

    def coefficients(self, t: Values) -> tuple[Values, Values]:
        if self.prediction == "x_0":
            return jnp.ones_like(t), jnp.zeros_like(t)
        slopes = self.slopes(t)
        return slopes if self.convention == "data_first" else (-slopes[0], -slopes[1])

    def weight(self, t: Values) -> Values:
        if self.weighting is not None or self.prediction == "v":
            return super().weight(t)
        alpha, sigma, (da, ds) = self.alpha(t), self.sigma(t), self.slopes(t)
        return ((da * sigma - ds * alpha) / jnp.maximum(sigma, LEAST_SIGMA)) ** 2

    def network_input(self, x_t: X, t: Time) -> NetworkInput:
        time = t if self.convention == "data_first" else 1.0 - t
        return NetworkInput(x_t, self.time_scale * time)
