"""The watchdog: ends a run that makes no progress, so that a scheduler can start it again."""

import faulthandler
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from vqdit.config import Timeouts
from vqdit.train.exit_codes import HUNG, leave

log = logging.getLogger(__name__)

PERIOD = 0.5
"""Seconds between two looks."""
PATIENCE = 10.0
"""Seconds that writing the stacks may take: the disk may be what hangs."""


class Watchdog:
    """A thread that ends the process with code 124 once a part of a run takes too long.

    Before that it writes where every thread is to stderr, and to `stacks.txt`.

    Args:
        timeouts: seconds that each part may take.
        folder: where `stacks.txt` goes.
        leave: ends the process.
        clock: tells the seconds.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        folder: Path,
        leave: Callable[[int], None] = leave,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deadlines, self._folder, self._leave, self._clock = timeouts, folder, leave, clock
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
        """Says that a part of the run begins: one of the names of `Timeouts`."""
        self._part, self._since = part, self._clock()

    def progress(self) -> None:
        """Says that the part goes on, so that its time begins anew."""
        self._since = self._clock()

    def expired(self) -> str:
        """Returns what took too long, or nothing."""
        part, taken = self._part, self._clock() - self._since
        limit = getattr(self._deadlines, part)
        if not limit or taken < limit:
            return ""
        return f"no progress for {taken:.0f} s (timeouts.{part} is {limit:g})"

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD):
            if said := self.expired():
                writer = threading.Thread(target=self._write, args=(said,), daemon=True)
                writer.start()
                writer.join(PATIENCE)
                self._leave(HUNG)
                return

    def _write(self, said: str) -> None:
        print(f"{said}; all threads are in:", file=sys.stderr)
        faulthandler.dump_traceback(sys.__stderr__ or sys.stderr)
        self._folder.mkdir(exist_ok=True)
        with (self._folder / "stacks.txt").open("a") as file:
            print(said, file=file, flush=True)
            faulthandler.dump_traceback(file)
        log.error("%s: ended; the same command goes on from the last checkpoint", said)
