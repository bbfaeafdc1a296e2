"""The target machine of a config, and the duration of a step there.

If the target is this machine, steps are compiled and timed; otherwise the duration is estimated
from the FLOPs of a step.
"""

import difflib
import functools
import math
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.profiling import accelerators
from vqdit.profiling.accelerators import Chip
from vqdit.profiling.flops import model_flops
from vqdit.profiling.plan import blank_batch
from vqdit.profiling.targets import chips_of
from vqdit.tasks import DiffusionTask
from vqdit.tasks.base import Task
from vqdit.train import state as states
from vqdit.train.step import train_step

TIMED = 3.0
"""Seconds for which steps are timed; at least one step is timed."""
UTILISATION = {"tokenizer": 0.15, "generator": 0.35}
"""Assumed FLOP/s of a step as a fraction of a chip's peak; docs/performance.md has measured 0.4 to
0.45 for large DiTs on an H200.
"""
EFFICIENCY = 0.3
"""Rough FLOP/s of a step on a CPU, as a fraction of the FLOP/s of a large matrix product."""
COMPILE = 90.0
"""Assumed seconds for compilation, evaluation and checkpoints if they are not measured."""

Find = Callable[[str], Task]


class Cost(NamedTuple):
    """Duration and size of a training.

    Attributes:
        step: seconds of a step.
        start: seconds until the first step: reading data and compiling.
        parameters: number of parameters.
    """

    step: float
    start: float
    parameters: int


class Machine(NamedTuple):
    """The machine that a config is for.

    Attributes:
        name: name of the machine in messages.
        chips: number of devices.
        chip: kind of accelerator; None for a CPU.
        is_here: whether steps are timed on this machine.
    """

    name: str
    chips: int
    chip: Chip | None
    is_here: bool

    @property
    def is_cpu(self) -> bool:
        """Whether the machine has no accelerator."""
        return self.chip is None

    def cost(self, experiment: Experiment, find: Find) -> Cost:
        """Returns the cost of training an experiment; its number of steps has no influence.

        Args:
            experiment: the experiment; its data are not read.
            find: function that returns a task, given the name by which the experiment's task refers
                to it.
        """
        return (self._measured if self.is_here else self._counted)(experiment, find)

    def guess(self, experiment: Experiment, find: Find) -> float:
        """Returns a rough estimate of the seconds per step on this machine, from the FLOPs."""
        if self.chip is not None:
            return self._counted(experiment, find).step
        return count(experiment, find)[0] / (EFFICIENCY * _product_rate())

    def _measured(self, experiment: Experiment, find: Find) -> Cost:
        began = time.perf_counter()
        task, function, create = _step(experiment, find)
        mesh = experiment.mesh.build()
        frozen = jax.tree.map(_zeros, jax.eval_shape(task.frozen_like))
        batch = parallel.put_batch(blank_batch(experiment, task), mesh)
        state = parallel.create(create, mesh, frozen, batch, jax.random.key(0))
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        step = parallel.compile_step(function, state)
        for _ in range(2):
            state, _ = step(state, frozen, batch)
        jax.block_until_ready(state.step)
        start, times = time.perf_counter(), []
        while len(times) < 3 or time.perf_counter() - start < TIMED:
            since = time.perf_counter()
            state, _ = step(state, frozen, batch)
            jax.block_until_ready(state.step)
            times.append(time.perf_counter() - since)
        # Evaluation and preview are compiled too, which takes about the same time.
        return Cost(sorted(times)[len(times) // 2], 2.0 * (start - began), parameters)

    def _counted(self, experiment: Experiment, find: Find) -> Cost:
        flops, parameters = count(experiment, find)
        is_generator = isinstance(experiment.task, DiffusionTask)
        share = UTILISATION["generator" if is_generator else "tokenizer"]
        peak = self.chips * (self.chip.flops if self.chip else math.nan)
        return Cost(flops / (peak * share), COMPILE, parameters)


def machine_of(target: str | None) -> Machine:
    """Returns the machine of a target such as "cpu", "h100:8" or "v5e:2x4"; None for this machine.

    Raises:
        ValueError: the target is unknown.
    """
    if target is not None and target != "cpu":
        if difflib.get_close_matches(target.lower(), ["cpu"]):
            raise ValueError(f"unknown target {target!r}; did you mean cpu?")
        name, chip, count = chips_of(target)
        return Machine(f"{count} x {name}", count, chip, False)
    devices = jax.devices("cpu") if target == "cpu" else jax.devices()
    chip = accelerators.find(devices[0].device_kind)
    if devices[0].platform == "cpu" or chip is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return Machine(f"this CPU ({count} core{'s' * (count != 1)})", 1, None, True)
    return Machine(f"{len(devices)} x {devices[0].device_kind} here", len(devices), chip, True)


def _step(experiment: Experiment, find: Find) -> tuple[Task, Callable, Callable]:
    """Returns the resolved task, its training step, and the function that makes its first state."""
    task = experiment.task.resolve_references(find)
    optimizer = task.optimizer(experiment.optimizer, experiment.steps)
    averaging = experiment.averaging
    step = functools.partial(train_step, task, optimizer, averaging)
    return task, step, functools.partial(states.create, task, optimizer, averaging)


def count(experiment: Experiment, find: Find) -> tuple[float, int]:
    """Returns the FLOPs of a step, and the number of parameters."""
    task, function, create = _step(experiment, find)
    frozen = jax.eval_shape(task.frozen_like)
    batch = jax.eval_shape(functools.partial(blank_batch, experiment, task))
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(create, frozen, batch, key)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    return model_flops(function, state, frozen, batch), parameters


@functools.cache
def _product_rate() -> float:
    """Returns the FLOP/s of a large product of matrices on this machine."""
    matrix = jax.numpy.ones((1024, 1024))
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    start = time.perf_counter()
    for _ in range(4):
        product(matrix).block_until_ready()
    return 4 * 2 * 1024**3 / (time.perf_counter() - start)


def _zeros(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    return jax.numpy.zeros(leaf.shape, leaf.dtype)
