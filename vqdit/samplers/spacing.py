"""Spacings, which distribute the times of a sampler's steps between t = 1 and t = 0.

By default, times fall from 1 to 0 in equal steps. A spacing changes all times but the end points.
Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
arXiv:2206.00364, eq. 5; the shift is from Esser et al., "Scaling Rectified Flow Transformers",
arXiv:2403.03206, eq. 23.
"""

import jax
import jax.numpy as jnp

from vqdit.processes import DDPM, Gaussian
from vqdit.processes.base import Process
from vqdit.processes.times import shifted
from vqdit.typing import Array, Component, Float, Int


class Spacing(Component):
    """The distribution of a sampler's times."""

    def check(self, process: Process) -> None:
        """Raises ValueError if this spacing does not support the process. Default: never raises."""
        del process

    def times(self, process: Gaussian, times: Float[Array, " times"]) -> Float[Array, " times"]:
        """Returns the spaced times; see `Sampler.times`."""
        raise TypeError(f"{type(self).__name__} must define the method 'times'")


class Even(Spacing):
    """Equal steps in t, starting at 1 ("trailing" in other libraries)."""

    def times(self, process: Gaussian, times: Float[Array, " times"]) -> Float[Array, " times"]:
        del process
        return times


class Shifted(Spacing):
    """t -> shift t / (1 + (shift - 1) t), which multiplies the noise level t / (1 - t) by `shift`.

    Attributes:
        shift: factor > 0; values above 1 place more steps at high noise, which is better for data
            with many tokens. 3 is usual for large images.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        self.require("shift > 0", self.shift > 0.0, "1 shifts nothing")

    def times(self, process: Gaussian, times: Float[Array, " times"]) -> Float[Array, " times"]:
        del process
        return shifted(times, self.shift)


class Karras(Spacing):
    """Equal steps in (sigma / alpha)^(1 / rho) down to `sigma_min`, then one step to 0.

    Attributes:
        rho: exponent; larger values place more steps at low noise.
        sigma_min: noise level sigma / alpha before the last step.
    """

    rho: float = 7.0
    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        self.require("rho > 0", self.rho > 0.0)
        self.require("sigma_min > 0", self.sigma_min > 0.0)

    def check(self, process: Process) -> None:
        if not isinstance(process, Gaussian) or float(process.alpha(jnp.float32(1.0))) <= 0.0:
            raise ValueError(
                "Karras needs a process with a finite noise level sigma / alpha at t = 1, got "
                f"{type(process).__name__}; use Even or Shifted"
            )

    def times(self, process: Gaussian, times: Float[Array, " times"]) -> Float[Array, " times"]:
        number, count = numbered(times)
        high, low = noise_level(process, jnp.float32(1.0)), jnp.float32(self.sigma_min)
        share = jnp.minimum(number / jnp.maximum(count - 1, 1), 1.0)
        roots = high ** (1.0 / self.rho), low ** (1.0 / self.rho)
        level = (roots[0] + share * (roots[1] - roots[0])) ** self.rho
        found = jnp.where(number == 0, 1.0, time_of(process, level))
        return jnp.where(number == count, times[-1], found)


class Respaced(Spacing):
    """The times of evenly spaced, rounded indices of a DDPM's betas, with the first and last index.

    This is the respacing of published results of DDPMs ("linspace" in other libraries).
    """

    def check(self, process: Process) -> None:
        if not isinstance(process, DDPM):
            raise ValueError(f"Respaced needs a DDPM, got {type(process).__name__}; use Even")

    def times(self, process: Gaussian, times: Float[Array, " times"]) -> Float[Array, " times"]:
        if not isinstance(process, DDPM):
            raise TypeError(f"Respaced needs a DDPM, got {type(process).__name__}; use Even")
        number, count = numbered(times)
        gaps = jnp.maximum(count - 1, 1)
        step = jnp.round((process.steps - 1) * (gaps - number) / gaps)
        return jnp.where(number == count, times[-1], (step + 1.0) / process.steps)


def noise_level(process: Gaussian, t: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns sigma / alpha."""
    return process.sigma(t) / process.alpha(t)


def time_of(process: Gaussian, level: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Returns the t at which the noise level sigma / alpha has the value `level`, by bisection."""

    def halve(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        is_below = noise_level(process, middle) < level
        return jnp.where(is_below, middle, low), jnp.where(is_below, high, middle)

    ends = jnp.zeros_like(level), jnp.ones_like(level)
    return jax.lax.fori_loop(0, 40, halve, ends)[1]


def numbered(times: Float[Array, " times"]) -> tuple[Int[Array, " times"], Int[Array, ""]]:
    """Returns the number of falling steps before each time, and the number of all falling steps.

    In a falling step, the time at the end is less than the time at the start.
    """
    falls = jnp.cumsum(times[1:] < times[:-1])
    number = jnp.concatenate([jnp.zeros(1, falls.dtype), falls])
    return number, number[-1]
