"""Writes the files `metrics.jsonl` and `performance.jsonl`, with one JSON object per line."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqdit import parallel
from vqdit.files import open_own, parse_json, to_text, write_whole
from vqdit.train.trackers import Tracker

LINE = {"step": int}
log = logging.getLogger(__name__)


class JsonlWriter:
    """Appends JSON objects, one per line and with `step` first; writes NaN and inf as strings.

    Only the first process writes. If lines cannot be written, for example on a full disk, they are
    kept in memory and written later.

    Args:
        path: the file.
        trackers: services that receive the same values; the caller must call their `cut`.
    """

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.path, self.trackers = path, trackers
        self._unwritten = ""

    def write(self, step: int, **values: float) -> None:
        """Writes one line, or keeps it for later if that fails."""
        if parallel.process()[0] != 0:
            return
        was_empty = not self._unwritten
        self._unwritten += to_text({"step": step, **values}, indent=None) + "\n"
        try:
            self._append()
        except OSError as error:
            if was_empty:
                log.error("cannot write %s; its lines are kept for later: %s", self.path, error)
        for tracker in self.trackers:
            tracker.write(step, **values)

    def _append(self) -> None:
        """Writes all kept lines; if that fails, writes none of them."""
        if not self._unwritten:
            return
        end = self.path.stat().st_size if self.path.exists() else 0
        try:
            with open_own(self.path, "a") as file:
                file.write(self._unwritten)
        except OSError:
            if self.path.exists():
                _truncate(self.path, end)
            raise
        self._unwritten = ""

    def flush(self) -> None:
        """Writes lines kept in memory; logs an error if that fails."""
        try:
            self._append()
        except OSError as error:
            count = self._unwritten.count("\n")
            log.error("%d lines of %s are lost: %s", count, self.path, error)

    def names(self, step: int) -> set[str]:
        """Returns the names of all values that the file has for a step."""
        return {name for line in read_lines(self.path) if line["step"] == step for name in line}

    def cut(self, step: int) -> None:
        """Removes an incomplete last line, and lines after `step`, which will be written again."""
        if parallel.process()[0] != 0:
            return
        self._unwritten = _until(step, self._unwritten.encode()).decode()
        if not self.path.is_file():
            return
        text = _read(self.path)
        kept = _until(step, text)
        if text.startswith(kept):
            _truncate(self.path, len(kept))  # truncation needs no disk space
        else:
            write_whole(self.path, kept)


def read_lines(path: Path, shape: Mapping[str, Any] = LINE) -> list[dict[str, Any]]:
    """Returns the lines of a file that match a schema; leaves out incomplete and invalid lines."""
    text = _read(path) if path.is_file() else b""
    return [line for each in text.splitlines() if (line := _parsed(each, shape)) is not None]


def _read(path: Path) -> bytes:
    with open_own(path) as file:
        return file.read()


def _truncate(path: Path, length: int) -> None:
    with open_own(path, "r+b") as file:
        file.truncate(length)


def _until(step: int, text: bytes) -> bytes:
    """Returns the complete lines for steps up to `step`."""
    lines = ((each, _parsed(each, LINE)) for each in text.splitlines())
    return b"".join(each + b"\n" for each, line in lines if line and line["step"] <= step)


def _parsed(text: bytes, shape: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        return parse_json(text, shape)
    except ValueError:
        return None
