"""Where the numbers of a run go besides its workdir: TensorBoard, Weights & Biases.

Each is an extra of the package and is imported only where it is asked for. A tracker has the
`write` and `cut` of `JsonlWriter`, which passes its numbers on; `cut` begins it too.
"""

import importlib
import json
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdit import parallel

log = logging.getLogger(__name__)

MODULES = {"tensorboard": "tensorboardX", "wandb": "wandb"}
"""What is imported for each; the names are those of `Experiment.log_to` and of the extras."""


class TensorBoard:
    """Writes scalars into a folder that TensorBoard reads."""

    def __init__(self, workdir: Path) -> None:
        self._folder = workdir / "tensorboard"
        self._writer: Any = None

    def write(self, step: int, **values: float) -> None:
        """Writes the numbers of a step."""
        for name, value in values.items():
            if self._writer is not None and not self._is_writing():
                log.error("TensorBoard's files cannot be written any more; see the error above")
                self._writer = None
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)

    def cut(self, step: int) -> None:
        """Begins a file, because of which TensorBoard drops what earlier ones say after `step`."""
        self.close()
        self._writer = _load("tensorboard").SummaryWriter(
            logdir=str(self._folder), purge_step=step + 1, flush_secs=10
        )

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None and self._is_writing():
            self._writer.close()
        self._writer = None

    def _is_writing(self) -> bool:
        """Whether its thread lives: after an error, as on a full disk, one would wait for it."""
        events = getattr(getattr(self._writer, "file_writer", None), "event_writer", None)
        thread = getattr(events, "_worker", None)
        return thread is None or thread.is_alive()


class Wandb:
    """Logs to one run of Weights & Biases for each workdir, which `wandb_id` there names.

    It cannot take back what it has: of a step that it knows from before a resume, or before a
    rollback, it keeps the numbers that it has. The project is that of WANDB_PROJECT, or "vqdit".
    """

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir.absolute()
        self._run: Any = None

    def write(self, step: int, **values: float) -> None:
        """Logs the numbers of a step, unless later ones have been logged, or the run is closed."""
        if self._run is not None and step >= self._run.step:
            self._run.log(values, step=step)

    def cut(self, step: int) -> None:
        """Begins the run, or goes on with it from wherever it stands."""
        del step
        self.close()
        name = self._workdir / "wandb_id"
        if not name.is_file():
            name.write_text(secrets.token_hex(8))
        self._run = _load("wandb").init(
            project=os.environ.get("WANDB_PROJECT", "vqdit"),
            id=name.read_text(),
            name=self._workdir.name,
            dir=str(self._workdir),
            config=json.loads((self._workdir / "config.json").read_text()),
            allow_val_change=True,  # steps, for one
            resume="allow",
        )

    def close(self) -> None:
        """Sends what is left."""
        if self._run is not None:
            self._run.finish()
            self._run = None


KINDS = {"tensorboard": TensorBoard, "wandb": Wandb}
Tracker = TensorBoard | Wandb


def check(names: Sequence[str]) -> None:
    """Makes sure that trackers can be used.

    Raises:
        ImportError: the package of one is not installed; names the extra to install.
    """
    for name in names:
        _load(name)


def trackers(names: Sequence[str], workdir: Path) -> list[Tracker]:
    """Returns trackers, each to be begun by `cut`; of several processes only the first has any."""
    if parallel.process()[0] != 0:
        return []
    return [KINDS[name](workdir) for name in names]


def _load(name: str) -> Any:
    try:
        return importlib.import_module(MODULES[name])
    except ImportError as error:
        raise ImportError(
            f"log_to={name} needs {MODULES[name]}: pip install 'vqdit[{name}]' ({error})"
        ) from error
