"""Formats reports of metrics of picture sets as text, and compares two reports."""

import math
from collections.abc import Mapping
from typing import Any

from vqdit.files import to_text

SHAPE = {
    "metrics": {str: {"value": float, "low": float, "high": float, "settings": dict}},
    "protocol": {str: object},
}
"""What a report must have to be compared."""
OF_SAMPLES = ("samples.path", "samples.pixels", "samples.run", "samples.step", "samples.kind")
"""Parts of a protocol that differ between reports of different samples."""
NOT_COMPARED = ("versions", "batch_size")
"""Parts of a protocol that are listed, but change no number noticeably."""


def markdown(record: Mapping[str, Any]) -> str:
    """Returns a report as a page of Markdown."""
    lines = ["# Scores", "", "| metric | value | 95 % interval |", "|---|---|---|"]
    for name, found in record["metrics"].items():
        lines.append(f"| {name} | {number(found['value'])} | {interval(found)} |")
    lines += ["", *(f"- {text}" for text in record["warnings"])]
    lines += ["", "## Protocol", ""]
    lines += [f"- {name}: {value}" for name, value in flat(record["protocol"]).items()]
    for name, found in record["metrics"].items():
        settings = ", ".join(f"{key} {value}" for key, value in found["settings"].items())
        lines.append(f"- {name}: {found['count']} samples{', ' if settings else ''}{settings}")
    lines += [f"- time: {record['seconds']:.0f} s from {record['started']}"]
    return "\n".join(lines) + "\n"


def table(record: Mapping[str, Any]) -> str:
    """Returns the metrics of a report as a table of text."""
    rows = record["metrics"].items()
    return "\n".join(f"{n:12} {number(f['value']):>12}  {interval(f)}" for n, f in rows)


def compare(first: Mapping[str, Any], second: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Returns what differs between two reports: first the protocol, then the metrics.

    Args:
        first: a report.
        second: another report.
        names: names of the two reports, which the result shows.
    """
    a, b = flat(first["protocol"]), flat(second["protocol"])
    keys = [key for key in {**a, **b} if a.get(key) != b.get(key)]
    samples = [key for key in keys if key in OF_SAMPLES]
    minor = [key for key in keys if key.startswith(NOT_COMPARED)]
    protocol = [key for key in keys if key not in (*samples, *minor)]
    lines = [f"A: {names[0]}", f"B: {names[1]}", ""]
    for what, found in (("samples", samples), ("protocol", protocol), ("versions", minor)):
        lines += [f"{key}: {a.get(key, '-')} | {b.get(key, '-')}" for key in found]
        if what == "protocol" and not found:
            lines.append("the protocols are equal")
        elif what == "protocol":
            lines.append("the protocols differ, so the numbers below cannot be compared directly")
    lines.append("")
    shared = [name for name in first["metrics"] if name in second["metrics"]]
    for name in shared:
        x, y = first["metrics"][name], second["metrics"][name]
        change = y["value"] - x["value"]
        half = math.hypot(*((each["high"] - each["low"]) / 2.0 for each in (x, y)))
        verdict = "within the intervals" if abs(change) <= half else "beyond the intervals"
        if x["settings"] != y["settings"]:
            verdict = f"not comparable: {_shown(x['settings'])} | {_shown(y['settings'])}"
        lines.append(
            f"{name:12} {number(x['value']):>12} {number(y['value']):>12}  B - A = "
            f"{number(change)}, {verdict}"
        )
    for which, one, other in (("A", first, second), ("B", second, first)):
        alone = [name for name in one["metrics"] if name not in other["metrics"]]
        if alone:
            lines.append(f"only in {which}: {', '.join(alone)}")
    if not shared:
        lines.append("no metric is in both reports")
    return "\n".join(lines)


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested objects by their dotted paths."""
    found = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = value
    return found


def number(value: float) -> str:
    """Returns a number with five significant digits."""
    return f"{value:.5g}"


def interval(found: Mapping[str, Any]) -> str:
    """Returns the limits of an interval as text."""
    return f"[{number(found['low'])}, {number(found['high'])}]"


def _shown(settings: Mapping[str, Any]) -> str:
    return to_text(dict(settings), indent=None)
