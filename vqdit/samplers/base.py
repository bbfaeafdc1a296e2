"""The contract of a sampler, and `generate`: one `lax.scan` for every modality at once."""

from collections.abc import Callable, Collection
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
        steps: number of steps, each from one time to the next.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"{type(self).__name__} needs steps >= 1, got {self.steps}")

    def check(self, process: Process) -> None:
        """Raises ValueError if this sampler cannot run that process."""
        raise TypeError(f"{type(self).__name__} must define check")

    def bind(self, grid: tuple[int, ...]) -> "Sampler":
        """Returns the sampler of tokens that lie on this grid. Default: itself."""
        del grid
        return self

    @property
    def evaluations(self) -> int:
        """How often the network runs in a step: 2 if the sampler defines `correct`."""
        return 1

    def times(self, process: Process, times: Float[Array, " times"]) -> Float[Array, " times"]:
        """Spaces times that fall from 1 to 0 in equal steps as this sampler likes them.

        What is constant stays so, and the ends stay where they are. Default: all as it is.
        """
        del process
        return times

    def init(self, process: Process, x_1: X, times: Float[Array, " times"]) -> Carry:
        """Returns what the sampler keeps between its steps. Default: nothing."""
        del process, x_1, times
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
    ) -> tuple[X, Carry]:
        """Takes x from t to s < t; `generate` puts back what is known."""
        raise TypeError(f"{type(self).__name__} must define step")

    def correct(
        self,
        keys: Key[Array, " b"],
        process: Process,
        prediction_at_s: Float[Array, "b l w"],
        x_s: X,
        x_t: X,
        t: Float[Array, ""],
        s: Float[Array, ""],
        carry: Carry,
    ) -> tuple[X, Carry]:
        """Takes x from t to s > 0 again, now that the network has seen what `step` found at s.

        Only samplers of two evaluations define it; the others go on from what they found.
        """
        raise TypeError(f"{type(self).__name__} must define correct")


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
    noised: Collection[str] = (),
) -> Named[X]:
    """Generates all modalities of `samplers` together.

    Args:
        keys: one per sample; a sample depends on its own key alone.
        predict: the network.
        samplers: one for each modality that may be generated.
        processes: their processes.
        x_1: the start of every modality that the network takes: noise where unknown, and the
            data themselves where known.
        times: for every modality in `x_1`, n + 1 times that do not rise. From 1 to 0 it is
            generated, in those steps in which its time falls; at a constant 0 it is given, at a
            constant 1 it stays unknown: either way it does not change.
        known: True at positions that are given, which never change. Latents are seen at t = 0
            there; codes at one time for all, that at which as many of them are noise.
        noised: modalities whose known positions are seen with as much noise as the others have,
            for networks that never saw clean latents among noisy ones.

    Returns:
        The modalities of `samplers` at the last time.
    """
    each = samplers, processes, x_1, times
    return trajectory(keys, predict, *each, known=known, noised=noised)[0]


def trajectory(
    keys: Key[Array, " b"],
    predict: Predict,
    samplers: Named[Sampler],
    processes: Named[Process],
    x_1: Named[X],
    times: Named[Float[Array, " times"]],
    *,
    known: Named[Bool[Array, "b _"]] | None = None,
    noised: Collection[str] = (),
) -> tuple[Named[X], Named[X]]:
    """Generates as `generate` does; also returns all x before each step: [n, b, l, ...]."""
    known = known or Named()
    clean = Named({name: where for name, where in known.items() if name not in noised})
    carries = Named(
        {n: sampler.init(processes[n], x_1[n], times[n]) for n, sampler in samplers.items()}
    )
    twice = Named({n: sampler for n, sampler in samplers.items() if sampler.evaluations == 2})

    def seen(x, t, number):
        """Known positions with noise, drawn for the step of that number."""
        shown = {}
        for n in noised:
            step_keys = jax.vmap(jax.random.fold_in, (0, None))(streams(keys, f"{n}/kept"), number)
            x_t, _ = processes[n].noise(step_keys, x_1[n], jnp.full((len(keys), 1), t[n]))
            shown[n] = jnp.where(known[n][..., None], x_t, x[n])
        return x | shown

    def scan(state, now):
        before, carries = state
        number, t, s = now
        predictions = predict(seen(before, t, number), _seen_at(processes, t, before, clean))
        x, kept = dict(before), dict(carries)
        step_keys = {
            n: jax.vmap(jax.random.fold_in, (0, None))(streams(keys, n), number) for n in samplers
        }
        for n, sampler in samplers.items():
            place = before[n], t[n], s[n], carries[n]
            moved = sampler.step(step_keys[n], processes[n], predictions[n], *place)
            x[n], kept[n] = _only_if(s[n] < t[n], moved, (before[n], carries[n]))
            x[n] = _put_back(x[n], before[n], known.get(n))

        def correct(x, kept):
            at_s = _seen_at(processes, s, x, clean)
            predictions, new = predict(seen(x, s, number + 1), at_s), {}
            for n, sampler in twice.items():
                found = processes[n], predictions[n], x[n]
                place = before[n], t[n], s[n], kept[n]
                moved = sampler.correct(streams(step_keys[n], "correct"), *found, *place)
                new[n] = _only_if(_corrects(t[n], s[n]), moved, (x[n], kept[n]))
            return (
                x | {n: _put_back(pair[0], before[n], known.get(n)) for n, pair in new.items()},
                kept | {n: pair[1] for n, pair in new.items()},
            )

        state = Named(x), Named(kept)
        if twice:
            # The network does not run again where no sampler wants it: at the end of a window.
            wanted = jnp.any(jnp.stack([_corrects(t[n], s[n]) for n in twice]))
            state = jax.lax.cond(wanted, correct, lambda *state: state, *state)
        return state, before

    steps = jnp.arange(next(iter(times.values())).shape[0] - 1)
    before = jax.tree.map(lambda time: time[:-1], times)
    after = jax.tree.map(lambda time: time[1:], times)
    (x_0, _), path = jax.lax.scan(scan, (x_1, carries), (steps, before, after))
    return Named({name: x_0[name] for name in samplers}), path


def _corrects(t: Float[Array, ""], s: Float[Array, ""]) -> Bool[Array, ""]:
    """True in a step that a second look can better: at s = 0 there is no noise left to see."""
    return (s < t) & (s > 0.0)


def _only_if(moves: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(moves, new, old), new, old)


def _seen_at(
    processes: Named[Process],
    t: Named[Float[Array, ""]],
    x: Named[X],
    known: Named[Bool[Array, "b _"]],
) -> Named[Float[Array, "b _"]]:
    """One time per example where nothing is known; see `generate`."""
    times = {}
    for name in x:
        if name not in known:
            times[name] = jnp.full((x[name].shape[0], 1), t[name])
        elif processes[name].is_discrete:
            rest = jnp.mean(~known[name], axis=1, keepdims=True)
            times[name] = processes[name].time_at(rest * processes[name].noise_share(t[name]))
        else:
            times[name] = jnp.where(known[name], 0.0, t[name])
    return Named(times)


def _put_back(x_s: X, x: X, known: Bool[Array, "b l"] | None) -> X:
    return x_s if known is None else jnp.where(known[..., None], x, x_s)
