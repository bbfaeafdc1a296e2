"""Evaluations, previews and averages of a run, at the steps at which they are due."""

import functools
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.train.run import FailedPreview, Run
from vqdit.train.saver import Saver
from vqdit.train.signals import Interrupts
from vqdit.train.state import TrainState
from vqdit.train.watchdog import Watchdog

log = logging.getLogger(__name__)


def is_due(step: int, every: int) -> bool:
    """Returns whether an action with a period of `every` steps (0: never) follows this step."""
    return every > 0 and step % every == 0


class Evaluation:
    """Evaluates a run, writes its previews and saves its averages.

    Args:
        run: the run.
        saver: saves averages, and the state if a signal arrives.
        interrupts: tells whether a signal has arrived.
        watchdog: the watchdog, which is notified of progress.
        metrics: writer of the validation metrics.
        pause: function that waits for running steps; called before an evaluation.

    Attributes:
        results: the last validation metrics; None before the first evaluation.
        step: the step of these metrics.
        preview: the last preview.
    """

    def __init__(
        self,
        run: Run,
        saver: Saver,
        interrupts: Interrupts,
        watchdog: Watchdog,
        metrics: JsonlWriter,
        pause: Callable[[TrainState], None],
    ) -> None:
        self._run, self._saver, self._interrupts = run, saver, interrupts
        self._watchdog, self._metrics, self._pause = watchdog, metrics, pause
        self.results: dict[str, float] | None = None
        self.step = 0
        self.preview: Path | None = None

    def after(self, step: int, state: TrainState, written: Collection[str] = ()) -> bool:
        """Evaluates, writes a preview and saves averages if these are due after a step.

        Args:
            step: number of finished steps.
            state: the state after them.
            written: names of the metrics of this step that are already in `metrics.jsonl`, because
                an earlier start of the run was stopped while it evaluated this step.

        Returns:
            False if a signal arrived and work was postponed.
        """
        experiment = self._run.experiment
        last = step == experiment.steps
        is_written = any(name.startswith("validation/") for name in written)
        evaluates = last or (is_due(step, experiment.evaluate_every) and not is_written)
        previews = last or (is_due(step, experiment.preview_every) and not self._has_preview(step))
        averages = experiment.posthoc and (last or is_due(step, experiment.posthoc.every))
        if not (evaluates or previews or averages):
            return True
        self._pause(state)
        with self._interrupts.may_exit(functools.partial(self._saver.save, step, state)):
            if evaluates and not self._evaluate(step, state, write=not is_written):
                return False
            if previews and not self._write_preview(state, last=last):
                return False
        if averages:
            self._saver.begin_averages(step, state)
        return True

    def _evaluate(self, step: int, state: TrainState, *, write: bool) -> bool:
        results = self._run.evaluate(state, lambda: self._interrupts.is_urgent)
        if results is None:
            return False
        if write:
            self._metrics.write(step, **{f"validation/{name}": results[name] for name in results})
            shown = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
            log.info("step %d validation: %s", step, shown)
        self.results, self.step = results, step
        return True

    def _write_preview(self, state: TrainState, *, last: bool) -> bool:
        if self._interrupts.is_urgent:
            return False
        self._watchdog.progress()
        try:
            self.preview = self._run.preview(state)
        except FailedPreview as error:
            if last or self._run.experiment.failed_save == "stop":
                raise
            log.error("%s; the run continues", error)
        return True

    def _has_preview(self, step: int) -> bool:
        return any(self._run.folder.glob(f"previews/step_{step:07d}.*"))
