"""The probability-flow ODE of a Gaussian process, in a variable that makes it nearly linear.

For Flow, the variable is t, and the slope of x is alpha' x_0 + sigma' eps. For other processes it
is the noise level sigma / alpha, and the slope of x / alpha is eps (Karras et al.,
arXiv:2206.00364, eq. 3).
"""

from vqdit.processes import Flow
from vqdit.processes.base import Latents, Prediction
from vqdit.processes.gaussian import Gaussian
from vqdit.typing import Array, Float


def slope(process: Gaussian, prediction: Prediction, x_t: Latents, t: Float[Array, ""]) -> Latents:
    """Returns dx / dt for Flow, and d(x / alpha) / d(sigma / alpha) for other processes; t > 0."""
    x_0, eps = process.x_0_and_eps(prediction, x_t, t)
    if not isinstance(process, Flow):
        return eps
    alpha, sigma = process.slopes(t)
    return alpha * x_0 + sigma * eps


def along(
    process: Gaussian,
    x_t: Latents,
    direction: Latents,
    t: Float[Array, ""],
    s: Float[Array, ""],
) -> Latents:
    """Returns x_s after a step from t to s with the constant slope `direction`."""
    if isinstance(process, Flow):
        return x_t + (s - t) * direction
    scale = process.alpha(s) / process.alpha(t)
    return scale * x_t + (process.sigma(s) - scale * process.sigma(t)) * direction
