"""What a run records as it trains: metrics, performance, advice, the progress bar and a trace."""

import logging
from pathlib import Path

from vqdit import parallel
from vqdit.config import Experiment
from vqdit.runs import workdir
from vqdit.train.diagnosis import Diagnosis
from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.train.performance import Ledger, Performance
from vqdit.train.progress import Progress
from vqdit.train.tracer import Tracer
from vqdit.train.trackers import trackers
from vqdit.typing import Array, Float, Named

log = logging.getLogger(__name__)


class Recorder:
    """Writes what a run records into its workdir and to its trackers.

    Args:
        experiment: the experiment.
        folder: the workdir.
        ledger: where the time of this start went.
    """

    def __init__(self, experiment: Experiment, folder: Path, ledger: Ledger) -> None:
        self._experiment, self._folder = experiment, folder
        self._trackers = trackers(experiment.log_to, folder)
        self.metrics = JsonlWriter(folder / "metrics.jsonl", self._trackers)
        self._speeds = JsonlWriter(folder / "performance.jsonl", self._trackers)
        self.performance = Performance(ledger, self._speeds.path, experiment.data.batch_size)
        self._diagnosis = Diagnosis()

    def cut(self, start: int) -> None:
        """Removes lines after step `start`, which are written again."""
        for writer in (self.metrics, self._speeds, *self._trackers):
            writer.cut(start)

    def begin(self, start: int) -> None:
        """Begins to record steps after step `start`."""
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

    def write_time(self, step: int) -> None:
        """Writes the time of a start that ends early, if the workdir is already this run's."""
        if (self._folder / workdir.CONFIG).is_file():
            self._speeds.write(step, **self.performance.last(step))
            self._speeds.flush()

    def flush(self) -> None:
        """Writes the lines that are kept in memory."""
        for writer in (self.metrics, self._speeds):
            writer.flush()

    def close_trackers(self) -> None:
        """Closes the trackers, which may take a while."""
        for tracker in self._trackers:
            tracker.close()

    def close(self) -> None:
        """Ends the progress bar and the trace."""
        self._progress.close()
        self.tracer.close()
