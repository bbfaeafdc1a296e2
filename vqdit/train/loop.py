"""The training loop: prepares a run, restores or creates its state, does the steps, and finishes.

The loop depends on the workdir (`vqdit.runs.workdir` lists its files), but not on the task.
"""

import contextlib
import functools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.data import Batch
from vqdit.precision import in_32_bits
from vqdit.profiling import accelerators
from vqdit.runs import lock, logs, workdir
from vqdit.tasks.base import Resolve
from vqdit.train import nonfinite
from vqdit.train.evaluation import Evaluation, is_due
from vqdit.train.performance import Ledger
from vqdit.train.recording import Recorder, log_settings
from vqdit.train.run import Run
from vqdit.train.saver import Saver, check_keep_best
from vqdit.train.signals import Interrupts
from vqdit.train.state import TrainState
from vqdit.train.trackers import check
from vqdit.train.watchdog import Watchdog
from vqdit.typing import Array, Float, Named

log = logging.getLogger(__name__)
Metrics = Named[Float[Array, ""]]
SLOW = 0.5
"""If a step takes longer than this many seconds, the loop waits for it before the next one."""


class Outcome(NamedTuple):
    """The result of a run.

    Attributes:
        step: number of finished steps.
        metrics: metrics of the validation split if the run is complete, else empty.
        preview: the last preview if the run is complete.
        exit_code: 0, or the exit code of the signal that stopped the run.
    """

    step: int
    metrics: dict[str, float]
    preview: Path | None
    exit_code: int


class _Diverging(NamedTuple):
    """Consecutive skipped steps that end an attempt, and arguments of `nonfinite.write_dumps`."""

    row: list[nonfinite.Skipped]
    ahead: int
    key: Array


@in_32_bits
def train(
    experiment: Experiment, folder: Path, resolve: Resolve, *, strict: bool = False
) -> Outcome:
    """Trains an experiment in its workdir to the end; resumes an unfinished run.

    Args:
        experiment: the experiment.
        folder: the workdir.
        resolve: returns the experiments to which this one refers.
        strict: True raises an error if a checkpoint is damaged; False reports it and uses the
            previous one.

    Raises:
        ValueError: the experiment cannot be trained, or the workdir has another experiment.
        OSError: the workdir cannot be written.
        ImportError: the package of a tracker is not installed.
        Diverged: too many steps were not finite, and the policy of the experiment ends the run.
    """
    experiment.check_batch(experiment.mesh.build())
    check(experiment.log_to)
    if (done := workdir.finished(folder, experiment)) is not None:
        more = f", more than {experiment.steps}" if done[0] > experiment.steps else ""
        log.info("%s is already done: it has %d steps%s", folder, done[0], more)
        return Outcome(*done, 0)
    ledger = Ledger("start")
    workdir.make_folder(folder)
    number = parallel.process()[0]
    workdir.refuse_links(folder)
    with lock.locked(folder):
        changes = workdir.changes(folder, experiment)
        workdir.clear_failed_start(folder)
        with (
            logs.to_file(folder / "log.txt") if number == 0 else contextlib.nullcontext(),
            Interrupts() as interrupts,
            Watchdog(experiment.timeouts, folder / workdir.FAULTS) as watchdog,
            Saver(experiment, folder) as saver,
        ):
            log_settings(experiment, changes, saver.checkpoints.latest() or 0)
            with interrupts.may_exit():
                run = Run(experiment, folder, resolve, watchdog.progress, strict=strict)
            return _Loop(run, saver, interrupts, watchdog, ledger).train()


class _Loop:
    """The phases of a run. `state` is the state after `at` steps; every step donates it."""

    def __init__(
        self, run: Run, saver: Saver, interrupts: Interrupts, watchdog: Watchdog, ledger: Ledger
    ) -> None:
        self.run, self.experiment, self.saver = run, run.experiment, saver
        self.interrupts, self.watchdog, self.ledger = interrupts, watchdog, ledger
        self.recorder = Recorder(run.experiment, run.folder, ledger)
        metrics = self.recorder.metrics
        self.evaluation = Evaluation(run, saver, interrupts, watchdog, metrics, self._pause)
        self.at = saver.checkpoints.latest() or 0
        self.shapes: set[tuple[tuple[int, ...], ...]] = set()  # compiled batch shapes
        self.compiles = True  # whether the last step had a new shape
        interrupts.before_exit = lambda: self.recorder.write_time(self.at)

    def train(self) -> Outcome:
        """Runs all phases; a diverging run may roll back to a checkpoint and try again."""
        try:
            self._restore_or_start()
            self._prepare()
            rollbacks = 0
            while isinstance(ended := self._attempt(), _Diverging):
                self._roll_back(ended, rollbacks)
                rollbacks += 1
            return ended
        except BaseException:
            self.recorder.write_time(self.at)
            raise

    def _restore_or_start(self) -> None:
        with self.interrupts.may_exit():
            self.state = self.run.start(self.saver.checkpoints)
        workdir.claim(self.run.folder, self.experiment)

    def _prepare(self) -> None:
        """Checks the options that depend on the state, and sets up the compiled step."""
        count = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        log.info("%s parameters; compiling the step", f"{count:,}")
        profile = self.experiment.profile
        if profile.steps and int(self.state.step) >= profile.start:
            log.warning("no profiler trace: step %d, profile.start, is already done", profile.start)
        if self.experiment.keep_best:
            check_keep_best(self.experiment, self.run.metric_names(self.state))
        self.step = parallel.compile_step(self.run.step, self.state)
        if accelerators.find(jax.devices()[0].device_kind):
            self.recorder.performance.flops = self.run.step_flops(self.state)

    def _attempt(self) -> Outcome | _Diverging:
        """Trains from the current state to the end, a signal, or too many skipped steps."""
        start = self.at = int(self.state.step)
        ahead = int(self.state.data_step) - start
        with self.interrupts.may_exit():
            self.recorder.cut(start)
        self.recorder.begin(start)
        number, count = parallel.process()
        batches = self.experiment.data.train_batches(
            self.experiment.seed, start + ahead, process_index=number, process_count=count
        )
        try:
            ended = self._steps(batches, ahead)
            if ended is not None:
                return ended
        except Exception as error:
            error.add_note(f"after step {self.at}")
            log.error("stopped by %s after step %d", type(error).__name__, self.at)
            if self.at > start:
                self.saver.save_if_safe(self.at, self.state)
            raise
        finally:
            self._close(batches)
        return self._finish()

    def _steps(self, batches: Iterator[Batch], ahead: int) -> Outcome | _Diverging | None:
        """Does the steps; returns None after the last one."""
        experiment, monitor = self.experiment, nonfinite.Monitor(self.experiment.nonfinite)
        names = self.recorder.metrics.names(self.at)
        if self.at and not self.evaluation.after(self.at, self.state, names):
            return self._stopped()
        metrics, begun, since, is_slow = None, self.at, time.monotonic(), True
        is_foreseen = False
        while self.at < experiment.steps:
            metrics = self._step(batches, metrics and metrics["skipped"])
            last = self.at == experiment.steps
            if row := monitor.see(self.at, metrics, lag=0 if last or is_slow else nonfinite.LAG):
                return _Diverging(row, ahead, self.state.key)
            if is_slow:  # so that no step is queued, and a signal stops after this step
                seconds, since = time.monotonic() - since, time.monotonic()
                is_slow = self.at < begun + 2 or seconds > SLOW
                if not (is_foreseen or self.compiles or last) and self.at >= begun + 2:
                    self.recorder.foresee(self.at, metrics, seconds)
                    is_foreseen = True
            if logs := last or self.at % experiment.log_every == 0:
                self.recorder.log(self.at, metrics)
                self.saver.settle_ended()
            is_evaluated = self.evaluation.after(self.at, self.state)
            stopping = self.interrupts.should_stop(self.at)
            self._save_if_due(self.interrupts.should_save(together=logs), must=last or stopping)
            if stopping and not (last and is_evaluated):
                return self._stopped()
        return None

    def _step(self, batches: Iterator[Batch], before: Any) -> Metrics:
        """Does one step and returns its metrics; `before` is a metric of the previous step."""
        self.watchdog.begin("step" if self.shapes else "compile")
        self.ledger.begin("data")
        self.recorder.tracer.before(self.at + 1)
        with self.interrupts.may_exit(self._save_now()):
            batch = parallel.put_batch(next(batches), self.run.mesh)
        if before is not None and not before.is_ready():
            self.ledger.was("step")  # the devices were still computing steps
        self.compiles = _shapes(batch) not in self.shapes
        if self.compiles:
            self.watchdog.begin("compile")
        self.ledger.begin("compile" if self.compiles else "step")
        self.state, metrics = self._next(self.state, batch)
        self.ledger.begin("step")
        self.at += 1
        self.recorder.tracer.after(self.at, self.state)
        return metrics

    def _next(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Calls the compiled step; during the first call, there is nothing new to save."""
        with contextlib.nullcontext() if self.shapes else self.interrupts.may_exit():
            ended = self.step(state, self.run.frozen, batch)
            if not self.shapes and parallel.process()[1] > 1:
                jax.block_until_ready(ended)  # others may not be there yet
        self.shapes.add(_shapes(batch))
        return ended

    def _pause(self, state: TrainState) -> None:
        """Waits for running steps; counts the time after that as evaluation."""
        self.watchdog.begin("evaluate")
        jax.block_until_ready(state.step)
        self.ledger.begin("evaluate")

    def _save_if_due(self, asked: bool, *, must: bool) -> None:
        if must or asked or is_due(self.at, self.experiment.checkpoint_every):
            self._pause(self.state)
            is_measured = self.evaluation.step == self.at
            metrics = self.evaluation.results if is_measured else None
            self.saver.begin(self.at, self.state, metrics)
        if asked:
            log.info("saving step %d, requested by SIGUSR1", self.at)

    def _save_now(self) -> functools.partial[None]:
        """Returns a function that saves the current state, for the thread that watches signals."""
        return functools.partial(self.saver.save, self.at, self.state)

    def _close(self, batches: Any) -> None:
        self.recorder.flush()
        with self.interrupts.may_exit(self._save_now()):
            batches.close()  # waits for the threads that read data
            self.recorder.close_trackers()
        self.recorder.close()

    def _stopped(self) -> Outcome:
        """Waits for the checkpoint with which the run stops."""
        self.saver.stop()
        self.recorder.write_time(self.at)
        log.info("saved step %d. Re-run the same command to resume.", self.at)
        return Outcome(self.at, {}, None, self.interrupts.exit_code)

    def _finish(self) -> Outcome:
        """Marks the run as complete."""
        self.saver.finish()
        nonfinite.check_result(self.state)
        results, preview = self.evaluation.results, self.evaluation.preview
        if results is None or preview is None:
            raise RuntimeError(
                f"the run in {self.run.folder} ended without an evaluation or a preview, which is "
                "a bug of vqdit"
            )
        workdir.finish(self.run.folder, self.at, results, preview)
        return Outcome(self.at, results, preview, 0)

    def _roll_back(self, ended: _Diverging, rollbacks: int) -> None:
        """Restores the last checkpoint before the skipped steps, and continues with later data.

        Raises:
            Diverged: the policy is not "rollback", or allows no further rollback.
        """
        folder, policy = self.run.folder / workdir.FAULTS, self.experiment.nonfinite
        nonfinite.write_dumps(folder, self.experiment, *ended)
        if policy.policy != "rollback" or rollbacks == policy.rollbacks:
            raise nonfinite.diverged(folder, ended.row, rollbacks)
        self.saver.forget(ended.row[0].step)
        self.watchdog.begin("start")
        self.ledger.begin("start")
        state = self.run.start(self.saver.checkpoints)
        data_step = np.int32(ended.row[-1].step + ended.ahead)
        placed = jax.device_put(data_step, state.data_step.sharding)
        self.state = state._replace(data_step=placed)
        log.warning(
            "%d steps in a row were skipped, the last was %s: rolled back to step %d; training "
            "continues with the data after the skipped steps",
            len(ended.row),
            nonfinite.describe(ended.row[-1]),
            int(state.step),
        )


def _shapes(batch: Batch) -> tuple[tuple[int, ...], ...]:
    """Returns the shapes of a batch's arrays; each different result needs one compilation."""
    return tuple(leaf.shape for leaf in jax.tree.leaves(batch))
