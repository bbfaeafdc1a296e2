"""The training loop: the order of things, the workdir, and nothing of what is trained.

A workdir holds ``config.json``, ``data.json`` (what identifies the data), ``frozen/`` (what the
task uses but does not train), ``checkpoints/``, ``metrics.jsonl`` (what the mathematics gives),
``performance.jsonl`` (timings), ``previews/``, ``log.txt``; ``averages/`` if averages are kept from
which others are reconstructed; ``faults/`` if something went wrong; ``profile/`` if steps were
traced.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.data import Batch
from vqdit.profiling import accelerators
from vqdit.runs import logs, workdir
from vqdit.tasks.base import Resolve
from vqdit.train import nonfinite
from vqdit.train.doctor import Doctor
from vqdit.train.faults import Interrupts
from vqdit.train.performance import Ledger, Performance
from vqdit.train.run import FailedPreview, Run
from vqdit.train.saver import Saver
from vqdit.train.state import TrainState
from vqdit.train.trackers import check, trackers
from vqdit.train.watchdog import Watchdog
from vqdit.train.writers import JsonlWriter, Progress, Tracer
from vqdit.typing import Array, Float, Named

log = logging.getLogger(__name__)

FAULTS = "faults"
"""The folder of a workdir for what went wrong."""


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        step: finished steps.
        metrics: of the validation split, if the run is complete.
        preview: the last preview, if the run is complete.
        exit_code: 0, or that of the interruption.
    """

    step: int
    metrics: dict[str, float]
    preview: Path | None
    exit_code: int


def train(
    experiment: Experiment, folder: Path, resolve: Resolve, *, strict: bool = False
) -> Outcome:
    """Trains an experiment in its workdir, from where it stands to its end.

    Args:
        experiment: what to do.
        folder: the workdir; an unfinished run in it is resumed.
        resolve: finds the experiments that this one refers to.
        strict: whether a damaged checkpoint is an error; else it is reported, and the one before it
            is used.

    Raises:
        ValueError: the experiment cannot be trained, or the workdir holds another one.
        OSError: the workdir cannot be written.
        ImportError: the package of a tracker is not installed.
        Diverged: steps were not finite, and the experiment's policy ends the run.
    """
    experiment.check_batch(experiment.mesh.build())
    check(experiment.log_to)
    done = workdir.finished(folder, experiment)
    if done is not None:
        if done[0] > experiment.steps:
            log.warning(
                "%s has %d steps already; %d were asked for", folder, done[0], experiment.steps
            )
        return Outcome(*done, 0)
    ledger = Ledger("start")
    workdir.make_folder(folder)
    with workdir.alone(folder):
        changes = workdir.changes(folder, experiment)
        workdir.clear_failed_start(folder)
        is_first = parallel.process()[0] == 0
        with logs.to_file(folder / "log.txt") if is_first else contextlib.nullcontext():
            try:
                for change in changes:
                    log.info("changed on resume: %s", change)
                if experiment.posthoc and experiment.posthoc.every > experiment.steps:
                    log.warning(
                        "posthoc.every=%d is more than all %d steps: no average will be kept",
                        experiment.posthoc.every,
                        experiment.steps,
                    )
                with (
                    Interrupts() as interrupts,
                    Watchdog(experiment.timeouts, folder / FAULTS) as watchdog,
                    Saver(experiment, folder) as saver,
                ):
                    with interrupts.at_rest():
                        run = Run(experiment, folder, resolve, watchdog.progress, strict=strict)
                    return _Loop(run, saver, interrupts, watchdog, ledger).train()
            except Exception:
                log.exception("stopped by an error")
                raise


class _Diverging(NamedTuple):
    """Steps in a row that were skipped; `ahead` and `key` are those of `write_dumps`."""

    row: list[nonfinite.Skipped]
    ahead: int
    key: Array


class _Loop:
    """A run with all that it writes."""

    def __init__(
        self,
        run: Run,
        saver: Saver,
        interrupts: Interrupts,
        watchdog: Watchdog,
        ledger: Ledger,
    ) -> None:
        self.run, self.experiment, self.saver = run, run.experiment, saver
        self.interrupts, self.watchdog, self.ledger = interrupts, watchdog, ledger
        self.trackers = trackers(run.experiment.log_to, run.folder)
        self.metrics = JsonlWriter(run.folder / "metrics.jsonl", self.trackers)
        self.speeds = JsonlWriter(run.folder / "performance.jsonl", self.trackers)
        size = run.experiment.data.batch_size
        self.performance = Performance(ledger, self.speeds.path, size)
        self.at = saver.checkpoints.latest() or 0  # the number of finished steps
        interrupts.parting = self._note_time
        self.doctor = Doctor()
        self.results: dict[str, float] | None = None
        self.evaluated = 0  # the step that they are of
        self.preview: Path | None = None

    def train(self) -> Outcome:
        """Trains to the end, or until something stops it."""
        try:
            return self._train()
        except BaseException:
            self._note_time()
            raise

    def _train(self) -> Outcome:
        with self.interrupts.at_rest():
            state = self.run.start(self.saver.checkpoints)
        workdir.claim(self.run.folder, self.experiment)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        log.info("%s parameters; compiling the step", f"{count:,}")
        profile = self.experiment.profile
        if profile.steps and int(state.step) >= profile.start:
            log.warning("nothing is traced: step %d, profile.start, is done", profile.start)
        self._check_best(state)
        self.step = parallel.compile_step(self.run.step, state)
        self.compiled, went_back = False, 0
        if accelerators.find(jax.devices()[0].device_kind):
            self.performance.flops = self.run.step_flops(state)
        while isinstance(ended := self._steps(state), _Diverging):
            state = self._go_back(ended, went_back)
            went_back += 1
        return ended

    def _steps(self, state: TrainState) -> Outcome | _Diverging:
        """Trains from a state on, which is donated."""
        experiment, start = self.experiment, int(state.step)
        ahead = int(state.data_step) - start
        self.at = start
        with self.interrupts.at_rest():
            for writer in (self.metrics, self.speeds, *self.trackers):
                writer.cut(start)
        if line := self.performance.go_on(start):
            self.speeds.write(start, **line)
        number, count = parallel.process()
        batches = experiment.data.train_batches(
            experiment.seed, start + ahead, process_index=number, process_count=count
        )
        progress = Progress(self.run.folder.name, start, experiment.steps)
        tracer = Tracer(self.run.folder / "profile", experiment.profile)
        monitor, step = nonfinite.Monitor(experiment.nonfinite), start
        values = None
        try:
            if start and not self._look(start, state, self.metrics.names(start)):
                return self._stopped(start)
            while step < experiment.steps:
                part = "step" if self.compiled else "compile"
                self.watchdog.begin(part)
                self.ledger.begin("data")
                tracer.before(step + 1)
                with self.interrupts.at_rest(functools.partial(self.saver.save, step, state)):
                    batch = parallel.put_batch(next(batches), self.run.mesh)
                if values is not None and not values["skipped"].is_ready():
                    self.ledger.was("step")  # the devices were at work
                self.ledger.begin(part)
                state, values = self._next(state, batch)
                self.ledger.begin("step")
                self.at = step = step + 1
                tracer.after(step, state)

                last = step == experiment.steps
                if row := monitor.see(step, values, lag=0 if last else nonfinite.LAG):
                    return _Diverging(row, ahead, state.key)
                if logs := last or step % experiment.log_every == 0:
                    self._log(step, values, progress)
                    self.saver.settle_ended()
                looked = self._look(step, state)
                stopping = self.interrupts.should_stop(step)
                asked = self.interrupts.should_save(together=logs)
                if last or stopping or asked or _due(step, experiment.checkpoint_every):
                    self._begin_looking(state)
                    metrics = self.results if self.evaluated == step else None
                    self.saver.begin(step, state, metrics)
                if asked:
                    log.info("saving step %d, as SIGUSR1 asked", step)
                if stopping and not (last and looked):
                    return self._stopped(step)
        except Exception as error:
            error.add_note(f"after step {step}")
            log.error("stopped by %s after step %d", type(error).__name__, step)
            if step > start:
                self.saver.save_if_safe(step, state)
            raise
        finally:
            for writer in (self.metrics, self.speeds):
                writer.flush()
            with self.interrupts.at_rest(functools.partial(self.saver.save, step, state)):
                batches.close()  # waits for the threads that read the data
                for tracker in self.trackers:
                    tracker.close()
            progress.close()
            tracer.close()
        return self._finish(state)

    def _check_best(self, state: TrainState) -> None:
        """Makes sure that the best checkpoint can be told.

        Raises:
            ValueError: nothing that is measured has the name of what tells it.
        """
        best, every = self.experiment.keep_best, self.experiment.evaluate_every
        if not best:
            return
        known = self.run.metric_names(state)
        if best.removeprefix("-") not in known:
            raise ValueError(
                f"keep_best={best!r} names no metric of the validation split; there are "
                f"{', '.join(known)}, with a - before it for the lowest"
            )
        both = math.lcm(every, self.experiment.checkpoint_every)
        if not 0 < both <= self.experiment.steps:
            log.warning(
                "no step but the last is both evaluated and saved, so keep_best says nothing"
            )

    def _begin_looking(self, state: TrainState) -> None:
        """Notes that the time from now on is not training's, once all steps are done."""
        self.watchdog.begin("evaluate")
        jax.block_until_ready(state.step)
        self.ledger.begin("evaluate")

    def _next(self, state: TrainState, batch: Batch) -> tuple[TrainState, Any]:
        """Takes one step. While the first one compiles, nothing new needs saving."""
        if self.compiled:
            return self.step(state, self.run.frozen, batch)
        with self.interrupts.at_rest():
            ended = self.step(state, self.run.frozen, batch)
        self.compiled = True
        return ended

    def _stopped(self, step: int) -> Outcome:
        """Saves nothing more, and leaves."""
        self.saver.stop()
        self._note_time()
        log.info("saved step %d; the same command goes on from there", step)
        return Outcome(step, {}, None, self.interrupts.exit_code)

    def _note_time(self) -> None:
        """Writes down the time of a start that ends early, if the workdir is this run's by then."""
        if not (self.run.folder / workdir.CONFIG).is_file():
            return
        self.speeds.write(self.at, **self.performance.last(self.at))
        self.speeds.flush()

    def _log(self, step: int, values: Named[Float[Array, ""]], progress: Progress) -> None:
        """Writes and shows the metrics of a step."""
        numbers = {name: float(value) for name, value in parallel.host(values).items()}
        self.metrics.write(step, **numbers)
        speed = self.performance.line(step)
        progress.update(step, numbers, speed)
        for advice in self.doctor.see(numbers):
            log.warning("step %d: %s", step, advice)
        self.speeds.write(step, **speed)

    def _look(self, step: int, state: TrainState, written: Collection[str] = ()) -> bool:
        """Evaluates, previews and keeps averages where due after a step.

        Args:
            step: number of finished steps.
            state: after them.
            written: names of the metrics of this step that an earlier start wrote: it may have
                been stopped before it was done here.

        Returns:
            False if a signal came, so that something was left for later.
        """
        experiment, last = self.experiment, step == self.experiment.steps
        evaluated = any(name.startswith("validation/") for name in written)
        evaluates = last or (_due(step, experiment.evaluate_every) and not evaluated)
        previews = last or (_due(step, experiment.preview_every) and not self._has_preview(step))
        averages = experiment.posthoc and (last or _due(step, experiment.posthoc.every))
        if not (evaluates or previews or averages):
            return True
        self._begin_looking(state)
        with self.interrupts.at_rest(functools.partial(self.saver.save, step, state)):
            if evaluates:
                results = self.run.evaluate(state, lambda: self.interrupts.pressing)
                if results is None:
                    return False
                if not evaluated:
                    self._write_evaluation(step, results)
                self.results, self.evaluated = results, step
            if previews:
                if self.interrupts.pressing:
                    return False
                self.watchdog.progress()
                self._make_preview(state, last=last)
        if averages:
            self.saver.begin_averages(step, state)
        return True

    def _make_preview(self, state: TrainState, *, last: bool) -> None:
        try:
            self.preview = self.run.preview(state)
        except FailedPreview as error:
            if last or self.experiment.failed_save == "stop":
                raise
            log.error("%s; the run goes on", error)

    def _has_preview(self, step: int) -> bool:
        return any(self.run.folder.glob(f"previews/step_{step:07d}.*"))

    def _write_evaluation(self, step: int, results: dict[str, float]) -> None:
        self.metrics.write(step, **{f"validation/{name}": results[name] for name in results})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
        log.info("step %d validation: %s", step, shown)

    def _finish(self, state: TrainState) -> Outcome:
        """Notes that the run is complete."""
        self.saver.finish()
        nonfinite.check_result(state)
        if self.results is None or self.preview is None:
            raise RuntimeError(f"the run in {self.run.folder} ended without results")
        step = int(state.step)
        workdir.finish(self.run.folder, step, self.results, self.preview)
        return Outcome(step, self.results, self.preview, 0)

    def _go_back(self, ended: _Diverging, went_back: int) -> TrainState:
        """Returns the state of the last checkpoint before skipped steps, with the data after them.

        Raises:
            Diverged: the policy is another, or has done so often enough.
        """
        folder, policy = self.run.folder / FAULTS, self.experiment.nonfinite
        nonfinite.write_dumps(folder, self.experiment, *ended)
        if policy.policy != "rollback" or went_back == policy.rollbacks:
            raise nonfinite.diverged(folder, ended.row, went_back)
        self.saver.forget(ended.row[0].step)
        self.watchdog.begin("start")
        self.ledger.begin("start")
        state = self.run.start(self.saver.checkpoints)
        data_step = ended.row[-1].step + ended.ahead
        log.warning(
            "%s is the last of %d that were skipped: back at step %d, with the data after it",
            nonfinite.describe(ended.row[-1]),
            len(ended.row),
            int(state.step),
        )
        placed = jax.device_put(np.int32(data_step), state.data_step.sharding)
        return state._replace(data_step=placed)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
