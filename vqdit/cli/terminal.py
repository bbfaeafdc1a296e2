"""Keeps commands running if standard output or error is closed or cannot encode a character."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

from vqdit.escapes import LINES, escaped

GONE = (errno.EPIPE, errno.EIO)
"""Errors of writing to a pipe without a reader, or to a closed terminal."""


class _Stream:
    """A text stream that survives closed pipes and terminals, and escapes unencodable characters.

    Args:
        stream: the stream that receives the text.
        escapes: whether control characters are escaped as well.
    """

    def __init__(self, stream: Any, *, escapes: bool) -> None:
        self._stream, self._escapes = stream, escapes

    def write(self, text: str) -> int:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        shown = escaped(text, keep=LINES) if self._escapes else text
        with self._surviving():
            self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with self._surviving():
            self._stream.flush()

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """Discards the current and all later output if the stream is closed."""
        try:
            yield
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def surviving() -> Iterator[None]:
    """Lets a command finish normally if its output is closed or cannot be encoded."""
    for number in range(3):  # keeps the descriptor, as a file opened later could take it
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    with contextlib.ExitStack() as streams:
        nowhere = streams.enter_context(open(os.devnull, "w"))
        out, err = (_Stream(one or nowhere, escapes=False) for one in (sys.stdout, sys.stderr))
        streams.enter_context(contextlib.redirect_stdout(out))  # pyright: ignore[reportArgumentType]
        streams.enter_context(contextlib.redirect_stderr(err))  # pyright: ignore[reportArgumentType]
        streams.callback(err.flush)
        streams.callback(out.flush)
        yield


def escaping() -> contextlib.AbstractContextManager[Any]:
    """Escapes control characters in the output of a command, as names of files may have them."""
    return contextlib.redirect_stdout(_Stream(sys.stdout, escapes=True))  # pyright: ignore[reportArgumentType]
