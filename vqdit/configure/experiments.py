"""Makes experiments for the parts of a model, as large as the machine can train in the time."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from vqdit.config import Experiment
from vqdit.configure.columns import Documents
from vqdit.configure.dits import batch_of, generator_batch, learning_rate, models_for
from vqdit.configure.machine import Find, Machine
from vqdit.configure.parts import BUCKETS, Part
from vqdit.configure.targets import targets_of
from vqdit.data import Data, HorizontalFlip, Source
from vqdit.modalities import Image, Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent
from vqdit.quantizers import VQ
from vqdit.tasks import DiffusionTask, TokenizerTask
from vqdit.typing import Named

M = TypeVar("M", ConvAutoencoder, DiT)

TOKENIZERS_SHARE = 0.35
"""Fraction of the time for the tokenizers, if there are any."""
EVALUATIONS = 3
DEAR = 0.2
"""If evaluations and previews would take more than this fraction, they run only at the end."""
FEWEST = 1500
"""Number of steps that is useful for any number of examples."""


class Sized(NamedTuple):
    """An experiment, its duration in seconds, its parameter count, and comments by field path."""

    experiment: Experiment
    seconds: float
    parameters: int
    comments: Mapping[str, str]


class Effort(NamedTuple):
    """Limits of the duration of an experiment.

    Attributes:
        seconds: available time.
        least: number of steps below which a smaller model is better.
        epochs: number of passes over the data after which more training hardly helps.
    """

    seconds: float
    least: int
    epochs: int


def tokenizer(
    part: Part, source: Source, machine: Machine, examples: tuple[int, int], seconds: float
) -> Sized:
    """Returns the experiment of a tokenizer.

    Args:
        part: the column that the tokenizer encodes.
        source: the data source.
        machine: the machine that trains.
        examples: numbers of training and validation examples.
        seconds: available time in seconds.
    """
    is_image = isinstance(part.modality, Image)
    batch = batch_of(examples[0], 32 if machine.is_cpu else 64 * min(machine.chips, 4), machine)
    if is_image and part.tokens <= 16:
        batch = batch_of(examples[0], 128, machine)  # tiny pictures
    flips = is_image and part.modality.channels == 3

    def build(model: ConvAutoencoder, steps: int) -> Experiment:
        return Experiment(
            task=TokenizerTask(
                name=part.name,
                modality=part.modality,
                model=model,
                quantizer=VQ(codebook_size=part.codes, dim=32, start=min(500, steps // 8)),
                reconstruction=part.reconstruction,  # pyright: ignore[reportArgumentType]
                perceptual=part.perceptual,
            ),
            data=Data(
                source=source,
                augment=(HorizontalFlip(),) if flips else (),
                batch_size=batch,
                buckets=_buckets([part]),
            ),
            optimizer=AdamW(
                learning_rate=2e-3 if machine.is_cpu else 5e-4, warmup=min(500, steps // 20)
            ),
            **_intervals(steps),
        )

    effort = Effort(seconds, 1000 if machine.is_cpu else 5000, 300)
    sized = _fit(build, part.models, machine, _no_task, examples, effort, fill=part.fill)
    comments = {**sized.comments, **dict(part.comments)}
    comments["task.model"] += f" {sized.parameters:,} parameters."
    if flips:
        comments["data.augment"] = "Remove this if mirrored pictures are wrong, as for letters."
    return sized._replace(comments=comments)


def generator(
    parts: Sequence[Part],
    tokenizers: Mapping[str, Experiment],
    source: Source,
    machine: Machine,
    examples: tuple[int, int],
    seconds: float,
) -> Sized:
    """Returns the experiment of a DiT that generates all parts.

    Args:
        parts: the columns; those that are not wanted are only given.
        tokenizers: experiments of the tokenizers, by name of the column.
        source: the data source.
        machine: the machine that trains.
        examples: numbers of training and validation examples.
        seconds: available time in seconds.
    """
    targets, conditions = targets_of(parts)
    tokens = sum(part.tokens for part in parts)
    is_text = isinstance(parts[0].column.facts, Documents)
    models = models_for(machine, examples[0], tokens, is_text=is_text)
    flips = any(experiment.data.augment for experiment in tokenizers.values())
    flips = flips and not any(isinstance(part.modality, Text) for part in parts)
    joint = Independent()
    given = {part.name: 3.0 for part in parts if not part.is_wanted and part.name in targets}
    if len(targets) > 1:
        joint = Independent(
            p_one_known=0.6,
            weights=Named(given),
            p_known=0.2,
            max_known_time=0.3,
            p_dropped=0.1,
        )

    def build(model: DiT, steps: int) -> Experiment:
        return Experiment(
            task=DiffusionTask(
                targets=targets,
                conditions=conditions,
                joint=joint,
                model=model,
                guidance=1.5 if conditions else 1.0,
            ),
            data=Data(
                source=source,
                augment=(HorizontalFlip(),) if flips else (),
                batch_size=generator_batch(model, tokens, machine, examples[0]),
                buckets=_buckets(parts),
            ),
            optimizer=AdamW(learning_rate=learning_rate(model), warmup=min(1000, steps // 20)),
            ema=_decay(steps),
            **_intervals(steps),
        )

    def find(name: str) -> Any:
        return tokenizers[name].task

    effort = Effort(seconds, 1500 if machine.is_cpu else 20_000, 400)
    fill = sum(part.tokens * part.fill for part in parts) / tokens
    sized = _fit(build, models, machine, find, examples, effort, fill=fill, is_generator=True)
    comments = {"task.model": f"{tokens} tokens per example, {sized.parameters:,} parameters."}
    if len(targets) > 1:
        comments["task.targets"] = (
            "Targets revealed early guide the later ones. Targets with few tokens have larger "
            "weights."
        )
        if given:
            comments["task.targets"] += f" {', '.join(given)}: only given, so of small weight."
        comments["task.joint"] = (
            "Trains to generate each target from the others, and all of them unconditionally."
        )
    for part in parts:
        if part.name in conditions:
            comments["task.guidance"] = f"Above 1, samples agree more with {part.name}."
    return sized._replace(comments={**sized.comments, **comments})


def _fit(
    build: Callable[[M, int], Experiment],
    models: Sequence[M],
    machine: Machine,
    find: Find,
    examples: tuple[int, int],
    effort: Effort,
    *,
    fill: float,
    is_generator: bool = False,
) -> Sized:
    """Returns the experiment of the largest model that can do enough steps in the time.

    Steps are timed with examples of the mean padded length, `fill` times the largest length.
    """
    at = _first(build, models, machine, find, effort)
    while True:
        model = models[at]
        trial = build(model, 1000)
        cost = machine.cost(trial, find)
        cost = cost._replace(step=cost.step * fill, start=cost.start * trial.data.buckets)
        batch = trial.data.batch_size
        passes = math.ceil(examples[1] / batch) / 3  # a forward pass is a third of a step
        if is_generator:
            passes += 80 * _rounds(trial.task) / batch / 3
        is_dear = EVALUATIONS * passes * cost.step > DEAR * effort.seconds
        evaluations = 1 if is_dear else EVALUATIONS
        extra = cost.start + evaluations * passes * cost.step
        affordable = (effort.seconds - extra) / cost.step
        if affordable >= effort.least or at == len(models) - 1:
            break
        at += 1
    useful = max(FEWEST, effort.epochs * examples[0] // batch)
    steps = _rounded(max(50, min(affordable, useful)))
    comments = {"steps": f"{batch * steps / examples[0]:.0f} passes over the data"}
    comments["steps"] += "; more passes would hardly help." if useful <= affordable else "."
    experiment = build(model, steps)
    if evaluations == 1:
        experiment = dataclasses.replace(experiment, evaluate_every=0, preview_every=0)
    return Sized(experiment, extra + steps * cost.step, cost.parameters, comments)


def _first(
    build: Callable[[M, int], Experiment],
    models: Sequence[M],
    machine: Machine,
    find: Find,
    effort: Effort,
) -> int:
    """Returns the index of the first model whose estimated time, by its FLOPs, is short enough."""
    if not machine.is_here:
        return 0
    for number, model in enumerate(models):
        if machine.guess(build(model, 1000), find) * effort.least < effort.seconds:
            return number
    return len(models) - 1


def _buckets(parts: Sequence[Part]) -> int:
    """Returns the number of padded lengths; a step is compiled for each."""
    return BUCKETS if any(part.modality.lengths for part in parts) else 1


def _intervals(steps: int) -> dict[str, Any]:
    """Returns the fields of an experiment that depend on its number of steps."""
    every = _rounded(max(1, -(-steps // EVALUATIONS)), up=True)
    return {
        "steps": steps,
        "evaluate_every": every,
        "preview_every": every,
        "checkpoint_every": min(1000, every),
    }


def _rounded(value: float | int, *, up: bool = False) -> int:
    """Returns a number rounded down or up to two significant digits."""
    unit = 10 ** max(0, int(math.log10(max(1, value))) - 1)
    return int((math.ceil if up else math.floor)(value / unit) * unit)


def _decay(steps: int) -> float:
    """Returns the decay of a moving average over about a twentieth of the steps."""
    return round(1.0 - max(1e-4, min(0.02, 20.0 / steps)), 3 if steps < 20_000 else 4)


def _rounds(task: Any) -> int:
    """Returns how often the network is evaluated to draw one sample."""
    rounds = max(target.sampler.steps for target in task.targets.values())
    return 2 * rounds if task.guidance != 1.0 else rounds


def _no_task(name: str) -> Any:
    raise ValueError(f"a tokenizer must not refer to another task, got the name {name!r}")
