"""Where the log of vqdit goes: to the terminal, and to the `log.txt` of a run."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = logging.getLogger("vqdit")


class _Terminal(logging.StreamHandler):
    """Writes to what `sys.stderr` is now: a progress bar puts itself there while it is shown."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        del value


def to_terminal() -> None:
    """Sends the log to the terminal from now on, each message on a line of its own."""
    ROOT.setLevel(logging.INFO)
    ROOT.propagate = False
    if any(isinstance(handler, _Terminal) for handler in ROOT.handlers):
        return
    terminal = _Terminal()
    terminal.setFormatter(logging.Formatter("%(message)s"))
    # What stopped a run is told by whoever called it; the traceback belongs into the file.
    terminal.addFilter(lambda record: record.exc_info is None)
    ROOT.addHandler(terminal)


class _File(logging.FileHandler):
    """A full disk takes no more lines; what stopped a run is told all the same."""

    def handleError(self, record: logging.LogRecord) -> None:
        del record


@contextlib.contextmanager
def to_file(file: Path) -> Iterator[None]:
    """Sends the log to the end of a file too, with times and tracebacks.

    Raises:
        OSError: the file cannot be written.
    """
    ROOT.setLevel(logging.INFO)
    handler = _File(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ROOT.addHandler(handler)
    try:
        yield
    finally:
        ROOT.removeHandler(handler)
        with contextlib.suppress(OSError):  # the disk may be full
            handler.close()
