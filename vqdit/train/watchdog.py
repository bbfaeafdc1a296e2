"""The watchdog: ends a run that makes no progress, so that a scheduler can start it again."""

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vqdit.config import Timeouts
from vqdit.files import open_own
from vqdit.train.exit_codes import HUNG, leave

log = logging.getLogger(__name__)

PERIOD = 0.5
"""Seconds between two checks."""
PATIENCE = 10.0
"""Time limit in seconds for writing the stacks, as the disk itself may hang."""


class Watchdog:
    """A thread that ends the process with code 124 if a run makes no progress for too long.

    Before that, it writes the stacks of all threads to stderr and to `stacks.txt`.

    Args:
        timeouts: seconds that each part of a run may take.
        folder: folder for `stacks.txt`.
        leave: ends the process with an exit code.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        folder: Path,
        leave: Callable[[int], None] = leave,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeouts, self._folder, self._leave, self._clock = timeouts, folder, leave, clock
        self._part, self._since = "start", clock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def begin(self, part: str) -> None:
        """Starts the timer for a part of the run, which is a field of `Timeouts`."""
        self._part, self._since = part, self._clock()

    def progress(self) -> None:
        """Restarts the timer of the current part."""
        self._since = self._clock()

    def expired(self) -> str:
        """Returns a message if the current part exceeds its timeout, else ""."""
        part, taken = self._part, self._clock() - self._since
        limit = getattr(self._timeouts, part)
        if not limit or taken < limit:
            return ""
        return f"no progress for {taken:.0f} s (timeouts.{part} is {limit:g})"

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD):
            if message := self.expired():
                writer = threading.Thread(target=self._write, args=(message,), daemon=True)
                writer.start()
                writer.join(PATIENCE)
                self._leave(HUNG)
                return

    def _write(self, message: str) -> None:
        print(f"{message}; stacks of all threads:", file=sys.stderr)
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        self._folder.mkdir(exist_ok=True)
        with open_own(self._folder / "stacks.txt", "a") as file:
            print(message, file=file, flush=True)
            faulthandler.dump_traceback(file)
        log.error("%s: exiting. Re-run the same command to resume.", message)
