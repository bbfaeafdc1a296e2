"""The interface of samplers, and `generate`, which runs all modalities in one `lax.scan`."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.processes.base import Prediction, Process, X
from vqdit.random import streams
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named

Carry = Any
"""The state of a sampler between steps: a pytree of arrays of constant shapes."""
Predict = Callable[[Named[X], Named[Float[Array, "b _"]]], Named[Prediction]]
"""The network with bound parameters and guidance: (x, t of every modality) -> predictions."""

MAX_STEPS = 10_000
"""Ten times the number of steps of the finest process; more would only waste memory and time."""


class Step(NamedTuple):
    """One step of one modality from t to s < t, as `Sampler.step` receives it.

    Attributes:
        keys: one key per sample, for all random numbers of the step.
        process: the process of the modality.
        prediction: the network's prediction at t.
        x_t: the noisy tokens at t.
        t: the time at which the step starts.
        s: the time at which it ends.
        carry: the carry returned by the previous step, or by `Sampler.init` before the first.
    """

    keys: Key[Array, " b"]
    process: Process
    prediction: Prediction
    x_t: X
    t: Float[Array, ""]
    s: Float[Array, ""]
    carry: Carry


class Sampler(Component):
    """A method that generates data from noise.

    Attributes:
        steps: number of steps.
    """

    steps: int = 16

    def __post_init__(self) -> None:
        self.require(f"steps from 1 to {MAX_STEPS}", 1 <= self.steps <= MAX_STEPS)

    def check(self, process: Process) -> None:
        """Raises ValueError if this sampler does not support the process."""
        raise TypeError(f"{type(self).__name__} must define the method 'check'")

    def bind(self, grid: tuple[int, ...]) -> "Sampler":
        """Returns this sampler, set up for tokens on this grid. Default: the sampler unchanged."""
        del grid
        return self

    @property
    def evaluations(self) -> int:
        """Number of network evaluations per step: 2 if the sampler defines `correct`, else 1."""
        return 1

    @property
    def length_temperature(self) -> float:
        """Temperature for drawing the lengths of sequences: the one for codes, or 1 for latents."""
        return getattr(self, "temperature", 1.0)

    def times(self, process: Process, times: Float[Array, " times"]) -> Float[Array, " times"]:
        """Returns the times of the steps. Default: `times`, equally spaced from 1 to 0.

        Implementations must not change the first and the last time, and equal neighbours must stay
        equal.
        """
        del process
        return times

    def init(self, process: Process, x_1: X, times: Float[Array, " times"]) -> Carry:
        """Returns the carry for the first step. Default: an empty carry."""
        del process, x_1, times
        return ()

    def step(self, step: Step) -> tuple[X, Carry]:
        """Returns x_s and the next carry. `generate` then restores the known positions."""
        raise TypeError(f"{type(self).__name__} must define the method 'step'")

    def correct(self, step: Step, x_s: X, prediction_at_s: Prediction) -> tuple[X, Carry]:
        """Returns a better x_s, and the next carry, after a second network evaluation.

        Only samplers with two evaluations per step define this method; it is called for s > 0.

        Args:
            step: the step that is corrected, with the carry that `Sampler.step` returned.
            x_s: the result of `Sampler.step`.
            prediction_at_s: the network's prediction for x_s at s.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'correct'")


def shared_steps(samplers: Named[Sampler]) -> int:
    """Returns the number of steps, which must be the same for all samplers that run together.

    Raises:
        ValueError: there are no samplers, or their numbers of steps differ.
    """
    steps = {name: sampler.steps for name, sampler in samplers.items()}
    if len(set(steps.values())) != 1:
        shown = ", ".join(f"{name} {count}" for name, count in steps.items()) or "no sampler"
        raise ValueError(
            "samplers of targets that are generated together must take the same number of steps; "
            f"got {shown}; give them the same number"
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
        keys: one key per sample; a sample depends only on its own key.
        predict: the network: maps x and t of all modalities to predictions.
        samplers: one sampler for each modality that may be generated.
        processes: the processes of these modalities.
        x_1: initial value of every input of the network: noise at unknown positions, data at known
            positions.
        times: n + 1 non-increasing times for every modality in `x_1`. A modality is generated in
            the steps in which its time falls, and is unchanged in all other steps. A constant time
            of 0 means that the modality is given, and a constant time of 1 that it stays unknown.
        known: True at given positions, which never change. The network sees known latents at t = 0.
            All codes of an example share one time, chosen so that the expected fraction of noised
            codes equals the actual fraction of noised codes among known and unknown positions.
        noised: modalities whose known positions get the same noise level as their unknown
            positions, for networks that were not trained with clean latents among noisy ones.

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
    padding: Named[Bool[Array, "b _"]] = Named(),  # noqa: B008 (immutable)
) -> tuple[Named[X], Named[X]]:
    """Generates as `generate` does; also returns x of all modalities before each step.

    `padding` is True at positions after the end of an example, which never change and which the
    network does not see.

    Returns:
        The result of `generate`, and the states [n, b, l, ...] before the n steps.
    """
    known = known or Named()
    clean = Named({name: where for name, where in known.items() if name not in noised})
    correctors = {n: sampler for n, sampler in samplers.items() if sampler.evaluations == 2}

    def look(x: Named[X], t: Named[Float[Array, ""]], number: Int[Array, ""]) -> Named[Any]:
        """Noises known positions of `noised` modalities, then runs the network on x at t."""
        shown = {}
        for n in noised:
            noise_keys = _step_keys(keys, f"{n}/kept", number)
            x_t, _ = processes[n].noise(
                noise_keys, x_1[n], jnp.full((len(keys), 1), t[n], jnp.float32)
            )
            shown[n] = jnp.where(known[n][..., None], x_t, x[n])
        return predict(x | shown, _times_seen(processes, t, x, clean, padding))

    def scan(state: tuple[Named[X], Named[Carry]], now: Any) -> tuple[Any, Named[X]]:
        x_t, carries = state
        number, t, s = now
        predictions = look(x_t, t, number)
        steps, x_s, kept = {}, dict(x_t), dict(carries)
        for n, sampler in samplers.items():
            draws = _step_keys(keys, n, number)
            steps[n] = Step(draws, processes[n], predictions[n], x_t[n], t[n], s[n], carries[n])
            moved = sampler.step(steps[n])
            x_s[n], kept[n] = _only_if(s[n] < t[n], moved, (x_t[n], carries[n]))
            x_s[n] = _put_back(x_s[n], x_t[n], known.get(n), padding.get(n))

        def correct(x_s: Named[X], kept: Named[Carry]) -> tuple[Named[X], Named[Carry]]:
            """Evaluates the network at s, and corrects the step with this second prediction."""
            predictions, x, carries = look(x_s, s, number + 1), {}, {}
            for n, sampler in correctors.items():
                draws = streams(steps[n].keys, "correct")
                step = steps[n]._replace(keys=draws, carry=kept[n])
                moved = sampler.correct(step, x_s[n], predictions[n])
                x[n], carries[n] = _only_if(_corrects(t[n], s[n]), moved, (x_s[n], kept[n]))
                x[n] = _put_back(x[n], x_t[n], known.get(n), padding.get(n))
            return x_s | x, kept | carries

        state = Named(x_s), Named(kept)
        if correctors:
            # The second evaluation is skipped if no sampler corrects, at the end of all windows.
            wanted = jnp.any(jnp.stack([_corrects(t[n], s[n]) for n in correctors]))
            state = jax.lax.cond(wanted, correct, lambda *state: state, *state)
        return state, x_t

    carries = {n: sampler.init(processes[n], x_1[n], times[n]) for n, sampler in samplers.items()}
    numbers = jnp.arange(next(iter(times.values())).shape[0] - 1)
    before = jax.tree.map(lambda time: time[:-1], times)
    after = jax.tree.map(lambda time: time[1:], times)
    (x_0, _), path = jax.lax.scan(scan, (x_1, Named(carries)), (numbers, before, after))
    return Named({name: x_0[name] for name in samplers}), path


def _step_keys(keys: Key[Array, " b"], name: str, number: Int[Array, ""]) -> Key[Array, " b"]:
    return jax.vmap(jax.random.fold_in, (0, None))(streams(keys, name), number)


def _corrects(t: Float[Array, ""], s: Float[Array, ""]) -> Bool[Array, ""]:
    """Returns whether a step from t to s is corrected: s < t, and s > 0, as s = 0 has no noise."""
    return (s < t) & (s > 0.0)


def _only_if(moves: Bool[Array, ""], new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(moves, new, old), new, old)


def _times_seen(
    processes: Named[Process],
    t: Named[Float[Array, ""]],
    x: Named[X],
    known: Named[Bool[Array, "b _"]],
    padding: Named[Bool[Array, "b _"]],
) -> Named[Float[Array, "b _"]]:
    """Returns the times that the network gets; see `known` of `generate` for given positions."""
    times = {}
    for name in x:
        if name not in known:
            times[name] = jnp.full((x[name].shape[0], 1), t[name], jnp.float32)
        elif processes[name].is_discrete:
            rest = jnp.mean(~known[name], axis=1, keepdims=True)
            if name in padding:
                open_, real = ~known[name] & ~padding[name], ~padding[name]
                count = jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
                rest = jnp.sum(open_, axis=1, keepdims=True) / count
            times[name] = processes[name].time_seen(t[name], rest)
        else:
            times[name] = jnp.where(known[name], 0.0, t[name])
    return Named(times)


def _put_back(x_s: X, x: X, *kept: Bool[Array, "b l"] | None) -> X:
    for where in kept:
        x_s = x_s if where is None else jnp.where(where[..., None], x, x_s)
    return x_s
