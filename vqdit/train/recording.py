"""What a training run reports: metrics, performance, advice, progress, and a profiler trace."""

import logging
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp

from vqdit import parallel
from vqdit.config import Difference, Experiment
from vqdit.optim import AdamW
from vqdit.runs import workdir
from vqdit.tasks.autoencoder_training import AutoencoderTrainingTask
from vqdit.tasks.tokenizer import TokenizerTask
from vqdit.train.diagnosis import Diagnosis
from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.train.performance import Ledger, Performance
from vqdit.train.progress import Progress, too_long
from vqdit.train.tracer import Tracer
from vqdit.train.trackers import trackers
from vqdit.typing import Array, Float, Named

log = logging.getLogger(__name__)


class Recorder:
    """Writes the records of a run to its workdir and its trackers.

    Args:
        experiment: the experiment.
        folder: the workdir.
        ledger: account of the time since the run was started or last resumed.
    """

    def __init__(self, experiment: Experiment, folder: Path, ledger: Ledger) -> None:
        self._experiment, self._folder = experiment, folder
        self._trackers = trackers(experiment.log_to, folder)
        self.metrics = JsonlWriter(folder / "metrics.jsonl", self._trackers)
        self._speeds = JsonlWriter(folder / "performance.jsonl", self._trackers)
        self.performance = Performance(ledger, self._speeds.path, experiment.data.batch_size)
        self._diagnosis = Diagnosis()

    def cut(self, start: int) -> None:
        """Removes lines after step `start`, which will be written again."""
        for writer in (self.metrics, self._speeds, *self._trackers):
            writer.cut(start)

    def begin(self, start: int) -> None:
        """Begins recording, after step `start`."""
        if line := self.performance.resume(start):
            self._speeds.write(start, **line)
        self._progress = Progress(self._folder.name, start, self._experiment.steps)
        self.tracer = Tracer(self._folder / "profile", self._experiment.profile)

    def log(self, step: int, values: Named[Float[Array, ""]]) -> None:
        """Writes and shows the metrics of a step."""
        numbers = {name: float(value) for name, value in parallel.host(values).items()}
        self.metrics.write(step, **numbers)
        speed = self.performance.line(step)
        self._progress.update(step, numbers, speed)
        for advice in self._diagnosis.update(numbers):
            log.warning("step %d: %s", step, advice)
        self._speeds.write(step, **speed)

    def foresee(self, step: int, values: Named[Float[Array, ""]], seconds: float) -> None:
        """Shows the progress of an early step, and warns if the run will take very long.

        Args:
            step: number of finished steps.
            values: metrics of the step.
            seconds: time of the step.
        """
        numbers = {name: float(value) for name, value in parallel.host(values).items()}
        examples = self._experiment.data.batch_size / seconds
        speed = {"steps_per_second": 1.0 / seconds, "examples_per_second": examples}
        self._progress.update(step, numbers, speed)
        if jax.default_backend() == "cpu" and parallel.process()[0] == 0:
            source = type(self._experiment.data.source).__name__
            if advice := too_long(source, seconds * (self._experiment.steps - step)):
                log.warning("%s", advice)

    def write_time(self, step: int) -> None:
        """Writes the time of a start that ends early, if the workdir already has this run."""
        if (self._folder / workdir.CONFIG).is_file():
            self._speeds.write(step, **self.performance.last(step))
            self._speeds.flush()

    def flush(self) -> None:
        """Writes the lines that are kept in memory."""
        for writer in (self.metrics, self._speeds):
            writer.flush()

    def close_trackers(self) -> None:
        """Closes the trackers, which may be slow."""
        for tracker in self._trackers:
            tracker.close()

    def close(self) -> None:
        """Ends the progress bar and the trace."""
        self._progress.close()
        self.tracer.close()


def log_settings(experiment: Experiment, changes: Iterable[Difference], step: int) -> None:
    """Logs settings that change on resume, and settings without effect.

    Args:
        experiment: the experiment.
        changes: fields in which it differs from the experiment in the workdir.
        step: number of finished steps.
    """
    steps, optimizer = experiment.steps, experiment.optimizer
    for change in changes:
        log.info("changed on resume: %s", change)
        if change.path == "steps" and isinstance(optimizer, AdamW):
            rates = [
                jnp.asarray(optimizer.schedule(length)(step)).item()
                for length in (change.old, steps)
            ]
            log.warning(
                "the learning rate depends on the number of steps: at step %d it changes from "
                "%.3g to %.3g",
                step,
                *rates,
            )
    if experiment.posthoc and experiment.posthoc.every > steps:
        log.warning(
            "posthoc.every=%d is more than all %d steps: no average will be saved",
            experiment.posthoc.every,
            steps,
        )
    task = experiment.task
    if isinstance(task, TokenizerTask) and not experiment.init_from:
        _warn_late("task.quantizer.start", task.quantizer.start, steps, "nothing is quantized")
    if isinstance(task, AutoencoderTrainingTask) and task.adversary is not None:
        _warn_late("task.adversary.start", task.adversary.start, steps, "it is never trained")


def _warn_late(field: str, start: int, steps: int, effect: str) -> None:
    if start >= steps:
        log.warning("%s=%d is not reached in %d steps: %s", field, start, steps, effect)
