"""Metrics of text on the terminal: a table, and a progress bar."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from vqdit.train.progress import QUIET, duration

COLUMNS = (42, 22, 22)
"""Widths of the columns of the table, in characters."""


class Countdown:
    """Prints progress to standard error: a bar if it is a terminal, else lines."""

    def __enter__(self) -> "Countdown":
        self._what, self._start, self._printed = "", 0.0, 0.0
        self._bar: Any = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeRemainingColumn as Left

            columns = TextColumn("{task.description}", markup=False), BarColumn()
            console = Console(stderr=True)
            self._bar = Progress(*columns, MofNCompleteColumn(), Left(), console=console)
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` examples are finished, and the time left."""
        now = time.monotonic()
        if what != self._what:  # compilation dominates the first batch
            self._what, self._start, self._first = what, now, done
            self._printed = now - QUIET
            if self._bar is not None:
                self._task = self._bar.add_task(what, total=total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif now - self._printed >= QUIET or done == total:
            self._printed = now
            speed = (done - self._first) / (now - self._start) if done > self._first else 0.0
            left = f"  {duration((total - done) / speed)} left" if speed else ""
            with contextlib.suppress(OSError):  # stderr may be a file on a full disk
                print(f"{what} {done}/{total}{left}", file=sys.stderr, flush=True)


def text_table(found: Mapping[str, Mapping[str, Any]], judge: str = "") -> str:
    """Returns the results of `measure_text` as a table with 95 % intervals.

    Args:
        found: records by metric and name of the text.
        judge: name of the model that measured the perplexity.
    """
    names = dict.fromkeys(name for values in found.values() for name in values)
    return "\n\n".join("\n".join(_block(found, name, judge)) for name in names)


def _block(found: Mapping[str, Mapping[str, Any]], name: str, judge: str) -> Iterator[str]:
    """Yields the lines of the table for one text."""
    own = {metric: values[name] for metric, values in found.items() if name in values}
    yield _line(name, "generated", "real")
    notes = []
    if bound := own.get("bits_per_byte"):
        yield _line(f"bits per byte{_given(bound)}", "", _number(bound))
        notes.append(f"bits per byte: {bound['bytes']:,} bytes of {bound['count']:,} texts")
    if match := own.get("exact_match"):
        yield _line(f"exact match{_given(match)}", _number(match), "")
        if "one_of" in match:
            yield _line("  any text with these conditions", _number(match["one_of"]), "")
        notes.append(f"exact match: {match['count']:,} texts")
    for metric in ("distinct", "verbatim", "entropy"):
        for key, pair in own.get(metric, {}).get("values", {}).items():
            label = f"distinct-{key}" if metric == "distinct" else f"{metric}, {key}"
            yield _line(label, _number(pair["samples"]), _number(pair["held_out"]))
    if "perplexity" in own:
        scored = own["perplexity"]
        yield f"under {judge}:"
        yield _line("  bits per byte", _number(scored["samples"]), _number(scored["held_out"]))
        yield _line("  perplexity per byte", f"{scored['perplexity']:.3f}", "")
    counted = [own[metric] for metric in ("distinct", "verbatim", "entropy") if metric in own]
    if counted:
        notes.append(f"{counted[0]['samples']:,} generated, {counted[0]['held_out']:,} real texts")
    yield f"({'; '.join(notes)})"


def _given(record: Mapping[str, Any]) -> str:
    return f", given {', '.join(record['given'])}" if record["given"] else ""


def _number(value: Any) -> str:
    """Returns a number as text, with its interval if it has one; "" if it was not measured."""
    if value is None:
        return "-"
    if not isinstance(value, Mapping):
        return f"{value:.3f}"
    limits = f" [{value['low']:.3f}, {value['high']:.3f}]" if "low" in value else ""
    return f"{value['value']:.3f}{limits}"


def _line(*cells: str) -> str:
    label, first, second = COLUMNS
    return f"{cells[0]:{label}} {cells[1]:{first}} {cells[2]:{second}}".rstrip()
