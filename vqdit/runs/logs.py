"""Log handlers of vqdit: for the terminal, and for the `log.txt` of a run."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vqdit.escapes import LINES, escaped
from vqdit.files import open_own

ROOT = logging.getLogger("vqdit")


class _Escaped(logging.Formatter):
    """Escapes control characters in messages, and puts each message on one line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return escaped(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return escaped(super().format(record), keep=LINES)  # lines of a traceback


class _Terminal(logging.StreamHandler):
    """Writes to the current `sys.stderr`, which a progress bar replaces while it is shown."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        del value


def to_terminal() -> None:
    """Sends later log messages to the terminal, one message per line."""
    ROOT.setLevel(logging.INFO)
    ROOT.propagate = False
    if any(isinstance(handler, _Terminal) for handler in ROOT.handlers):
        return
    terminal = _Terminal()
    terminal.setFormatter(_Escaped("%(message)s"))
    # The caller prints the error that stops a run; only the file gets the traceback.
    terminal.addFilter(lambda record: record.exc_info is None)
    ROOT.addHandler(terminal)


class _File(logging.FileHandler):
    """Ignores write errors, so that a full disk does not hide the error that stops a run."""

    def _open(self) -> Any:
        file = open_own(Path(self.baseFilename), self.mode)
        file.reconfigure(errors="backslashreplace")
        return file

    def handleError(self, record: logging.LogRecord) -> None:
        del record


@contextlib.contextmanager
def to_file(file: Path) -> Iterator[None]:
    """Also appends log messages to a file, with times, and the traceback of a final error.

    Raises:
        OSError: the file cannot be written.
    """
    ROOT.setLevel(logging.INFO)
    handler = _File(file)
    handler.setFormatter(_Escaped("%(asctime)s %(levelname)s %(message)s"))
    ROOT.addHandler(handler)
    try:
        yield
    except Exception:
        ROOT.exception("stopped by an error")
        raise
    finally:
        ROOT.removeHandler(handler)
        with contextlib.suppress(OSError):  # the disk may be full
            handler.close()
