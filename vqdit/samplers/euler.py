"""Euler: first-order steps along the probability-flow ODE, and with noise.

The step is a straight line in the variable of `ode.py`; on all paths but Flow's "gvp" it is DDIM's,
x_s = alpha_s x_0 + sigma_s eps. The ancestral one goes further down and draws what is missing, as
the samplers of K. Crowson's k-diffusion do; it is DDIM with eta = 1.
"""

from vqdit.processes.base import Process
from vqdit.samplers.base import Carry
from vqdit.samplers.ddim import DDIM
from vqdit.samplers.gaussian import GaussianSampler, gaussian
from vqdit.samplers.ode import along, slope
from vqdit.typing import Array, Float, Key


class Euler(GaussianSampler):
    """Euler steps along the ODE: the start alone decides the sample.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: where they lie.
    """

    steps: int = 50

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[Float[Array, "b l d"], Carry]:
        del keys
        process = gaussian(process)
        return along(process, x_t, slope(process, prediction, x_t, t), t, s), carry


class EulerAncestral(DDIM):
    """Euler steps that draw as much noise as the posterior of the process has.

    Attributes:
        steps: number of network evaluations; 50 is usual.
        spacing: where they lie.
        eta: in [0, 1], how much of that noise is drawn.
    """

    eta: float = 1.0
