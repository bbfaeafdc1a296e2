"""The contract of a sampler, and `generate`: one `lax.scan` for every modality at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vqdit.processes.base import Process, X
from vqdit.random import streams
from vqdit.typing import Array, Bool, Component, Float, Key, Named

Carry = Any
Predict = Callable[[Named[X], Named[Float[Array, "b _"]]], Named[Float[Array, "b _ _"]]]
"""The network with parameters and guidance bound: (x, t of every modality) -> predictions."""


class Sampler(Component):
    """One way to go from noise to data.

    Attributes:
        steps: number of network evaluations.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{type(self).__name__} needs steps >= 1, got {self.steps}")

    def check(self, process: Process) -> None:
        """Raises ValueError if this sampler cannot run that process."""
        raise TypeError(f"{type(self).__name__} must define check")

    def init(self, process: Process, x_1: X) -> Carry:
        """Returns what the sampler keeps between steps. Default: nothing."""
        del process, x_1
        return ()

    def step(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction: Float[Array, "b l w"],
        x_t: X,
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
        known: Bool[Array, "b l"] | None,
    ) -> tuple[X, Carry]:
        """Takes x from t to s < t. `generate` puts back what is `known` (None: nothing is)."""
        raise TypeError(f"{type(self).__name__} must define step")


def shared_steps(samplers: Named[Sampler]) -> int:
    """Returns the number of steps of samplers that run together.

    Raises:
        ValueError: there is none, or their numbers differ.
    """
    steps = {name: sampler.steps for name, sampler in samplers.items()}
    if len(set(steps.values())) != 1:
        shown = ", ".join(f"{name} {count}" for name, count in steps.items()) or "no sampler"
        raise ValueError(
            "samplers of targets that are generated together must take the same number of steps; "
            f"got {shown}"
        )
    return next(iter(steps.values()))


def generate(
    keys: Key[Array, " b"],
    predict: Predict,
    samplers: Named[Sampler],
    processes: Named[Process],
    x_1: Named[X],
    times: Named[Float[Array, " times"]],
    *,
    known: Named[Bool[Array, "b _"]] | None = None,
) -> Named[X]:
    """Generates all modalities of `samplers` together.

    Args:
        keys: one per sample; a sample depends on its own key alone.
        predict: the network.
        samplers: one for each modality to generate.
        processes: their processes.
        x_1: the start of every modality that the network takes: noise where unknown, and the
            data themselves where `known`.
        times: for every modality in `x_1`, n + 1 falling times from 1 to 0; constant 0 for one
            that is given, constant 1 for one that stays unknown.
        known: True at positions that are given; they are seen at t = 0 and never change.

    Returns:
        The modalities of `samplers` at t = 0.
    """
    known = known or Named()
    carries = Named(
        {name: sampler.init(processes[name], x_1[name]) for name, sampler in samplers.items()}
    )

    def scan(state, now):
        x, carries = state
        number, t, s = now
        predictions = predict(
            x, Named({name: _seen_at(t[name], x[name], known.get(name)) for name in x})
        )
        new, kept = {}, {}
        for name, sampler in samplers.items():
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, name), number)
            x_s, kept[name] = sampler.step(
                step_keys,
                processes[name],
                predictions[name],
                x[name],
                t[name],
                s[name],
                carries[name],
                known.get(name),
            )
            new[name] = _put_back(x_s, x[name], known.get(name))
        return (x | new, Named(kept)), None

    steps = jnp.arange(next(iter(times.values())).shape[0] - 1)
    before = jax.tree.map(lambda time: time[:-1], times)
    after = jax.tree.map(lambda time: time[1:], times)
    (x_0, _), _ = jax.lax.scan(scan, (x_1, carries), (steps, before, after))
    return Named({name: x_0[name] for name in samplers})


def _seen_at(t: Float[Array, ""], x: X, known: Bool[Array, "b l"] | None) -> Float[Array, "b #l"]:
    """Known positions are seen at t = 0; one time per example where none is."""
    if known is None:
        return jnp.full((x.shape[0], 1), t)
    return jnp.where(known, 0.0, t)


def _put_back(x_s: X, x: X, known: Bool[Array, "b l"] | None) -> X:
    return x_s if known is None else jnp.where(known[..., None], x, x_s)
