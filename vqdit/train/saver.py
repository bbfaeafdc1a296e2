"""Saves the checkpoints and averages of a run; applies the policy for saves that fail."""

import contextlib
import logging
import math
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.runs import workdir
from vqdit.runs.checkpoint_retention import KEEP_ALL, Keep
from vqdit.runs.checkpoints import Checkpoints
from vqdit.runs.failed_saves import FailedSave
from vqdit.runs.workdir import AVERAGES, CHECKPOINTS
from vqdit.train import state as states
from vqdit.train.state import TrainState

log = logging.getLogger(__name__)


class Saver:
    """Saves the states of a run, and applies `Experiment.failed_save` to saves that fail.

    Args:
        experiment: the experiment, whose fields determine which checkpoints are kept.
        folder: the workdir.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        keep = Keep(last=experiment.keep, every=experiment.keep_every, best=experiment.keep_best)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep)
        self._averages = Checkpoints(folder / AVERAGES, KEEP_ALL)
        self._folder, self._identity = folder, _identity(folder)
        self._recorded: int | None = None
        self._continues = experiment.failed_save == "continue"
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Saver":
        self._open.enter_context(self.checkpoints)
        self._open.enter_context(self._averages)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def begin(self, step: int, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Starts a checkpoint after the previous save has ended.

        Args:
            step: number of finished steps.
            state: the state after them.
            metrics: validation metrics at this step, if known.
        """
        self._settle(self.checkpoints)
        self.checkpoints.save(step, state, metrics)

    def begin_averages(self, step: int, state: TrainState) -> None:
        """Starts saving the averages of a state."""
        self._settle(self._averages)
        self._averages.save(step, state.profiles)

    def settle(self) -> None:
        """Waits for running saves; the policy determines whether a failure is an error."""
        self._settle(self.checkpoints)
        self._settle(self._averages)

    def settle_ended(self) -> None:
        """Handles saves that have already ended, so that failures are noticed early."""
        for saved in (self.checkpoints, self._averages):
            if saved.has_ended():
                self._settle(saved)

    def _settle(self, saved: Checkpoints) -> None:
        try:
            self._wait(saved)
        except FailedSave as error:
            if not (self._continues and error.is_of_disk):
                raise
            newest = saved.latest()
            kept = "there is no checkpoint yet" if newest is None else f"the newest is {newest}"
            log.error("%s; the run continues; %s", error, kept)

    def _wait(self, saved: Checkpoints) -> None:
        """Waits for the running save, and records the newest checkpoint.

        Raises:
            FailedSave: the checkpoint could not be written.
            OSError: the workdir has vanished; it is not created again.
        """
        if _identity(self._folder) != self._identity:
            raise OSError(
                f"the workdir {self._folder} was removed, moved or replaced while the run wrote "
                "into it; put it back and run the same command again"
            )
        saved.wait()
        newest = saved.latest()
        if saved is self.checkpoints and newest != self._recorded and parallel.process()[0] == 0:
            try:
                workdir.record_saved(self._folder, newest)
            except OSError as error:
                log.error("%s", error)
            self._recorded = newest

    def save(self, step: int, state: TrainState) -> None:
        """Saves a checkpoint and waits until it is on disk."""
        with contextlib.suppress(FailedSave):  # ignores failures of earlier steps
            self._wait(self.checkpoints)
        self.checkpoints.save(step, state)
        self._wait(self.checkpoints)

    def save_if_safe(self, step: int, state: TrainState) -> None:
        """Saves the last finished state after an error, unless that state is damaged.

        With several processes, nothing is saved, as they can only save together.
        """
        if jax.process_count() == 1 and states.is_whole(state):
            try:
                self.save(step, state)
                log.info("saved step %d", step)
            except Exception:
                log.exception("could not save step %d; the last checkpoint is unchanged", step)

    def stop(self) -> None:
        """Waits for the checkpoint with which the run stops; raises FailedSave if it failed."""
        self._wait(self.checkpoints)
        self._settle(self._averages)

    def finish(self) -> None:
        """Waits for the last checkpoint and averages; raises FailedSave if one of them failed."""
        self._wait(self.checkpoints)
        self._wait(self._averages)

    def forget(self, step: int) -> None:
        """Removes checkpoints and averages from a step on, before the run is rolled back."""
        self.settle()
        for saved in (self.checkpoints, self._averages):
            saved.close()
            if parallel.process()[0] == 0:
                for later in saved.steps():
                    if later >= step:
                        shutil.rmtree(saved.folder / str(later))
        parallel.together("checkpoints forgotten")
        self._wait(self.checkpoints)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Returns what distinguishes a folder from a later one at the same path; None if it is gone."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_keep_best(experiment: Experiment, known: Collection[str]) -> None:
    """Checks that the best checkpoint can be determined.

    Args:
        experiment: the experiment.
        known: names of the metrics of the validation split.

    Raises:
        ValueError: the metric of `keep_best` is not one of them.
    """
    best, every = experiment.keep_best, experiment.evaluate_every
    if best.removeprefix("-") not in known:
        raise ValueError(
            f"keep_best={best!r} is not a metric of the validation split; choose one of "
            f"{', '.join(known)}, and put '-' before its name if the lowest value is best"
        )
    if not 0 < math.lcm(every, experiment.checkpoint_every) <= experiment.steps:
        log.warning(
            "keep_best has no effect, because only the last step is both evaluated and saved"
        )
