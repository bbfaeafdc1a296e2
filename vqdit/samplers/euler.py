"""Euler: first-order integration of the probability-flow ODE, x_s = x_t + (s - t) v(x_t, t)."""

from vqdit.processes.base import Process
from vqdit.processes.flow import Flow
from vqdit.samplers.base import Carry, Sampler
from vqdit.typing import Array, Bool, Float, Key


class Euler(Sampler):
    """Euler steps for flow matching.

    Attributes:
        steps: number of network evaluations; 50 is usual.
    """

    steps: int = 50

    def check(self, process: Process) -> None:
        if not isinstance(process, Flow):
            raise ValueError(
                f"Euler integrates the Flow process, got {type(process).__name__}; "
                "use Unmasking for codes"
            )

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: Float[Array, "b l d"],
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
        known: Bool[Array, "b l"] | None,
    ) -> tuple[Float[Array, "b l d"], Carry]:
        del keys, process, known
        return x_t + (s - t) * prediction, carry
