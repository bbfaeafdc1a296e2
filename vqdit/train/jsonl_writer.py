"""The files `metrics.jsonl` and `performance.jsonl`: one JSON object per line."""

import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdit import parallel
from vqdit.train.trackers import Tracker

log = logging.getLogger(__name__)


class JsonlWriter:
    """Appends one JSON object per line, with `step` first; values that are not finite as strings.

    Only the first process writes. Lines that cannot be written, as on a full disk, are kept in
    memory and written later.

    Args:
        path: the file.
        trackers: services that receive the same values; the caller must call their `cut`.
    """

    def __init__(self, path: Path, trackers: Sequence[Tracker] = ()) -> None:
        self.path, self.trackers = path, trackers
        self._unwritten = ""

    def write(self, step: int, **values: float) -> None:
        """Writes one line, now or when the disk allows."""
        if parallel.process()[0] != 0:
            return
        record: dict[str, Any] = {"step": step}
        for name, value in values.items():
            record[name] = value if math.isfinite(value) else str(value)
        was_empty = not self._unwritten
        self._unwritten += json.dumps(record) + "\n"
        try:
            self._append()
        except OSError as error:
            if was_empty:
                log.error("cannot write %s, its lines are kept for later: %s", self.path, error)
        for tracker in self.trackers:
            tracker.write(step, **values)

    def _append(self) -> None:
        """Writes all kept lines, or none of them if that fails."""
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
        """Writes kept lines; logs an error if that fails."""
        try:
            self._append()
        except OSError as error:
            count = self._unwritten.count("\n")
            log.error("%d lines of %s are lost: %s", count, self.path, error)

    def names(self, step: int) -> set[str]:
        """Returns the names of all values of a step in the file."""
        if not self.path.is_file():
            return set()
        lines = map(json.loads, self.path.read_text().splitlines())
        return {name for line in lines if line["step"] == step for name in line}

    def cut(self, step: int) -> None:
        """Removes an incomplete last line, and lines after `step`, which are written again."""
        if parallel.process()[0] != 0:
            return
        self._unwritten = _until(step, self._unwritten)
        if not self.path.is_file():
            return
        text = self.path.read_text()
        kept = _until(step, text)
        if text.startswith(kept):
            os.truncate(self.path, len(kept.encode()))  # needs no disk space
            return
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(kept)
        os.replace(temporary, self.path)


def _until(step: int, text: str) -> str:
    """Returns the complete lines of steps up to `step`."""
    kept = []
    for line in text.splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(f"{line}\n")
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return "".join(kept)
