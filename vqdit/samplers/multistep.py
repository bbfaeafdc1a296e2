"""Shared parts of multistep solvers: estimates of earlier steps, and integrals of exponentials.

In lambda = log(alpha / sigma) the probability-flow ODE has the exact solution

    x_s = (sigma_s / sigma_t) x_t + alpha_s int_0^h e^(u - h) x_0(lambda_t + u) du,

and solvers of higher order expand x_0 around lambda_t, using the estimates of earlier steps.
Lu et al., "DPM-Solver++", arXiv:2211.01095, eq. 9.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp

from vqdit.typing import Array, Float, Int

TERMS = 12
"""Terms of the series in `phi`: enough for float32."""


class History(NamedTuple):
    """The last m steps, the latest first; unused entries have estimate 0 and time 1.

    Attributes:
        estimates: estimates of x_0.
        times: the times of these estimates.
        taken: number of steps taken.
        total: total number of steps.
    """

    estimates: Float[Array, "m b l d"]
    times: Float[Array, " m"]
    taken: Int[Array, ""]
    total: Int[Array, ""]

    @classmethod
    def begin(
        cls, x_1: Float[Array, "b l d"], times: Float[Array, " times"], length: int
    ) -> "History":
        """Returns an empty history with room for `length` steps."""
        return cls(
            estimates=jnp.zeros((length, *x_1.shape), x_1.dtype),
            times=jnp.ones(length, jnp.float32),
            taken=jnp.int32(0),
            total=jnp.sum(times[1:] < times[:-1], dtype=jnp.int32),
        )

    def append(self, x_0: Float[Array, "b l d"], t: Float[Array, ""]) -> "History":
        """Returns the history with one more step, which replaces the oldest."""
        return self._replace(
            estimates=jnp.concatenate([x_0[None], self.estimates[:-1]]),
            times=jnp.concatenate([t[None], self.times[:-1]]),
            taken=self.taken + 1,
        )

    @property
    def left(self) -> Int[Array, ""]:
        """Number of remaining steps, including the current one."""
        return self.total - self.taken


def phi(number: int, h: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns phi_n(h), the sum over k >= 1 of h^k / (k + n - 1)!; phi_1(h) = e^h - 1.

    n is `number`. For large h, phi_n is computed with the recurrence phi_(n+1)(h) = phi_n(h) / h -
    1 / n!. For small h, where the recurrence suffers from cancellation, the sum is used.
    """
    near = jnp.clip(h, -1.0, 1.0)
    series = sum(near**k / float(math.factorial(k + number - 1)) for k in range(1, TERMS))
    far = jnp.where(jnp.abs(h) > 1.0, h, 1.0)
    value = jnp.expm1(far)
    for n in range(1, number):
        value = value / far - 1.0 / math.factorial(n)
    return jnp.where(jnp.abs(h) > 1.0, value, series)
