"""Shows the progress of a run on the terminal."""

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from vqdit import parallel
from vqdit.escapes import escaped

QUIET = 10.0
"""Seconds between progress lines if the output is not a terminal."""
LONG = 6 * 3600.0
"""Seconds of training on a CPU that count as very long."""
SMALLER = {"ImageFolder": "image/folder_cpu", "SpokenFashion": "joint/spoken_fashion_cpu"}
"""Shipped configs that a CPU can train, by data source; "quickstart" for all other sources."""
SHOWN = {
    "codebook_usage": "  usage {:.0%}",
    "codebook_perplexity": "  perplexity {:.3g}",
    "dead_codes": "  dead {:.0%}",
    "quantization_error": "  quantisation {:.3g}",
    "gradient_share_generator": "  adversarial {:.0%}",
    "discriminator_accuracy": "  discriminator {:.0%}",
}
"""Formats of the metrics that the progress line shows in addition to the loss."""


class Progress:
    """Shows a progress bar on a terminal, and prints a line every few seconds elsewhere.

    Args:
        name: name of the run.
        start: number of steps already finished.
        steps: length of the run in steps.
    """

    def __init__(self, name: str, start: int, steps: int) -> None:
        self.name, self.steps = escaped(name), steps
        self._bar: Any = None
        self._printed = 0.0
        self._is_shown = parallel.process()[0] == 0
        if self._is_shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}  {task.fields[rates]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(
                self.name, total=steps, completed=start, rates="compiling"
            )
            self._bar.start()

    def update(self, step: int, numbers: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Shows the metrics of a step and the current speed.

        Args:
            step: number of finished steps.
            numbers: metrics of the last step; "loss" and those in `SHOWN` are shown.
            speed: "steps_per_second" and "examples_per_second".
        """
        now, rate = time.monotonic(), speed["steps_per_second"]
        left = (self.steps - step) / rate if rate else 0.0
        shown = "".join(form.format(numbers[n]) for n, form in SHOWN.items() if n in numbers)
        speeds = f"{rate:.3g} steps/s  {speed['examples_per_second']:.3g} examples/s"
        rates = f"loss {numbers['loss']:.4g}{shown}  {speeds}"
        if self._bar is not None:
            self._bar.update(self._task, completed=step, rates=rates)
        elif self._is_shown and (now - self._printed >= QUIET or step == self.steps):
            self._printed = now
            line = f"{self.name} {step}/{self.steps}  {rates}  {duration(left)} left"
            with contextlib.suppress(OSError):  # stderr may be a file on a full disk
                print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Removes the progress bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()


def too_long(source: str, seconds: float) -> str:
    """Returns advice for a run that will take very long on a CPU, or an empty string.

    Args:
        source: class name of the run's data source.
        seconds: remaining time of the run in seconds.
    """
    if seconds <= LONG:
        return ""
    return (
        f"this run will take about {seconds / 3600:.0f} hours on this CPU; "
        f"--config={SMALLER.get(source, 'quickstart')} is small enough for a CPU; or give fewer "
        "steps"
    )


def duration(seconds: float) -> str:
    """Returns a time as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
