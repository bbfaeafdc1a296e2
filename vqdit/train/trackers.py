"""Services that receive the metrics of a run: TensorBoard, Weights & Biases.

The client of each service is an optional extra of vqdit, imported only if `Experiment.log_to` names
the service. A tracker has the methods `write` and `cut` of `JsonlWriter`; `cut` also opens the
tracker.
"""

import importlib
import logging
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdit import parallel
from vqdit.files import open_own, read_json, write_whole

log = logging.getLogger(__name__)

MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""Modules of the trackers, keyed by their names in `Experiment.log_to` and among the extras."""


class TensorBoard:
    """Writes scalars into a folder that TensorBoard reads."""

    def __init__(self, workdir: Path) -> None:
        self._folder = workdir / "tensorboard"
        self._writer: Any = None

    def write(self, step: int, **values: float) -> None:
        """Writes the values of a step."""
        for name, value in values.items():
            if self._writer is not None and not self._is_writing():
                log.error("TensorBoard's files can no longer be written; see the error above")
                self._writer = None
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)

    def cut(self, step: int) -> None:
        """Opens a new file; TensorBoard then ignores values after `step` in earlier files."""
        self.close()
        self._writer = _load("tensorboard").SummaryWriter(
            logdir=str(self._folder), purge_step=step + 1, flush_secs=10
        )

    def close(self) -> None:
        """Writes the remaining values and closes the file."""
        if self._writer is not None and self._is_writing():
            self._writer.close()
        self._writer = None

    def _is_writing(self) -> bool:
        """Returns whether the writing thread is alive; after it has ended, calls would block."""
        events = getattr(getattr(self._writer, "file_writer", None), "event_writer", None)
        thread = getattr(events, "_worker", None)
        return thread is None or thread.is_alive()


class Wandb:
    """Logs to Weights & Biases, one run per workdir; the file `wandb_id` there has the run's id.

    Logged values cannot be removed, so steps that are repeated after a resume or a rollback keep
    their first values. The environment variable WANDB_PROJECT sets the project; the default is
    "vqdit".
    """

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir.absolute()
        self._run: Any = None

    def write(self, step: int, **values: float) -> None:
        """Logs the values of a step, unless a later step is logged or the run is closed."""
        if self._run is not None and step >= self._run.step:
            self._run.log(values, step=step)

    def cut(self, step: int) -> None:
        """Starts or resumes the run.

        Raises:
            ValueError: the workdir has a settings file of wandb, or an invalid id.
        """
        del step
        self.close()
        settings = self._workdir / "wandb" / "settings"
        if settings.exists():
            raise ValueError(
                f"{settings} could make wandb send your key and metrics to another server; remove "
                "it, and use the wandb settings in your home folder"
            )
        name = self._workdir / "wandb_id"
        if not name.is_file():
            write_whole(name, secrets.token_hex(8).encode())
        if not re.fullmatch(rb"\w{1,64}", identity := _identity(name)):
            raise ValueError(
                f"{name} must contain 1 to 64 letters or digits; restore it from a backup"
            )
        self._run = _load("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "vqdit"),
            id=identity.decode(),
            name=self._workdir.name,
            dir=str(self._workdir),
            config=read_json(self._workdir / "config.json", dict, own=True),
            allow_val_change=True,  # for example, a changed number of steps
            resume="allow",
        )

    def close(self) -> None:
        """Sends the remaining values and ends the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None


KINDS = {"tensorboard": TensorBoard, "wandb": Wandb}
Tracker = TensorBoard | Wandb


def check(names: Sequence[str]) -> None:
    """Checks that the packages of trackers are installed.

    Raises:
        ImportError: a package is missing; the message names the extra that installs it.
    """
    for name in names:
        _load(name)


def trackers(names: Sequence[str], workdir: Path) -> list[Tracker]:
    """Returns the trackers, which `cut` opens; only the first process has trackers."""
    if parallel.process()[0] != 0:
        return []
    return [KINDS[name](workdir) for name in names]


def _identity(file: Path) -> bytes:
    with open_own(file) as opened:
        return opened.read(65)


def _load(name: str) -> Any:
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise ImportError(
            f"log_to={name} needs the package {MODULES[name]}; run pip install "
            f"'vqdit[{name}]' ({error})"
        ) from error
