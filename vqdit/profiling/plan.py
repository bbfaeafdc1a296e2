"""Memory, FLOPs, communication and time of a training step on accelerators of other machines.

The training step is compiled by the compiler of the target, a TPU topology or GPUs, which need not
be present. The time follows a roofline model: the longest of arithmetic at the chip's peak,
memory traffic of the program's instructions, and communication over the links. Williams et al.,
"Roofline", Commun. ACM 52(4), 2009.
"""

import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit import config, parallel
from vqdit.config import Experiment
from vqdit.data import Batch, Encoded
from vqdit.profiling import compiled_program
from vqdit.profiling.accelerators import Chip
from vqdit.profiling.flops import count_flops
from vqdit.profiling.targets import chip_of, devices_of
from vqdit.runs import workdir
from vqdit.tasks.base import Task
from vqdit.train import state as states
from vqdit.train.step import train_step
from vqdit.typing import Named


class DoesNotFit(ValueError):
    """The program does not fit into the memory of a chip, according to the compiler."""


class Plan(NamedTuple):
    """Resources of one training step, per chip.

    Attributes:
        chips: number of chips.
        kind: JAX's `device_kind`.
        memory: bytes by purpose; `temporary` are activations, gradients and workspace.
        flops: FLOPs of a step, including recomputation.
        traffic: bytes read from and written to memory.
        exchanges: communication by kind of collective.
        kernels: number of calls, keyed by name, of kernels that the compiler did not generate, such
            as attention.
        bounds: seconds of a step by each limit of the roofline model.
    """

    chips: int
    kind: str
    memory: dict[str, int]
    flops: float
    traffic: float
    exchanges: dict[str, compiled_program.Collective]
    kernels: dict[str, int]
    bounds: dict[str, float]

    @property
    def chip(self) -> Chip:
        """The peak rates and the memory of the chip."""
        return chip_of(self.kind)

    @property
    def total(self) -> int:
        """Bytes of memory needed on one chip."""
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        """Whether the training step fits into the memory of the chip."""
        return self.total <= self.chip.memory

    @property
    def seconds(self) -> float:
        """Seconds of a step according to the roofline model."""
        return max(self.bounds.values())


def plan(experiment: Experiment, target: str, find: Callable[[str], Task]) -> Plan:
    """Compiles the training step of an experiment for a target.

    Args:
        experiment: the experiment; its data are not read.
        target: a TPU topology such as "v5e:4x4", or kind and number of GPUs such as "h100:8".
        find: function that returns a task, given the name by which the experiment's task refers to
            it.

    Raises:
        ValueError: the target is unknown, or the experiment cannot run on it.
        ImportError: the compiler of the target is not installed.
        DoesNotFit: the compiler failed because the memory is too small.
    """
    devices = devices_of(target)
    mesh = experiment.mesh.build(devices)
    experiment.check_batch(mesh)
    task = experiment.task.resolve_references(find)
    frozen = _like(task.frozen_like, parallel.replicated(mesh))
    batch = _like(functools.partial(blank_batch, experiment, task), parallel.over_batch(mesh))
    optimizer = task.optimizer(experiment.optimizer, experiment.steps)
    create = functools.partial(states.create, task, optimizer, experiment.averaging)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = parallel.abstract(create, mesh, frozen, batch, key)
    step = functools.partial(
        train_step, task, optimizer, experiment.averaging, accumulate=experiment.accumulate
    )
    program: Any = parallel.compile_step(step, state)
    traced = program.trace(state, frozen, batch)
    lowered = traced.lower(lowering_platforms=(_platform(devices),))
    try:
        compiled = lowered.compile(compiler_options=_options(devices))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFit(_want(str(error))) from error
    return _read(compiled, traced.jaxpr, devices, state, frozen, batch)


def finder(siblings: dict[str, Experiment]) -> Callable[[str], Task]:
    """Returns a function from the name of an experiment, workdir or shipped config to its task.

    Args:
        siblings: the experiments of the same config.
    """

    def find(name: str) -> Task:
        if name in siblings:
            return siblings[name].task.resolve_references(find)
        if (Path(name) / workdir.CONFIG).is_file():
            return workdir.read_experiment(Path(name)).task
        for shipped in config.shipped():
            if Path(shipped).name == Path(name).name:
                found = config.load(shipped)[1]
                if isinstance(found, Experiment):
                    return found.task
        raise ValueError(
            f"{name!r} is neither an experiment of this config nor a workdir, and no shipped "
            "config has that name; train it first, or name an existing one"
        )

    return find


def _platform(devices: list[Any]) -> str:
    return "cuda" if devices[0].platform == "gpu" else devices[0].platform


def _options(devices: list[Any]) -> dict[str, str]:
    """Returns compiler options that disable timing of kernels on a GPU that is not present."""
    return {"xla_gpu_autotune_level": "0"} if _platform(devices) == "cuda" else {}


def _want(message: str) -> str:
    """Returns the sentence of a compiler's message that says how much memory was needed."""
    sentence = re.search(r"Ran out of memory.*?[.](?=\s|$)", message, re.DOTALL)
    return sentence[0] if sentence else message.splitlines()[0]


def _like(function: Callable[[], Any], where: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        jax.eval_shape(function),
    )


def blank_batch(experiment: Experiment, task: Task) -> Batch:
    """Returns a batch of zeros with the columns that the task reads, at their largest length."""
    count, source = experiment.data.batch_size, experiment.data.source
    if isinstance(source, Encoded):
        columns = {name: (f.shape, f.stored) for name, f in source.features().items()}
    else:
        columns = {name: (m.shape, m.dtype) for name, m in task.modalities.items()}
    data = {name: jnp.zeros((count, *shape), dtype) for name, (shape, dtype) in columns.items()}
    present = {name: jnp.ones(count, bool) for name in columns}
    ragged = [name for name, modality in task.modalities.items() if modality.lengths]
    mask = {name: jnp.ones((count, columns[name][0][0]), bool) for name in ragged}
    index, valid = jnp.arange(count), jnp.ones(count, bool)
    return Batch(Named(data), Named(present), Named(mask), index, valid)


def _read(
    compiled: Any, jaxpr: Any, devices: list[Any], state: Any, frozen: Any, batch: Any
) -> Plan:
    kind, count = devices[0].device_kind, len(devices)
    chip = chip_of(kind)
    planned = compiled.memory_analysis()
    memory = {
        "parameters": _bytes(state.params) + _bytes(state.stats),
        "averages": _bytes(state.ema) + _bytes(state.profiles),
        "optimizer": _bytes(state.opt_state),
        "frozen": _bytes(frozen),
        "batch": _bytes(batch),
        "temporary": planned.temp_size_in_bytes,
    }
    flops = count_flops(jaxpr.jaxpr) / count
    program = compiled_program.Program(_text(compiled))
    traffic, exchanges = float(program.traffic()), program.collectives()
    # A sum over devices consists of a reduce-scatter and an all-gather.
    sent = sum(one.bytes * (2 if name == "all-reduce" else 1) for name, one in exchanges.items())
    bounds = {
        "arithmetic": flops / chip.flops,
        "memory": traffic / chip.bandwidth,
        "links": sent / chip.link,
    }
    return Plan(count, kind, memory, flops, traffic, exchanges, program.kernels(), bounds)


def _text(compiled: Any) -> str:
    """Returns the text of the compiled program."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError as error:
        raise ImportError(
            "the compiled program cannot be read: the versions of compiler and JAX do not match; "
            f"pip install 'vqdit[tpu]' installs the matching compiler ({error})"
        ) from error


def _bytes(tree: Any) -> int:
    """Returns the size in bytes of a tree's arrays on one device."""

    def of(leaf: Any) -> int:
        shape = leaf.sharding.shard_shape(leaf.shape)
        return math.prod(shape) * _width(leaf.dtype)

    return sum(of(leaf) for leaf in jax.tree.leaves(tree))


def _width(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else jnp.dtype(dtype).itemsize
