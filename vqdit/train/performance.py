"""Where the time of a run goes, and how fast it is: what `performance.jsonl` says.

Goodput is the share of a run's time that was spent on steps that it still has. Compilation, waits
for data, evaluations, saves, and steps that were taken again after a crash are the rest. What
passes between two starts, or after the last line of one that crashed, is not known.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from vqdit.profiling import accelerators


class Ledger:
    """Seconds by what they were spent on.

    Args:
        part: what is begun with.
        clock: tells the seconds.
    """

    def __init__(self, part: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._part, self._clock, self._since = part, clock, clock()
        self._spent: defaultdict[str, float] = defaultdict(float)

    def begin(self, part: str) -> None:
        """Says that the time from now on is spent on this."""
        now = self._clock()
        self._spent[self._part] += now - self._since
        self._part, self._since = part, now

    def was(self, part: str) -> None:
        """Says that the time since the last beginning was spent on something else."""
        self._part = part

    @property
    def spent(self) -> defaultdict[str, float]:
        """Seconds until now, by part."""
        self.begin(self._part)
        return self._spent.copy()


class Performance:
    """Makes the lines of `performance.jsonl`.

    The parts of the ledger that it knows are "compile", "data" (waiting for it) and "step".

    Args:
        ledger: of this start.
        path: the file, whose lines of earlier starts say what these took.
        batch_size: examples of a step.

    Attributes:
        flops: model FLOPs of a step over all devices; 0 where nobody asks.
    """

    def __init__(self, ledger: Ledger, path: Path, batch_size: int) -> None:
        self._ledger, self._path = ledger, path
        self._batch_size, self.flops = batch_size, 0.0
        self._earlier = _history(path)[0]
        self._useful = 0.0
        self._told = 0.0  # seconds of this start that the file has
        self._step, self._before = 0, ledger.spent

    def resume(self, step: int) -> dict[str, float]:
        """Says that steps are taken from this one on; the lines beyond it have been cut off.

        Returns:
            A line in their place, which keeps their time: lost_seconds; nothing if there were none.
        """
        kept, self._useful = _history(self._path)
        self._step, self._before = step, self._ledger.spent
        self._told = max(kept - self._earlier, 0.0)
        lost = self._earlier - kept
        return {"lost_seconds": lost} if lost > 0.0 else {}

    def last(self, step: int) -> dict[str, float]:
        """Returns the last line of a start that ends early.

        It is that of the steps which have none yet; if there are none, what was spent for nothing.
        """
        if step > self._step:
            return self.line(step)
        told, self._told = self._told, sum(self._ledger.spent.values())
        return {"lost_seconds": self._told - told}

    def line(self, step: int) -> dict[str, float]:
        """Returns how the steps since the last line went.

        Args:
            step: number of finished steps.

        Returns:
            steps_per_second, examples_per_second: with the wait for data, without compilation.
            step_seconds: of one step, without the wait.
            data_wait_seconds: of all waits in which the devices had nothing to do.
            compile_seconds: until the first step of this start was on its way; later 0.
            elapsed_seconds: of all starts so far; of those that crashed, to their last line.
            goodput: share of them that was spent on steps which count.
            memory_gb: most memory used on one device, in 10^9 bytes, where the device says it.
            mfu: share of the devices' peak, where that is known.
        """
        spent = self._ledger.spent
        compiling, waiting, stepping = (
            spent[part] - self._before[part] for part in ("compile", "data", "step")
        )
        done = step - self._step
        self._step, self._before = step, spent
        self._useful += stepping
        self._told = sum(spent.values())
        elapsed = self._earlier + self._told
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
    """Returns the seconds that the lines of a file tell of: all, and those of steps."""
    elapsed = useful = 0.0
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "goodput" in line:
            elapsed = max(elapsed, line["elapsed_seconds"])
            useful = line["goodput"] * line["elapsed_seconds"]
        elapsed += line.get("lost_seconds", 0.0)
    return elapsed, useful
