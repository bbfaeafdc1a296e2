"""The probability-flow ODE of a Gaussian process, in the variable in which it is nearly straight.

For Flow that is t, along which x moves by alpha' x_0 + sigma' eps; for the others the noise level
sigma / alpha, along which x / alpha moves by eps (Karras et al., arXiv:2206.00364, eq. 3).
"""

from vqdit.processes import Flow
from vqdit.processes.gaussian import Gaussian
from vqdit.typing import Array, Float


def slope(
    process: Gaussian,
    prediction: Float[Array, "b l w"],
    x_t: Float[Array, "b l d"],
    t: Float[Array, ""],
) -> Float[Array, "b l d"]:
    """Returns in which direction x moves at t > 0."""
    x_0, eps = process.x_0_and_eps(prediction, x_t, t)
    if not isinstance(process, Flow):
        return eps
    alpha, sigma = process.slopes(t)
    return alpha * x_0 + sigma * eps


def along(
    process: Gaussian,
    x_t: Float[Array, "b l d"],
    direction: Float[Array, "b l d"],
    t: Float[Array, ""],
    s: Float[Array, ""],
) -> Float[Array, "b l d"]:
    """Returns x_s by a straight line from x_t."""
    if isinstance(process, Flow):
        return x_t + (s - t) * direction
    scale = process.alpha(s) / process.alpha(t)
    return scale * x_t + (process.sigma(s) - scale * process.sigma(t)) * direction
