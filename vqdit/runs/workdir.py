"""The workdir of a run: its files, checks of experiment and data, and whether it is complete.

Files of a workdir::

    config.json        the experiment               data.json       fingerprint of the data
    frozen/            frozen arrays of the task    checkpoints/    states of the run
    saved.json         number of the newest checkpoint
    averages/          averages for `vqdit average`, if the experiment saves any
    result.json        validation metrics of a complete run
    metrics.jsonl      losses and metrics; bit-identical for one seed
    performance.jsonl  timings                      previews/       pictures or sounds
    log.txt            log                          profile/        trace of some steps
    faults/            diagnostics of steps that were not finite and of runs that hung
"""

import logging
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from vqdit import config, parallel
from vqdit.config import Experiment
from vqdit.files import parse_json, read_json, to_text, write_json
from vqdit.runs.checkpoint_verification import CorruptCheckpoint
from vqdit.runs.checkpoints import Checkpoints
from vqdit.runs.component_files import read_component, write_component

log = logging.getLogger(__name__)

CONFIG, DATA, FROZEN, RESULT = "config.json", "data.json", "frozen", "result.json"
CHECKPOINTS, AVERAGES, FAULTS = "checkpoints", "averages", "faults"
SAVED = "saved.json"
ORDER = "experiments.json"
"""File with the ordered names of a config's experiments, in the folder of their workdirs."""
FILES = (CONFIG, DATA, RESULT, SAVED, ORDER, ".lock", "wandb_id") + (
    *("metrics.jsonl", "performance.jsonl", "log.txt"),
)
FOLDERS = (FROZEN, CHECKPOINTS, AVERAGES, FAULTS, "previews", "profile", "tensorboard", "wandb")
"""The files that a run reads and writes in its workdir."""
RESULT_SHAPE = {"step": int, "validation": {str: (float, str)}, "preview": str}


def make_folder(folder: Path, option: str = "--workdir") -> None:
    """Makes a folder and checks that it can be written.

    Args:
        folder: the folder; missing parents are created, too.
        option: command-line option that selects another folder, for the error message.

    Raises:
        OSError: the folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-test-{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"cannot write in {folder}: {error.strerror}; choose another {option}"
        ) from error


def changes(folder: Path, experiment: Experiment) -> list[config.Difference]:
    """Returns the fields in which an experiment differs from the one stored in the workdir.

    Raises:
        ValueError: fields differ that must not change on resume; the message lists all of them.
    """
    if not (folder / CONFIG).is_file():
        if Checkpoints(folder / CHECKPOINTS).steps():
            raise ValueError(
                f"{folder / CONFIG} is missing: it defines the experiment of the checkpoints in "
                "this folder; put it back, or use another --workdir"
            )
        return []
    _check_saved(folder)
    found = config.differences(read_experiment(folder), experiment)
    fixed = [change for change in found if not change.resumable]
    if fixed:
        raise ValueError(
            f"the workdir {folder} has a different experiment (workdir -> this command): "
            f"{', '.join(map(str, fixed))}; use another --workdir, or the same settings"
        )
    return found


def record_saved(folder: Path, step: int | None) -> None:
    """Stores the step of a run's newest checkpoint; None if there is no checkpoint."""
    if step is None:
        (folder / SAVED).unlink(missing_ok=True)
    else:
        write_json(folder / SAVED, {"step": step})


def _check_saved(folder: Path) -> None:
    """Raises ValueError if the newest checkpoint is missing, for example on an unmounted disk."""
    file = next((folder / name for name in (SAVED, RESULT) if (folder / name).is_file()), None)
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    found = checkpoints.furthest()
    try:
        saved = read_json(file, {"step": int}, own=True)["step"] if file else 0
    except ValueError as error:  # a checkpoint may only have its own checksums
        log.warning("%s", error)
        return
    if found < saved:
        there = f"only step {found}" if found else "no checkpoint"
        raise ValueError(
            f"according to {file}, the run was saved at step {saved}, but {checkpoints.folder} "
            f"has {there}: mount the disk or put the checkpoint back, or remove {file} to "
            "continue without it"
        )


def refuse_links(folder: Path) -> None:
    """Checks that a workdir contains no pipe, and no link to a file or folder outside of it.

    Raises:
        ValueError: the workdir contains a pipe or such a link.
    """
    home = Path(os.path.realpath(folder))
    for name in FILES + FOLDERS:
        if name in FILES and (folder / name).is_dir():
            raise ValueError(f"{folder / name} is a folder, but must be a file; remove it")
        below = (
            Path(place, each)
            for place, folders, files in os.walk(folder / name)
            for each in (*folders, *files)
        )
        for path in (folder / name, *below):
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
                raise ValueError(
                    f"{path} is a link out of the workdir, to {os.readlink(path)!a}; replace it "
                    "by the file or folder itself, or use another workdir"
                )
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ValueError(f"{path} is neither a file nor a folder; remove it")


def clear_failed_start(folder: Path) -> None:
    """Removes the files of a start that failed before `claim`; the caller must hold the lock."""
    if not (folder / CONFIG).is_file() and parallel.process()[0] == 0:
        shutil.rmtree(folder / FROZEN, ignore_errors=True)
        (folder / DATA).unlink(missing_ok=True)


def claim(folder: Path, experiment: Experiment) -> None:
    """Stores the experiment in the workdir; called after all checks have passed."""
    if parallel.process()[0] == 0:
        write_component(folder / CONFIG, experiment)


def check_data(folder: Path, fingerprint: dict[str, Any]) -> None:
    """Stores the fingerprint of a new run's data, or compares it with the stored one.

    Raises:
        ValueError: the data have changed since the run started; the workdir is not changed.
    """
    file, found = folder / DATA, parse_json(to_text(fingerprint).encode())
    if not file.is_file():
        if (folder / CONFIG).is_file():
            raise ValueError(
                f"{file} is missing: it identifies the data with which the run started; put it "
                "back, or use another --workdir"
            )
        if parallel.process()[0] == 0:
            write_json(file, found)
        return
    stored = read_json(file, dict, own=True)
    changed = [name for name in stored | found if stored.get(name) != found.get(name)]
    if changed:
        listed = (f"{name}: {stored.get(name)} -> {found.get(name)}" for name in changed)
        raise ValueError(
            f"the data differ from those with which {folder} started (then -> now): "
            f"{', '.join(listed)}; restore the data, or use another --workdir (--init-from "
            "starts from the parameters of this run)"
        )


def finish(folder: Path, step: int, metrics: dict[str, float], preview: Path) -> None:
    """Marks a run as complete, so that the next start skips it."""
    result = {
        "step": step,
        "validation": metrics,
        "preview": preview.relative_to(folder).as_posix(),
    }
    if parallel.process()[0] == 0:
        write_json(folder / RESULT, result)


def finished(folder: Path, experiment: Experiment) -> tuple[int, dict[str, float], Path] | None:
    """Returns step, validation metrics and preview of a run, or None if it is not complete.

    A run whose result file or newest checkpoint is damaged is not complete: training resumes.

    Raises:
        ValueError: the workdir has another experiment.
    """
    if not (folder / RESULT).is_file():
        return None
    changes(folder, experiment)
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    latest = checkpoints.latest() or 0  # checkpoints may have been deleted later
    try:
        result = read_json(folder / RESULT, RESULT_SHAPE, own=True)
        if min(result["step"], latest) < experiment.steps:
            return None
        checkpoints.check_files(latest)
    except (ValueError, CorruptCheckpoint) as error:
        log.warning("%s; %s is not treated as complete", error, folder)
        return None
    metrics = {name: float(value) for name, value in result["validation"].items()}
    return result["step"], metrics, folder / result["preview"]


def find_run(folder: Path) -> Path:
    """Returns the workdir in `folder`: the folder itself, or the last of a config's experiments.

    Raises:
        FileNotFoundError: the folder has no run.
    """
    return runs_of(folder)[-1]


def runs_of(folder: Path) -> list[Path]:
    """Returns all workdirs of a folder, in the order in which they were trained.

    Raises:
        FileNotFoundError: the folder has no run.
    """
    refuse_links(folder)
    names = ["."]
    if not (folder / CONFIG).is_file() and (folder / ORDER).is_file():
        names = experiment_names(folder)
    runs = [folder / name for name in names if (folder / name / CONFIG).is_file()]
    for run in runs:
        refuse_links(run)
    if not runs:
        raise FileNotFoundError(
            f"no run in {folder}; a workdir holds {CONFIG} and is made by `python train.py "
            "--config=... --workdir=DIR`"
        )
    return runs


def experiment_names(folder: Path) -> list[str]:
    """Returns the ordered names of a config's experiments in a folder; [] if there are none.

    Raises:
        ValueError: the file that lists them is damaged.
    """
    file = folder / ORDER
    names = read_json(file, [str], own=True) if file.is_file() else []
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"{file} is damaged: {name!r} is not a name; restore it from a copy")
    return names


def read_experiment(folder: Path) -> Experiment:
    """Returns the experiment of a run.

    Raises:
        ValueError: its file is damaged, or has other content.
    """
    return read_component(folder / CONFIG, Experiment)
