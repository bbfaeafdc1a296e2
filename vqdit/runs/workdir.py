"""The workdir of a run: whose it is, what it keeps, and how others read it."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit import config
from vqdit import parallel
from vqdit.runs.checkpoints import KEEP_ALL, Checkpoints, CorruptCheckpoint, load_tree, save_tree
from vqdit.data import Batch
from vqdit.config import Experiment
from vqdit.tasks.base import Frozen, Resolve, Task, Trees
from vqdit.typing import Params, Stats

log = logging.getLogger(__name__)

CONFIG, DATA, FROZEN, RESULT = "config.json", "data.json", "frozen", "result.json"
CHECKPOINTS, AVERAGES = "checkpoints", "averages"
ORDER = "experiments.json"
"""The names of a config's several experiments, in the folder that holds their workdirs."""


class Restored(NamedTuple):
    """A run as `restore` reads it for inference, and as `write_run` writes it."""

    experiment: Experiment
    task: Task
    params: Params
    stats: Stats
    frozen: Frozen
    step: int


def changes(folder: Path, experiment: Experiment) -> list[config.Difference]:
    """Returns the fields in which an experiment differs from the one in the workdir, if any is.

    Raises:
        ValueError: one of them is not resumable; all such are named.
    """
    if not (folder / CONFIG).is_file():
        if Checkpoints(folder / CHECKPOINTS).steps():
            raise ValueError(
                f"{folder / CONFIG} is missing: it says whose the checkpoints beside it are; put "
                "it back, or use another --workdir"
            )
        return []
    found = config.differences(read_experiment(folder), experiment)
    fixed = [change for change in found if not change.resumable]
    if fixed:
        lines = "\n".join(f"  {change}" for change in fixed)
        raise ValueError(
            f"the workdir {folder} holds a different experiment (there -> here):\n{lines}\n"
            "use another --workdir, or the same settings"
        )
    return found


def make_folder(folder: Path, option: str = "--workdir") -> None:
    """Makes a folder that can be written.

    Raises:
        OSError: that is not possible; names the option that chooses another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"cannot write in {folder}: {error.strerror}; choose another {option}"
        ) from error


def clear_failed_start(folder: Path) -> None:
    """Removes what a start that failed before `claim` may have left. Only under the lock."""
    if not (folder / CONFIG).is_file() and parallel.process()[0] == 0:
        shutil.rmtree(folder / FROZEN, ignore_errors=True)
        (folder / DATA).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path, option: str = "--workdir") -> Iterator[None]:
    """Holds the workdir's lock, so that two runs cannot write into it at once.

    The system gives the lock back when the process ends, however it ends.

    Raises:
        ValueError: another process on this machine holds it; names the option that chooses another.
    """
    if parallel.process()[0] != 0:
        yield
        return
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                log.warning("cannot lock %s: %s", folder, error)  # as on some network disks
                yield
                return
            raise ValueError(
                f"another run is at work in the workdir {folder}; wait for it, stop it, or use "
                f"another {option}"
            ) from error
        yield


def claim(folder: Path, experiment: Experiment) -> None:
    """Makes the workdir this experiment's, once nothing is left that could be wrong with it."""
    if parallel.process()[0] == 0:
        write_json(folder / CONFIG, config.to_json(experiment))


def check_data(folder: Path, fingerprint: dict[str, Any]) -> None:
    """Notes what the run is trained on, or finds that it is still the same.

    Raises:
        ValueError: the data have changed since the run began; nothing is changed.
    """
    file, found = folder / DATA, json.loads(json.dumps(fingerprint))
    if not file.is_file():
        if parallel.process()[0] == 0:
            write_json(file, found)
        return
    noted = read_json(file)
    changed = [name for name in noted | found if noted.get(name) != found.get(name)]
    if changed:
        lines = "\n".join(f"  {name}: {noted.get(name)} -> {found.get(name)}" for name in changed)
        raise ValueError(
            f"the data are not those that {folder} began with (there -> here):\n{lines}\n"
            "restore them, or use another --workdir (--init-from goes on from a run's parameters)"
        )


def finish(folder: Path, step: int, metrics: dict[str, float], preview: Path) -> None:
    """Notes that a run is complete, so that the next start skips it."""
    result = {
        "step": step,
        "validation": metrics,
        "preview": preview.relative_to(folder).as_posix(),
    }
    if parallel.process()[0] == 0:
        write_json(folder / RESULT, result)


def finished(folder: Path, experiment: Experiment) -> tuple[int, dict[str, float], Path] | None:
    """Returns step, validation metrics and preview of a run that is complete, else None.

    It is not if its last checkpoint is damaged, or what was noted of it: then training goes on.

    Raises:
        ValueError: the workdir holds another experiment.
    """
    if not (folder / RESULT).is_file():
        return None
    changes(folder, experiment)
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    latest = checkpoints.latest() or 0  # it may have been deleted since
    try:
        result = read_json(folder / RESULT)
        if min(result["step"], latest) < experiment.steps:
            return None
        checkpoints.check_files(latest)
    except (ValueError, CorruptCheckpoint) as error:
        log.warning("%s; %s is not taken as complete", error, folder)
        return None
    return result["step"], result["validation"], folder / result["preview"]


def load_frozen(
    folder: Path, task: Task, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
) -> tuple[Task, Frozen]:
    """Returns the task with its references resolved, and its frozen arrays.

    They are copied into the workdir the first time and read from there later: a run goes on with
    the very tokenizer it began with, and can be sampled from its workdir alone.
    """
    kept = folder / FROZEN
    if (kept / "task.json").is_file():
        return read_frozen(folder)
    if (folder / CONFIG).is_file():
        raise ValueError(
            f"{kept} is missing: it held the arrays that the run began with, and others would not "
            "do; put it back, or use another --workdir"
        )
    resolved, frozen = task.load(resolve, batches)
    keep_frozen(folder, resolved, frozen)
    return resolved, frozen


def keep_frozen(folder: Path, task: Task, frozen: Frozen) -> None:
    """Copies a task and its frozen arrays into the workdir."""
    kept = folder / FROZEN
    if kept.is_dir():
        shutil.rmtree(kept)  # left by a start that was killed
    if jax.tree.leaves(frozen):
        save_tree(kept / "arrays", frozen)
    kept.mkdir(exist_ok=True)
    write_json(kept / "task.json", config.to_json(task))


def read_frozen(folder: Path) -> tuple[Task, Frozen]:
    """Returns what `load_frozen` kept."""
    kept = folder / FROZEN
    if not (kept / "task.json").is_file():
        raise FileNotFoundError(
            f"{kept} is missing: it holds what the run in {folder} uses but does not train; "
            "put it back, or train again in another --workdir"
        )
    task = config.from_json(read_json(kept / "task.json"))
    abstract = jax.eval_shape(task.frozen_like)
    frozen = load_tree(kept / "arrays", abstract) if jax.tree.leaves(abstract) else abstract
    return task, frozen


def load_initial(source: Path, task: Task, params: Params, stats: Stats) -> Trees:
    """Returns the parameters (averaged, if they are) and statistics of a run's last checkpoint.

    Args:
        source: the workdir to start from.
        task: what is to be trained from there.
        params: its fresh parameters: their structure and shardings, and the values of those that
            `source` never had.
        stats: its fresh statistics, likewise.

    Raises:
        FileNotFoundError: there is no run with a checkpoint in `source`.
        CheckpointMismatch: its parameters do not fit, listed by path.
    """
    folder = find_run(source)
    experiment = read_experiment(folder)
    which = "ema" if experiment.ema > 0 else "params"

    def load(params: Params, stats: Stats) -> Trees:
        wanted = {which: params, "stats": stats}
        with Checkpoints(folder / CHECKPOINTS) as checkpoints:
            found = checkpoints.restore(wanted, only=wanted)
        return found[which], found["stats"]

    log.info("starting from the parameters of %s", folder)
    return task.warm_start(experiment.task, params, stats, load)


def restore(folder: Path) -> Restored:
    """Reads the newest checkpoint of a run for inference: averaged parameters and statistics.

    Raises:
        FileNotFoundError: there is no run, or it has no checkpoint yet.
    """
    folder = find_run(folder)
    experiment = read_experiment(folder)
    with Checkpoints(folder / CHECKPOINTS) as checkpoints:
        if checkpoints.latest() is None:
            raise FileNotFoundError(
                f"no checkpoint in {folder}; train it until its first checkpoint"
            )
        task, frozen = read_frozen(folder)
        params, stats = jax.eval_shape(task.blank)
        which = "ema" if experiment.ema > 0 else "params"
        like = {"step": jax.ShapeDtypeStruct((), jnp.int32), which: params, "stats": stats}
        found = checkpoints.restore(like, only=like)
    return Restored(experiment, task, found[which], found["stats"], frozen, int(found["step"]))


def write_run(folder: Path, run: Restored, *, option: str = "folder") -> None:
    """Writes a run that was not trained here, with one checkpoint, for `restore` to read.

    Args:
        folder: a new one, or an empty one.
        run: what it holds; of an experiment that keeps no second, averaged parameters (ema 0).
        option: what the caller chooses another folder by, for messages.

    Raises:
        ValueError: there is a run in the folder.
        OSError: it cannot be written.
    """
    if (folder / CONFIG).exists() or (folder / CHECKPOINTS).exists():
        raise ValueError(f"{folder} holds a run already; choose another {option}")
    make_folder(folder, option)
    with alone(folder, option), Checkpoints(folder / CHECKPOINTS, KEEP_ALL) as checkpoints:
        state = {"step": jnp.int32(run.step), "params": run.params, "stats": run.stats}
        checkpoints.save(run.step, state)
        checkpoints.wait()
        keep_frozen(folder, run.task, run.frozen)
        claim(folder, run.experiment)


def find_run(folder: Path) -> Path:
    """Returns the run in `folder`: itself, or the last of a dict's experiments.

    Raises:
        FileNotFoundError: there is none.
    """
    if (folder / CONFIG).is_file():
        return folder
    order = folder / ORDER
    if order.is_file():
        names = read_json(order)
        runs = [folder / name for name in names if (folder / name / CONFIG).is_file()]
        if runs:
            return runs[-1]
    raise FileNotFoundError(
        f"no run in {folder}; a workdir holds {CONFIG} and is made by "
        "`python train.py --config=... --workdir=DIR`"
    )


def runs_of(folder: Path) -> list[Path]:
    """Returns all runs of a folder, in the order in which they were trained."""
    order = folder / ORDER
    if (folder / CONFIG).is_file() or not order.is_file():
        return [find_run(folder)]
    names = read_json(order)
    return [folder / name for name in names if (folder / name / CONFIG).is_file()]


def read_experiment(folder: Path) -> Experiment:
    """Returns the experiment of a run."""
    try:
        found = config.from_json(read_json(folder / CONFIG))
    except config.ConfigError as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {error}") from error
    if not isinstance(found, Experiment):
        raise ValueError(f"{folder / CONFIG} holds a {type(found).__name__}, not an Experiment")
    return found


def read_json(file: Path) -> Any:
    """Returns what `write_json` wrote.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return json.loads(file.read_text())
    except ValueError as error:  # no JSON, or no text
        raise ValueError(f"{file} is damaged: {error}; put back a copy of it") from error


def write_json(file: Path, value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2) + "\n")
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"cannot write {file}: {error.strerror}; make room or mend it, and run the same again"
        ) from error
