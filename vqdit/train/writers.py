"""What a run writes: `metrics.jsonl`, `performance.jsonl`, `profile/`, progress."""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from vqdit import parallel
from vqdit.config import Profile
from vqdit.train.trackers import Tracker

log = logging.getLogger(__name__)

QUIET = 10.0
"""Seconds between progress lines when the output is no terminal."""
SHOWN = {
    "codebook_usage": "  usage {:.0%}",
    "codebook_perplexity": "  perplexity {:.3g}",
    "dead_codes": "  dead {:.0%}",
    "quantization_error": "  quantisation {:.3g}",
    "gradient_share_generator": "  adversarial {:.0%}",
    "discriminator_accuracy": "  discriminator {:.0%}",
}
"""Metrics that the progress line shows, and how."""


class JsonlWriter:
    """Appends one JSON object a line, `step` first. Numbers that are not finite become strings.

    Of several processes one writes. Lines that cannot be written, as on a full disk, are kept until
    they can.

    Args:
        path: the file.
        trackers: they get the same numbers; `cut` is theirs to be called.
    """

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.path, self.trackers = path, trackers
        self._unwritten = ""

    def write(self, step: int, **values: float) -> None:
        """Writes one line, at once if that is possible."""
        if parallel.process()[0] != 0:
            return
        record: dict[str, Any] = {"step": step}
        for name, value in values.items():
            record[name] = value if math.isfinite(value) else str(value)
        was_well = not self._unwritten
        self._unwritten += json.dumps(record) + "\n"
        try:
            self._append()
        except OSError as error:
            if was_well:
                log.error("cannot write %s, whose lines are kept for later: %s", self.path, error)
        for tracker in self.trackers:
            tracker.write(step, **values)

    def _append(self) -> None:
        """Writes what is not yet written, or nothing of it."""
        if not self._unwritten:
            return
        end = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a") as file:
                file.write(self._unwritten)
        except OSError:
            if self.path.exists():
                os.truncate(self.path, end)
            raise
        self._unwritten = ""

    def flush(self) -> None:
        """Writes what is left, if that is possible now."""
        try:
            self._append()
        except OSError as error:
            count = self._unwritten.count("\n")
            log.error("%d lines of %s are lost: %s", count, self.path, error)

    def names(self, step: int) -> set[str]:
        """Returns the names of all values that were written for a step."""
        if not self.path.is_file():
            return set()
        lines = map(json.loads, self.path.read_text().splitlines())
        return {name for line in lines if line["step"] == step for name in line}

    def cut(self, step: int) -> None:
        """Drops what a resumed run will write again: lines beyond `step`, and a torn last line."""
        if parallel.process()[0] != 0:
            return
        self._unwritten = _until(step, self._unwritten)
        if not self.path.is_file():
            return
        text = self.path.read_text()
        kept = _until(step, text)
        if text.startswith(kept):
            os.truncate(self.path, len(kept.encode()))  # needs no room
            return
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(kept)
        os.replace(temporary, self.path)


def _until(step: int, text: str) -> str:
    """Returns the whole lines of steps that are not beyond `step`."""
    kept = []
    for line in text.splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return "".join(kept)


class Tracer:
    """Traces some steps of a run.

    Args:
        folder: where the trace goes.
        profile: which steps.
    """

    def __init__(self, folder: Path, profile: Profile) -> None:
        self._folder, self._profile, self._is_on = folder, profile, False

    def before(self, step: int) -> None:
        """Called before the step of that number: begins with the first one."""
        if self._profile.steps and step == self._profile.start:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True

    def after(self, step: int, state: Any) -> None:
        """Called after it, with what it gives: ends with the last one, once that is computed."""
        if self._is_on and step == self._profile.start + self._profile.steps - 1:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace, if it has not ended."""
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False


class Progress:
    """A progress bar on a terminal, a plain line every few seconds elsewhere.

    Args:
        name: of the run.
        start: finished steps.
        steps: length of the run.
    """

    def __init__(self, name: str, start: int, steps: int) -> None:
        self.name, self.steps = name, steps
        self._bar: Any = None
        self._printed = 0.0
        self._is_shown = parallel.process()[0] == 0
        if self._is_shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}  {task.fields[rates]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(name, total=steps, completed=start, rates="compiling")
            self._bar.start()

    def update(self, step: int, numbers: Mapping[str, float], speed: Mapping[str, float]) -> None:
        """Shows how a step went, and how fast the last ones were.

        Args:
            step: number of finished steps.
            numbers: metrics of the last one; "loss" and those in `SHOWN` are shown.
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
            minutes, rest = divmod(round(left), 60)
            line = f"{self.name} {step}/{self.steps}  {rates}  {minutes}:{rest:02d} left"
            with contextlib.suppress(OSError):  # it may go to a file, on a disk that is full
                print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the terminal in order."""
        if self._bar is not None:
            self._bar.stop()
