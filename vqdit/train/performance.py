"""Measures the speed of a run and the use of its time, for `performance.jsonl`.

Goodput is the fraction of a run's time that was spent on steps which were not lost. The rest is
compilation, waiting for data, evaluations, saves, and steps that were repeated after a crash. The
time between two starts, and after the last line of a start that crashed, is unknown and not
counted.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vqdit.profiling import accelerators
from vqdit.train.jsonl_writer import read_lines

LINE = {"step": int, "goodput?": float, "elapsed_seconds?": float, "lost_seconds?": float}
"""Schema of a line of the file; other values of a line are not read."""


class Ledger:
    """Seconds spent on each part of a run.

    Args:
        part: the first part.
        clock: returns the time in seconds.
    """

    def __init__(self, part: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._part, self._clock, self._since = part, clock, clock()
        self._spent: defaultdict[str, float] = defaultdict(float)

    def begin(self, part: str) -> None:
        """Counts later time towards a part."""
        now = self._clock()
        self._spent[self._part] += now - self._since
        self._part, self._since = part, now

    def was(self, part: str) -> None:
        """Counts the time since the last `begin` towards a different part."""
        self._part = part

    @property
    def spent(self) -> defaultdict[str, float]:
        """Seconds until now, by part."""
        self.begin(self._part)
        return self._spent.copy()


class Performance:
    """Makes the lines of `performance.jsonl`.

    It uses the parts "compile", "data" (waiting for data) and "step" of the ledger.

    Args:
        ledger: time spent in this start of the run.
        path: the file, whose lines have the time of earlier starts.
        batch_size: number of examples per step.

    Attributes:
        flops: model FLOPs of a step over all devices; 0 if unknown, which omits MFU.
    """

    def __init__(self, ledger: Ledger, path: Path, batch_size: int) -> None:
        self._ledger, self._path = ledger, path
        self._batch_size, self.flops = batch_size, 0.0
        self._earlier = _history(path)[0]
        self._useful = 0.0
        self._written = 0.0  # seconds of this start in the file
        self._step, self._before = 0, ledger.spent

    def resume(self, step: int) -> dict[str, float]:
        """Resumes after a step; all later lines must have been removed from the file.

        Returns:
            A line with the time of the removed lines, `lost_seconds`; {} if there were none.
        """
        kept, self._useful = _history(self._path)
        self._step, self._before = step, self._ledger.spent
        self._written = max(kept - self._earlier, 0.0)
        lost = self._earlier - kept
        return {"lost_seconds": lost} if lost > 0.0 else {}

    def last(self, step: int) -> dict[str, float]:
        """Returns the last line of a start that ends before the run is complete.

        It covers the steps since the last line; if there are none, it has only `lost_seconds`.
        """
        if step > self._step:
            return self.line(step)
        written, self._written = self._written, sum(self._ledger.spent.values())
        return {"lost_seconds": self._written - written}

    def line(self, step: int) -> dict[str, float]:
        """Returns the performance since the last line.

        Args:
            step: number of finished steps.

        Returns:
            Metrics by name.

            - `steps_per_second`, `examples_per_second`: rates that include waiting for data, but
              not compilation.
            - `step_seconds`: seconds per step, without waiting for data.
            - `data_wait_seconds`: time in which the devices were idle, waiting for data.
            - `compile_seconds`: time until the first step of this start was dispatched; 0 in later
              lines.
            - `elapsed_seconds`: time of all starts so far; crashed starts count up to their last
              line.
            - `goodput`: fraction of `elapsed_seconds` that was spent on steps which were not lost.
            - `memory_gb`: peak memory of one device in 10^9 bytes, if the device reports it.
            - `mfu`: model FLOPs utilization, if the devices' peak FLOP/s are known.
        """
        spent = self._ledger.spent
        compiling, waiting, stepping = (
            spent[part] - self._before[part] for part in ("compile", "data", "step")
        )
        done = step - self._step
        self._step, self._before = step, spent
        self._useful += stepping
        self._written = sum(spent.values())
        elapsed = self._earlier + self._written
        training = stepping + waiting
        rate = done / training if training else 0.0
        found = {
            "steps_per_second": rate,
            "examples_per_second": rate * self._batch_size,
            "step_seconds": stepping / max(done, 1),
            "data_wait_seconds": waiting,
            "compile_seconds": compiling,
            "elapsed_seconds": elapsed,
            "goodput": self._useful / elapsed if elapsed else 0.0,
        }
        devices = jax.local_devices()
        if memory := [used for used in map(_peak, devices) if used]:
            found["memory_gb"] = max(memory) / 1e9
        chip = accelerators.find(devices[0].device_kind)
        if chip is not None and self.flops:
            found["mfu"] = rate * self.flops / (chip.flops * jax.device_count())
        return found


def _peak(device: Any) -> int:
    return (device.memory_stats() or {}).get("peak_bytes_in_use", 0)


def _history(path: Path) -> tuple[float, float]:
    """Returns the seconds recorded in a file: the total, and the seconds of steps."""
    elapsed = useful = 0.0
    for line in read_lines(path, LINE):
        if "goodput" in line:
            elapsed = max(elapsed, line.get("elapsed_seconds", 0.0))
            useful = line["goodput"] * line.get("elapsed_seconds", 0.0)
        elapsed += line.get("lost_seconds", 0.0)
    return elapsed, useful
