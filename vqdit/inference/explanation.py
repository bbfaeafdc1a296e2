"""Explanations of the first few samples that `Generator.sample` returns.

An explanation has three parts:

* *attention*: attention weights of the generated tokens, as means over layers and heads, in every
  step, and in the step in which a token was revealed. They show where information may come from;
* *order*: the step in which each token of a discrete process was revealed;
* *attribution*: the influence of parts of the given data on the result; see
  `vqdit.inference.attribution`.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import rules
from vqdit.inference.attribution import ROUNDS, Attribution, attribute
from vqdit.inference.generator import BATCH, Generator
from vqdit.inference.requests import Inputs, check_memory, told_lengths
from vqdit.nn.patches import fold
from vqdit.precision import in_32_bits
from vqdit.processes.base import X
from vqdit.ragged import lengths as lengths_of
from vqdit.samplers import Sampler
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.guidance_scales import Guidance
from vqdit.tasks.request import Request
from vqdit.typing import Array, Float, Key, Named, Params

FIRST = 8
"""Default number of samples that are explained."""


class Explanation(NamedTuple):
    """Explanation of b samples that were generated in n steps.

    Attributes:
        results: stored arrays of all given and generated modalities, [b, ...] each.
        given: names of the given targets, and of the conditions with a known label.
        wanted: names of the generated modalities.
        discrete: names of the generated modalities that are codes; their changes are in nats.
        grids: grid of every target's tokens.
        spans: positions of each modality's tokens in the sequence, for the m modalities in this
            order.
        counts: number of tokens of every sample without padding, int [b], keyed by target of
            variable length.
        times: times of every target, float32 [n + 1]. A target is generated in the steps in which
            its time falls.
        attention: by generated modality, the fraction of its tokens' attention to each modality,
            float32 [n, b, m]; rows sum to 1.
        looked: by generated modality, the attention of each token in the step in which it was
            revealed, or in the middle step for a continuous process, float32 [b, own tokens, all
            tokens]; rows sum to 1.
        revealed: by generated modality of a discrete process, the step, counted from 0, in which
            each code got its final value, int [b, l, q].
        attributions: one per sample and given modality; empty if nothing was given.
    """

    results: dict[str, np.ndarray]
    given: tuple[str, ...]
    wanted: tuple[str, ...]
    discrete: tuple[str, ...]
    grids: dict[str, tuple[int, ...]]
    spans: dict[str, slice]
    counts: dict[str, np.ndarray]
    times: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    looked: dict[str, np.ndarray]
    revealed: dict[str, np.ndarray]
    attributions: list[Attribution]


@in_32_bits
def explain(
    generator: Generator,
    num: int,
    *,
    given: Mapping[str, Any] | None = None,
    want: str | Iterable[str] | None = None,
    guidance: Guidance = None,
    samplers: Mapping[str, Sampler] | None = None,
    lengths: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    rounds: int = ROUNDS,
    first: int = FIRST,
) -> Explanation:
    """Explains the first of the samples that `Generator.sample` returns for these arguments.

    Attention and attribution are computed with the network without guidance. Attribution scores the
    generated tokens, not the encoding of the decoded result, which might differ.

    Args:
        generator: the model.
        num: number of samples; this and the arguments up to `seed` are as in `Generator.sample`.
        given: known values by name.
        want: name or names of the targets to generate.
        guidance: guidance scale, or scales of pairs.
        samplers: samplers by target.
        lengths: lengths of wanted targets of variable length.
        seed: seed of the noise.
        batch_size: number of samples, or of scoring losses, in a batch.
        rounds: network evaluations per scoring loss, at equally spaced times.
        first: number of samples that are explained.

    Raises:
        ValueError: a number is out of range, or the model does not support the request.
    """
    rules.check(rules.SAMPLES, num=num)
    rules.check(rules.BATCH, batch_size=batch_size, first=first)
    rules.check(rules.ROUNDS, rounds=rounds)
    rules.check(rules.SEED, seed=seed)
    inputs = generator.prepare(given, want, samplers, guidance)
    task, stored, wanted = inputs.task, inputs.stored, inputs.wanted
    inputs = inputs._replace(counts=told_lengths(task, wanted, lengths, num))
    check_explained(task, wanted)
    params, frozen, chosen = generator.params, generator.frozen, generator.samplers(samplers)

    count, size = min(first, num), min(batch_size, num)
    check_memory(task, wanted, count)
    index, run = np.arange(count), _compiled_trajectory(task, chosen, min(count, size))
    inputs = generator.with_lengths(inputs, chosen, count, size, seed)
    batches = inputs.batches(index, size, seed, whole=True)
    parts = [run(params, frozen, keys, request) for _, request, keys in batches]
    results, x_0, path = jax.tree.map(lambda *batches: jnp.concatenate(batches)[:count], *parts)
    request = inputs.request(index, whole=True)
    times = task.times(request, chosen)

    discrete = [name for name in wanted if task.targets[name].process.is_discrete]
    revealed = {name: _last_change(path[name], x_0[name]) for name in discrete}
    weights = {
        name: _reveal_weights(task, name, times[name], revealed.get(name), count) for name in wanted
    }
    watched = _compiled_attention(task)(params, path, times, Named(weights))
    attention, looked = jax.tree.map(np.asarray, watched)

    conditions = [name for name in task.conditions if _is_given(inputs, request, name)]
    labels = {
        name: inputs.cut(name, np.asarray(request.given[name]), index)
        for name, condition in task.conditions.items()
        if name in conditions or condition.classes
    }
    names = [name for name in (*stored, *wanted) if name in results]
    shown = {name: inputs.cut(name, np.asarray(results[name]), index) for name in names}
    return Explanation(
        results=shown | labels,
        given=(*(name for name in task.targets if name in stored), *conditions),
        wanted=tuple(wanted),
        discrete=tuple(discrete),
        grids={name: task.space(name).grid for name in task.targets},
        spans=task.model.spans(task.inputs),
        counts={n: _count(inputs, n, index) for n in task.variable if n in names},
        times={name: np.asarray(times[name]) for name in task.targets},
        attention={name: attention[name].swapaxes(0, 1) for name in wanted},
        looked={name: looked[name] for name in wanted},
        revealed=revealed,
        attributions=attribute(
            inputs, params, frozen, x_0, seed=seed, batch_size=batch_size, rounds=rounds
        ),
    )


def check_explained(task: DiffusionTask, wanted: Iterable[str]) -> None:
    """Raises ValueError if one of the wanted targets is generated block by block."""
    for name in wanted:
        if task.targets[name].block:
            raise ValueError(
                f"{name!r} is generated block by block, and such targets cannot be explained; "
                f"generate other targets than {name}"
            )


def _is_given(inputs: Inputs, request: Request, name: str) -> bool:
    """Returns whether any sample has a value of a condition; labels have one by default."""
    if inputs.task.modality(name).lengths:
        return name in inputs.stored
    return bool((np.asarray(request.given[name]) >= 0).any())


def _count(inputs: Inputs, name: str, index: np.ndarray) -> np.ndarray:
    """Returns the number of tokens of the samples without padding, int [b]."""
    if name in inputs.counts:
        return inputs.counts[name][index]
    stored = lengths_of(inputs.stored[name])[index % len(inputs.stored[name])]
    return -(-stored // inputs.task.space(name).positions_per_token)


@functools.lru_cache(maxsize=8)
def _compiled_trajectory(task: DiffusionTask, samplers: Named[Sampler], keep: int) -> Any:
    """Compiles the function that returns results, tokens, and the first `keep` samples' paths."""

    def run(
        params: Params, frozen: Frozen, keys: Key[Array, " b"], request: Request
    ) -> tuple[Named[Array], Named[X], Named[X]]:
        x_0, path = task.trajectory(params, frozen, keys, request, samplers=samplers)
        results = task.decode(frozen, request, x_0)
        path = jax.tree.map(lambda x: x[:, :keep].swapaxes(0, 1), path)
        return *jax.tree.map(lambda x: x[:keep], (results, x_0)), path

    return jax.jit(run)


@functools.lru_cache(maxsize=8)
def _compiled_attention(task: DiffusionTask) -> Any:
    """Compiles the function that returns the attention along a path, one example at a time."""
    spans = task.model.spans(task.inputs)

    def watch(
        params: Params,
        path: Named[X],
        times: Named[Float[Array, " times"]],
        weights: Named[Float[Array, "b n _"]],
    ) -> tuple[Named[Float[Array, "b n m"]], Named[Float[Array, "b _ l"]]]:
        now = jax.tree.map(lambda time: time[:-1, None, None], times)

        def example(one: tuple[Named[X], Named[Array]]) -> tuple[Named[Array], Named[Array]]:
            path, weights = one

            def step(looked: Named[Array], at: Any) -> tuple[Named[Array], Named[Array]]:
                x, t, weight = at
                share = task.attention(params, jax.tree.map(lambda x: x[None], x), t)
                rows = {n: jnp.mean(share, axis=(0, 1))[spans[n]] for n in weight}
                new = {n: looked[n] + weight[n][:, None] * row for n, row in rows.items()}
                means = {n: jnp.mean(row, axis=0) for n, row in rows.items()}
                parts = {
                    n: jnp.stack([jnp.sum(mean[span]) for span in spans.values()])
                    for n, mean in means.items()
                }
                return Named(new), Named(parts)

            length = max(span.stop for span in spans.values())
            start = {name: jnp.zeros((w.shape[-1], length)) for name, w in weights.items()}
            looked, attention = jax.lax.scan(step, Named(start), (path, now, weights))
            return attention, looked

        return jax.lax.map(example, (path, weights))

    return jax.jit(watch)


def _last_change(path: X, x_0: X) -> np.ndarray:
    """Returns the step in which each code took its final value: int [b, l, q]."""
    path, x_0 = np.asarray(path), np.asarray(x_0)
    states = np.concatenate([path, x_0[:, None]], axis=1)
    changes = states[:, 1:] != states[:, :-1]
    steps = np.arange(changes.shape[1])[:, None, None]
    return np.max(np.where(changes, steps, 0), axis=1)


def _reveal_weights(
    task: DiffusionTask, name: str, times: Array, revealed: np.ndarray | None, count: int
) -> Float[Array, "b n tokens"]:
    """Returns the fraction of each token's codes that was revealed in each step.

    Args:
        task: the task of the model.
        name: name of a generated modality.
        times: its times, float32 [n + 1].
        revealed: step in which each code was revealed, int [b, l, q]. None for a continuous
            process, whose tokens count as revealed in the middle step.
        count: number of samples b.
    """
    inputs, steps = task.inputs[name], len(times) - 1
    span = task.model.spans(task.inputs)[name]
    if revealed is None:
        moves = np.flatnonzero(np.asarray(times[1:] < times[:-1]))
        weights = np.zeros((count, steps, span.stop - span.start), np.float32)
        weights[:, moves[len(moves) // 2]] = 1.0
        return jnp.asarray(weights)
    patch = inputs.patch or task.model.patch
    folded = fold(jnp.asarray(revealed), inputs.grid, patch)  # b tokens codes
    is_now = folded[:, None] == np.arange(steps)[:, None, None]
    return jnp.asarray(np.mean(is_now, axis=-1, dtype=np.float32))
