"""What multistep solvers share: the estimates of earlier steps, and integrals of exponentials.

In lambda = log(alpha / sigma) the probability-flow ODE has the exact solution

    x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) x_0(lambda_t + u) du,

and solvers of higher order expand the estimate of x_0 about lambda_t by those of earlier steps.
Lu et al., "DPM-Solver++", arXiv:2211.01095, eq. 9.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from vqdit.typing import Array, Float, Int

TERMS = 12
"""Of the series of `phi`: float32 knows no more where it is used."""


class History(NamedTuple):
    """Earlier steps, the latest first; what has not been yet is 0 at t = 1.

    Attributes:
        estimates: of x_0.
        times: at which they were made.
        taken: how many steps lie behind.
        total: how many there are.
    """

    estimates: Float[Array, "m b l d"]
    times: Float[Array, " m"]
    taken: Int[Array, ""]
    total: Int[Array, ""]

    @classmethod
    def begin(
        cls, x_1: Float[Array, "b l d"], times: Float[Array, " times"], length: int
    ) -> "History":
        """Returns a history of so many steps, before the first."""
        return cls(
            estimates=jnp.zeros((length, *x_1.shape), x_1.dtype),
            times=jnp.ones(length),
            taken=jnp.int32(0),
            total=jnp.sum(times[1:] < times[:-1], dtype=jnp.int32),
        )

    def append(self, x_0: Float[Array, "b l d"], t: Float[Array, ""]) -> "History":
        """Returns the history after one more step, without the oldest."""
        return self._replace(
            estimates=jnp.concatenate([x_0[None], self.estimates[:-1]]),
            times=jnp.concatenate([t[None], self.times[:-1]]),
            taken=self.taken + 1,
        )

    @property
    def left(self) -> Int[Array, ""]:
        """How many steps are left."""
        return self.total - self.taken


def phi(number: int, h: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns the sum of h^k / (k + n - 1)! over k >= 1, for a number n: e^h - 1 for 1.

    Each is the one below over h, less 1 / (n - 1)!; of a small h that would lose all digits.
    """
    near = jnp.clip(h, -1.0, 1.0)
    series = sum(near**k / float(math.factorial(k + number - 1)) for k in range(1, TERMS))
    far = jnp.where(jnp.abs(h) > 1.0, h, 1.0)
    value = jnp.expm1(far)
    for n in range(1, number):
        value = value / far - 1.0 / math.factorial(n)
    return jnp.where(jnp.abs(h) > 1.0, value, series)
