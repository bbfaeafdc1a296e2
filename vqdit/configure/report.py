"""Describes inspected data and configured experiments in a few lines for the user."""

import textwrap
from collections import Counter
from collections.abc import Mapping

import numpy as np

from vqdit.configure.columns import Classes, Column, Documents, Found, Pictures, Sounds
from vqdit.configure.deciding import Configured
from vqdit.configure.source_code import WIDTH
from vqdit.modalities.classes import shown

NAMED = 3
"""Largest number of unreadable files that are named."""
FORMS = {
    "image_folder": "a folder of pictures",
    "table": "a table",
    "files": "a folder; files with the same name form an example",
    "texts": "texts",
}


def described(found: Found, unused: Mapping[str, str] | None = None) -> list[str]:
    """Returns lines that describe the data, each column, and the parts that are not used.

    Args:
        found: the data.
        unused: reasons why further columns are not used, keyed by name.
    """
    lines = [f"{shown(found.path)}: {FORMS[found.form]}"]
    if found.form != "texts":
        lines[0] += f", {found.rows:,} examples"
    lines += [f"  {column.name}: {_described(column, found.rows)}" for column in found.columns]
    lines += [f"  renamed: the column {name!r} to {new}" for name, new in found.renamed.items()]
    for column in found.columns:
        if column.unreadable:
            named = ", ".join(f"{shown(one.file)} ({one.why})" for one in column.unreadable[:NAMED])
            more = len(column.unreadable) - NAMED
            count = len(column.unreadable)
            lines.append(
                f"  cannot be read: {count} of {column.looked:,} files of {column.name}: {named}"
                f"{f', and {more} more' if more > 0 else ''}"
            )
    for name, why in {**found.unused, **(unused or {})}.items():
        lines.append(f"  not used: {name}, because {why}")
    return lines + [f"  left out: {note}" for note in found.left_out]


def decided(configured: Configured) -> list[str]:
    """Returns lines about the experiments."""
    lines = [f"  {part.name}: {part.shown}" for part in configured.planned.parts]
    for name, sized in configured.sized.items():
        experiment = sized.experiment
        lines.append(
            f"  training {name}: {sized.parameters:,} parameters, {experiment.steps:,} steps of "
            f"{experiment.data.batch_size}, {duration(sized.seconds)}"
        )
    return lines


def documented(configured: Configured, commands: list[str]) -> str:
    """Returns the docstring of a config, which has the commands that use the config."""
    found = configured.planned.found
    names = [part.name for part in configured.planned.parts if part.is_wanted]
    given = [part.name for part in configured.planned.parts if not part.is_wanted]
    from_what = f" from {_and(given)}" if given else ""
    if len(names) > 1:
        from_what = f", each from any of the others{f' and of {_and(given)}' if given else ''}"
    how = "as measured" if configured.machine.is_here else "counted by FLOPs"
    summary = _wrapped(f"Generates {_and(names)}{from_what}.")
    if len(summary) > 1:
        summary = _wrapped(f"Generates {len(names)} columns, each from any of the others.")
    lines = described(found)[1 : 1 + len(found.columns)]
    data = f"{found.path.name}, {FORMS[found.form]}"
    return "\n".join(
        [
            *summary,
            "",
            *commands,
            "",
            f"About {duration(configured.seconds)} on {configured.machine.name}, {how}.",
            *_wrapped(f"Written by vqdit configure for {data}, with"),
            "",
            *(part for line in lines for part in _wrapped(line.strip(), "    ")),
            "",
        ]
    )


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Returns a paragraph of a docstring, escaped so that it cannot end the docstring."""
    text = text.replace("\\", "/").replace('"', "'")
    return textwrap.wrap(
        text, WIDTH - 4, initial_indent=indent, subsequent_indent=f"{indent}  " if indent else ""
    )


def duration(seconds: float) -> str:
    """Returns a time as text, in a suitable unit."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _described(column: Column, rows: int) -> str:
    facts, missing = column.facts, rows - column.given
    lacks = f"; {missing:,} examples have none" if missing else ""
    if isinstance(facts, Pictures):
        what = f"{'grey' if facts.is_grey else 'colour'} pictures, {_sizes(facts.sizes)}"
    elif isinstance(facts, Sounds):
        what = f"sounds of {_range(facts.seconds, '.2g', 's')}, {_rates(facts)}"
    elif isinstance(facts, Classes):
        counts = facts.counts
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        what = f"{len(counts)} classes with {each} examples each"
    elif isinstance(facts, Documents):
        count = len(facts.lengths)
        what = f"{count:,} document{'s' * (count != 1)} of {facts.lengths.sum():,} bytes"
        return what
    else:
        what = f"texts of {_range(facts.lengths, '.0f', 'bytes')}"
    looked = f" ({column.looked:,} looked at)" if column.looked < column.given else ""
    return f"{what}{looked}{lacks}"


def _sizes(sizes: np.ndarray) -> str:
    """Returns "HEIGHT x WIDTH" as text, for the smallest and the largest picture if they differ."""
    if not len(sizes):
        return "none of which can be read"
    area = sizes.prod(axis=1)
    least, most = ("x".join(map(str, sizes[row])) for row in (area.argmin(), area.argmax()))
    return f"{least} pixels" if least == most else f"{least} to {most} pixels"


def _rates(facts: Sounds) -> str:
    rates = ", ".join(f"{rate:,} Hz" for rate, _ in Counter(facts.rates.tolist()).most_common(3))
    channels = " and ".join(
        {1: "mono", 2: "stereo"}.get(count, f"{count} channels") for count in sorted(facts.channels)
    )
    return f"{rates}, {channels}"


def _range(values: np.ndarray, form: str, unit: str) -> str:
    """Returns the smallest value, the largest value and the median as text."""
    least, usual, most = (f"{value:{form}}" for value in np.percentile(values, [0, 50, 100]))
    if least == most:
        return f"{least} {unit}"
    return f"{least} to {most} {unit}, median {usual}"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
