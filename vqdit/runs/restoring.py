"""Reads a run for inference or as a starting point, and writes a run that was made elsewhere."""

import logging
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vqdit.config import Experiment
from vqdit.files import local_path
from vqdit.runs.checkpoint_retention import KEEP_ALL
from vqdit.runs.checkpoints import Checkpoints
from vqdit.runs.component_files import read_component
from vqdit.runs.frozen_arrays import read_frozen, write_frozen
from vqdit.runs.lock import locked
from vqdit.runs.workdir import (
    CHECKPOINTS,
    CONFIG,
    FROZEN,
    claim,
    find_run,
    make_folder,
    read_experiment,
)
from vqdit.tasks.base import Frozen, Task, Trees
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.typing import Params, Stats

log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A run for inference, which `restore` reads and `write_run` writes."""

    experiment: Experiment
    task: Task
    params: Params
    stats: Stats
    frozen: Frozen
    step: int


def restore(folder: Path) -> Restored:
    """Reads the newest checkpoint of a run for inference.

    Parameters are the moving averages if the experiment has them.

    Raises:
        FileNotFoundError: the folder has no run, or the run has no checkpoint yet.
    """
    folder = find_run(local_path(folder))
    experiment = read_experiment(folder)
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        if checkpoints.latest() is None:
            raise FileNotFoundError(
                f"no checkpoint in {folder}; train it until its first checkpoint"
            )
        task, frozen = read_frozen(folder)
        params, stats = jax.eval_shape(task.blank)
        which = _params_field(experiment)
        like = {"step": jax.ShapeDtypeStruct((), jnp.int32), which: params, "stats": stats}
        found = checkpoints.restore(like, only=like)
    return Restored(experiment, task, found[which], found["stats"], frozen, int(found["step"]))


def load_initial(
    source: Path, task: Task, params: Params, stats: Stats, *, other_tokenizers: bool = False
) -> Trees:
    """Returns the parameters and statistics of another run's newest checkpoint, for fine-tuning.

    Parameters are the moving averages if that run has them.

    Args:
        source: workdir of the other run.
        task: the task to be trained.
        params: its initial parameters. They determine structure and shardings, and the values of
            parameters that `source` lacks.
        stats: its initial statistics, used in the same way.
        other_tokenizers: whether the tokenizers of the other run may differ from those of `task`.

    Raises:
        ValueError: the other run has other tokenizers, or its codebook is not learned yet.
        FileNotFoundError: there is no run with a checkpoint in `source`.
        CheckpointMismatch: the parameters do not match; the message lists the differences by path.
    """
    folder = find_run(local_path(source))
    experiment = read_experiment(folder)
    which = _params_field(experiment)
    if not other_tokenizers:
        _check_tokenizers(task, folder)
    quantizer = getattr(experiment.task, "quantizer", None)
    latest = Checkpoints(folder / CHECKPOINTS).latest() or 0
    if quantizer is not None and not experiment.init_from and latest < quantizer.start:
        raise ValueError(
            f"the codebook of {folder} is only learned from step {quantizer.start} on, but its "
            f"newest checkpoint has step {latest}; train it longer, or leave out --init-from"
        )

    def load(params: Params, stats: Stats) -> Trees:
        wanted = {which: params, "stats": stats}
        with Checkpoints(folder / CHECKPOINTS) as checkpoints:
            found = checkpoints.restore(wanted, only=wanted)
        return found[which], found["stats"]

    log.info("starting from the parameters of %s", folder)
    return task.warm_start(experiment.task, params, stats, load)


def _check_tokenizers(task: Task, folder: Path) -> None:
    """Raises ValueError if the run in a folder has other tokenizers than a task."""
    file = folder / FROZEN / "task.json"
    source = read_component(file, Task) if file.is_file() else None
    if not (isinstance(task, MultimodalTask) and isinstance(source, MultimodalTask)):
        return
    before, now = source.fingerprints, task.fingerprints
    other = [repr(name) for name in now if before.get(name, now[name]) != now[name]]
    if other:
        raise ValueError(
            f"{folder} was trained with another tokenizer of {', '.join(other)}, whose tokens "
            "have another meaning; name that tokenizer, or give --init-other-tokenizers=True to "
            "start from it nevertheless"
        )


def write_run(folder: Path, run: Restored, *, option: str = "folder") -> None:
    """Writes a run that was not trained by vqdit, with one checkpoint, which `restore` can read.

    Args:
        folder: a new or empty folder.
        run: the run; its experiment must have `ema=0`, since only one set of parameters is stored.
        option: command-line option that selects another folder, for error messages.

    Raises:
        ValueError: the folder already has a run.
        OSError: the folder cannot be written.
    """
    if (folder / CONFIG).exists() or (folder / CHECKPOINTS).exists():
        raise ValueError(f"{folder} already has a run; choose another {option}")
    make_folder(folder, option)
    with locked(folder, option), Checkpoints(folder / CHECKPOINTS, KEEP_ALL) as checkpoints:
        state = {"step": jnp.int32(run.step), "params": run.params, "stats": run.stats}
        checkpoints.save(run.step, state)
        checkpoints.wait()
        write_frozen(folder, run.task, run.frozen)
        claim(folder, run.experiment)


def _params_field(experiment: Experiment) -> str:
    """Returns the name of the train state's field with the parameters for inference."""
    return "ema" if experiment.ema > 0 else "params"
