"""What a run saves of itself: checkpoints, and averages from which others are reconstructed."""

import contextlib
import logging
import shutil
from pathlib import Path
from typing import Any

import jax

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.runs.checkpoints import KEEP_ALL, Checkpoints, FailedSave, Keep
from vqdit.runs.workdir import AVERAGES, CHECKPOINTS
from vqdit.train import state as states
from vqdit.train.state import TrainState

log = logging.getLogger(__name__)


class Saver:
    """Saves the states of a run, and follows its policy when that fails.

    Args:
        experiment: says which checkpoints stay, and whether the run goes on without one.
        folder: the workdir.
    """

    def __init__(self, experiment: Experiment, folder: Path) -> None:
        keep = Keep(last=experiment.keep, every=experiment.keep_every, best=experiment.keep_best)
        self.checkpoints = Checkpoints(folder / CHECKPOINTS, keep)
        self._averages = Checkpoints(folder / AVERAGES, KEEP_ALL)
        self._goes_on = experiment.failed_save == "continue"
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "Saver":
        self._open.enter_context(self.checkpoints)
        self._open.enter_context(self._averages)
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def begin(self, step: int, state: TrainState, metrics: dict[str, float] | None = None) -> None:
        """Begins a checkpoint, whatever became of the one before, with what is measured of it."""
        self._settle(self.checkpoints)
        self.checkpoints.save(step, state, metrics)

    def begin_averages(self, step: int, state: TrainState) -> None:
        """Begins to save the averages of a state."""
        self._settle(self._averages)
        self._averages.save(step, state.profiles)

    def settle(self) -> None:
        """Waits for what has begun; a save that failed is reported, or an error, by the policy."""
        self._settle(self.checkpoints)
        self._settle(self._averages)

    def settle_ended(self) -> None:
        """The same of what needs no waiting, so that a failure is noticed early."""
        for saved in (self.checkpoints, self._averages):
            if saved.has_ended():
                self._settle(saved)

    def _settle(self, saved: Checkpoints) -> None:
        try:
            saved.wait()
        except FailedSave as error:
            if not (self._goes_on and error.is_of_disk):
                raise
            newest = saved.latest()
            stands = "no checkpoint yet" if newest is None else f"{newest} as the newest"
            log.error("%s; the run goes on, with %s", error, stands)

    def save(self, step: int, state: TrainState) -> None:
        """Saves a checkpoint, and waits until that is done."""
        with contextlib.suppress(FailedSave):  # of an earlier step: what matters now is this one
            self.checkpoints.wait()
        self.checkpoints.save(step, state)
        self.checkpoints.wait()

    def save_if_safe(self, step: int, state: TrainState) -> None:
        """Saves the last finished state after an error, unless it is damaged.

        Several processes do not: one of them alone could not.
        """
        if jax.process_count() == 1 and states.is_whole(state):
            try:
                self.save(step, state)
                log.info("saved step %d", step)
            except Exception:
                log.exception("could not save step %d; the last checkpoint stays", step)

    def stop(self) -> None:
        """Waits for the checkpoint to leave with, which must not fail."""
        self.checkpoints.wait()
        self._settle(self._averages)

    def finish(self) -> None:
        """Waits for the last of all that is saved; none of it must fail."""
        self.checkpoints.wait()
        self._averages.wait()

    def forget(self, step: int) -> None:
        """Removes what was saved from a step on: the run takes another way from there."""
        self.settle()
        for saved in (self.checkpoints, self._averages):
            saved.close()
            if parallel.process()[0] == 0:
                for later in saved.steps():
                    if later >= step:
                        shutil.rmtree(saved.folder / str(later))
        parallel.together("checkpoints forgotten")
