"""The description of a prepared data set (`vqdit.json`), and its checks."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.sources import Feature
from vqdit.files import parse_json
from vqdit.typing import Named

DESCRIPTION = "vqdit.json"
VERSION = "1.0.0"
REMEDY = "put back a copy, or remove the folder and prepare or encode the data again"
SHAPE = {
    "name": str,
    "version": str,
    "checksum": str,
    "features": {
        str: {
            "shape": [int],
            "classes": int,
            "names": [str],
            "dtype?": str,
            "encoded?": str,
            "ragged?": bool,
            "packed?": bool,
            "units?": str,
        }
    },
    "splits": {str: int},
    "files?": {str: int},
    "labels?": {str: {str: [int]}},
    "remarks?": [str],
}
"""The required fields of a description."""
LATER = ("dtype", "encoded", "ragged", "packed", "units")
"""Fields of a feature that older descriptions lack."""
FEW = 10
"""Largest number of remarks, and of absent classes, that are listed."""
SHOWN = 20
"""Largest number of classes for which the examples of each class are counted."""
LARGEST = 256 * 2**20
"""Largest size in bytes of one column of one example."""


class DamagedData(OSError):
    """Raised if prepared data are missing, incomplete or unreadable."""


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Context manager that converts any error while prepared data are read to DamagedData.

    Args:
        what: name of the data, for the error message.
    """
    try:
        yield
    except DamagedData:
        raise
    except Exception as error:  # array_record, protobuf, zlib and Pillow raise various errors
        why = (str(error).strip().splitlines() or [""])[0][:200]
        raise DamagedData(
            f"prepared data are damaged: {what} cannot be read ({type(error).__name__}: {why}); "
            f"{REMEDY}"
        ) from error


def is_prepared(folder: Path) -> bool:
    """Returns whether the folder holds a complete prepared data set."""
    return (folder / DESCRIPTION).is_file()


def describe(folder: Path) -> dict[str, Any]:
    """Returns the name, version, features, split sizes and checksum of a prepared data set.

    Raises:
        DamagedData: if the description of the data set cannot be read.
    """
    with reading(f"{folder / DESCRIPTION}"):
        found = parse_json((folder / DESCRIPTION).read_bytes(), SHAPE)
        _check(found)
        return found


def features_of(folder: Path) -> Named[Feature]:
    """Returns the features of a prepared data set."""
    found = describe(folder)["features"]
    return Named({name: _feature(fields) for name, fields in found.items()})


def remarks(folder: Path) -> list[str]:
    """Returns lines that name the classes a split lacks, and the examples that were left out."""
    found = describe(folder)
    lines = found.get("remarks", [])
    if len(lines) > FEW:
        lines = [*lines[:FEW], f"and {len(lines) - FEW} more, in {folder / DESCRIPTION}"]
    for column, splits in found.get("labels", {}).items():
        for split, counts in splits.items():
            named = zip(_names(found, column), counts, strict=False)
            absent = [name for name, count in named if not count]
            if absent:
                more = f" and {len(absent) - FEW} more" if len(absent) > FEW else ""
                lines.append(f"no example in the {split} split of: {', '.join(absent[:FEW])}{more}")
    return lines


def examples_per_class(folder: Path) -> list[str]:
    """Returns the counts of the classes as lines; of more than SHOWN classes, only the extremes."""
    found = describe(folder)
    lines = []
    for column, splits in found.get("labels", {}).items():
        names = found["features"][column]["names"]
        counts = [
            dict(zip(splits, each, strict=True)) for each in zip(*splits.values(), strict=True)
        ]
        classes = list(zip(names, counts, strict=False))
        if len(classes) > SHOWN:
            by_size = sorted(classes, key=lambda one: sum(one[1].values()))
            classes = [(f"fewest examples, {by_size[0][0]}", by_size[0][1])]
            classes += [(f"most examples, {by_size[-1][0]}", by_size[-1][1])]
        for name, each in classes:
            parts = ", ".join(f"{count} {split}" for split, count in each.items())
            lines.append(f"{name}: {parts}")
    return lines


def _names(found: dict[str, Any], column: str) -> list[str]:
    return found["features"].get(column, {"names": []})["names"]


def described(features: Mapping[str, Feature]) -> dict[str, Any]:
    """Returns features as JSON; omits newer fields that are empty, as older data sets lack them.

    Raises:
        ValueError: if a column is too large.
    """
    found = {}
    for name, feature in features.items():
        check_size(name, feature)
        fields = feature._asdict()
        found[name] = {key: fields[key] for key in fields if key not in LATER or fields[key]}
    return found


def check_size(name: str, feature: Feature) -> int:
    """Returns the size in bytes of a column of one example.

    Raises:
        ValueError: if the column is larger than LARGEST.
    """
    size = math.prod(feature.shape) * feature.stored.itemsize
    if size > LARGEST:
        raise ValueError(
            f"the column {name!r} of shape {list(feature.shape)} has {size:,} bytes in every "
            f"example, but at most {LARGEST:,} are possible; use smaller examples"
        )
    return size


def _check(found: dict[str, Any]) -> None:
    """Raises ValueError unless the values of a description are valid."""
    if not re.fullmatch(r"\w+", found["name"]) or found["version"] != VERSION:
        raise ValueError(f"the name of the data set must be one word, and the version {VERSION}")
    for name, fields in found["features"].items():
        if min(fields["classes"], *fields["shape"], 1) < 0 or 0 in fields["shape"]:
            raise ValueError(
                f"features.{name} has a negative number of classes, or an axis of size 0 or below"
            )
        if fields.get("ragged") and not fields["shape"]:
            raise ValueError(f"features.{name} is a scalar, so it cannot be ragged")
        if len(fields["names"]) not in (0, fields["classes"]):
            raise ValueError(
                f"features.{name} has {fields['classes']} classes but {len(fields['names'])} names"
            )
        check_size(name, _feature(fields))


def _feature(fields: Mapping[str, Any]) -> Feature:
    later = {name: fields[name] for name in LATER if name in fields}
    return Feature(tuple(fields["shape"]), fields["classes"], tuple(fields["names"]), **later)
