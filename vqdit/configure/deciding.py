"""Plans the training on inspected data: the parts of the model, and the source of the data."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vqdit.configure import experiments
from vqdit.configure.choices import choose
from vqdit.configure.columns import Classes, Documents, Found, Row
from vqdit.configure.experiments import Sized
from vqdit.configure.machine import Machine
from vqdit.configure.parts import BYTES_OF_UNIT, Part
from vqdit.configure.tables import absolute_rows
from vqdit.configure.targets import GENERATOR, experiment_name
from vqdit.data import Feature, ImageFolder, Table, TextFiles
from vqdit.data.recorded import Recorded
from vqdit.files import write_whole
from vqdit.modalities import Label, Text
from vqdit.modalities.units import Bytes
from vqdit.typing import Named

log = logging.getLogger(__name__)


class Planned(NamedTuple):
    """The plan of the training, before the sizes of the models are chosen.

    Attributes:
        found: the data.
        parts: the columns as parts of the model.
        unused: reasons why columns are not used, keyed by name.
        source: the source that reads the data.
        examples: numbers of training and validation examples.
        table: the file to which the rows were written; None if the data are read in place.
    """

    found: Found
    parts: tuple[Part, ...]
    unused: Mapping[str, str]
    source: Recorded
    examples: tuple[int, int]
    table: Path | None


class Configured(NamedTuple):
    """The plan, the experiments by name in the order of training, and the target machine."""

    planned: Planned
    sized: dict[str, Sized]
    machine: Machine

    @property
    def seconds(self) -> float:
        """Estimated duration of all trainings in seconds."""
        return sum(sized.seconds for sized in self.sized.values())


def plan(
    found: Found, want: Sequence[str], machine: Machine, minutes: float, table: Path
) -> Planned:
    """Returns the plan of the training on inspected data.

    Args:
        found: the data.
        want: columns to generate; the others are only given. () chooses them from the data.
        machine: the machine that trains.
        minutes: available time in minutes.
        table: file to which the rows are written if the data cannot be read in place.

    Raises:
        ValueError: the data are unsuitable for training.
    """
    others = [column for column in found.columns if not isinstance(column.facts, Classes)]
    if not want:  # a single other column is generated, classes are given
        want = [c.name for c in (others if len(others) == 1 else found.columns)]
    chosen = {c.name: choose(c, found, machine, minutes, c.name in want) for c in found.columns}
    parts = [part for part in chosen.values() if isinstance(part, Part)]
    unused = {name: why for name, why in chosen.items() if isinstance(why, str)}
    if not any(part.is_wanted for part in parts):
        reasons = "; ".join(f"{name}: {why}" for name, why in unused.items())
        raise ValueError(f"{found.path} has no column that can be generated ({reasons})")
    if [type(part.modality) for part in parts] == [Label]:
        raise ValueError(
            f"{found.path} has only classes; add a column of pictures, sounds or texts"
        )
    _check_names(parts)
    rows, is_written = _rows(found, parts)
    examples = _examples(found, parts, len(rows))
    if examples[0] < machine.chips:
        raise ValueError(
            f"{found.path} has {examples[0]} training examples, but each of the {machine.chips} "
            "chips of the target needs at least one; choose a smaller target"
        )
    if is_written:
        _write(rows, table)
    place = table if is_written else found.path
    try:
        source = _source(found, parts, place, is_written=is_written)
        features = source.raw_features()
        source.examples()  # raises ValueError if a split lacks data; reads no files
        parts = [_named(part, features) for part in parts]
    except BaseException:
        if is_written:
            table.unlink()
        raise
    return Planned(
        found,
        tuple(parts),
        unused,
        _source(found, parts, place, is_written=is_written),
        examples,
        table if is_written else None,
    )


def size(planned: Planned, machine: Machine, minutes: float) -> Configured:
    """Returns experiments of the largest models that the machine can train in the time."""
    parts, source, examples = planned.parts, planned.source, planned.examples
    tokenized = [part for part in parts if part.models]
    share = experiments.TOKENIZERS_SHARE * 60 * minutes / max(1, len(tokenized))
    sized: dict[str, Sized] = {}
    for part in tokenized:
        log.info("sizing the tokenizer of %s for %s", part.name, machine.name)
        name = experiment_name(part.name)
        sized[name] = experiments.tokenizer(part, source, machine, examples, share)
    left = 60 * minutes - sum(one.seconds for one in sized.values())
    log.info("sizing the generator for %s", machine.name)
    trained = {name: one.experiment for name, one in sized.items()}
    sized[GENERATOR] = experiments.generator(parts, trained, source, machine, examples, left)
    return Configured(planned, sized, machine)


def _check_names(parts: Sequence[Part]) -> None:
    """Raises ValueError if two columns would have the same name in the config."""
    seen: dict[str, str] = {}
    for part in parts:
        other = seen.setdefault(experiment_name(part.name), part.name)
        if other != part.name:
            raise ValueError(
                f"the columns {other!r} and {part.name!r} differ only in capital letters; rename "
                "one of them"
            )


def _examples(found: Found, parts: Sequence[Part], rows: int) -> tuple[int, int]:
    """Returns the numbers of training and of validation examples."""
    count, train = found.rows, found.train
    if isinstance(text := parts[0].modality, Text) and found.form == "texts":  # `rows` counts bytes
        window = text.length * (1.0 if text.units == Bytes() else BYTES_OF_UNIT)
        count, train = int(count / window), int(train / window)
    else:
        kept = math.prod(part.kept for part in parts)
        count, train = round(kept * (rows or count)), round(kept * train * (rows or count) / count)
    return train, max(1, (count - train) // 2)


def _rows(found: Found, parts: Sequence[Part]) -> tuple[list[Row], bool]:
    """Returns the rows of the table to use, and whether a new table must be written for them.

    If the data are not a table and need none, the rows are [].
    """
    rows = list(found.table)
    limited = [part for part in parts if part.longest is not None]
    if limited and not rows:
        rows = absolute_rows(found)
    kept = [
        row for row in rows if not any(part.is_too_long(row.get(part.name)) for part in limited)
    ]
    return kept, bool(rows)


def _write(rows: Sequence[Row], table: Path) -> None:
    if table.exists():
        raise ValueError(
            f"the rows would be written to {table}, which exists already; remove this file"
        )
    lines = (json.dumps(dict(row), ensure_ascii=False) for row in rows)
    write_whole(table, "".join(f"{line}\n" for line in lines).encode())


def _named(part: Part, features: Named[Feature]) -> Part:
    """Returns the part with the names of its classes, ordered as in the data."""
    if not isinstance(part.modality, Label):
        return part
    names = features[part.name].names
    return part._replace(modality=Label(classes=len(names), names=names))


def _source(found: Found, parts: Sequence[Part], path: Path, *, is_written: bool) -> Recorded:
    """Returns the source of the data, which may be a new table with new names."""
    place, column = str(path.absolute()), found.columns[0]
    text = parts[0].modality
    if isinstance(column.facts, Documents) and isinstance(text, Text):
        return TextFiles(
            path=place,
            length=text.length,
            units=text.units,
            documents=column.facts.documents,
            split_by=column.facts.split_by,
        )
    if found.form == "image_folder":
        image: Any = next(part.modality for part in parts if part.name == "image")
        is_known = column.looked == found.rows and not column.unreadable
        return ImageFolder(
            path=place,
            size=image.size[0],
            channels=image.channels,
            on_error="error" if is_known else "skip",
        )
    columns = Named({part.name: part.modality for part in parts})
    headers = {new: old for old, new in found.renamed.items() if new in columns}
    in_file = Named({} if is_written else headers)
    return Table(path=place, columns=columns, headers=in_file)
