"""The description of a prepared data set (`vqdit.json`): what it holds, checked when it is read."""

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.sources import Feature
from vqdit.typing import Named

DESCRIPTION = "vqdit.json"
VERSION = "1.0.0"
REMEDY = "put back a copy, or remove the folder and prepare or encode the data again"
LARGEST = 256 * 2**20
"""Largest size in bytes of one column of one example."""


class DamagedData(OSError):
    """Raised if prepared data are missing, incomplete or unreadable."""


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Converts any error raised while reading prepared data to DamagedData.

    Args:
        what: name of the data that are read, for the error message.
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
        found = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        _check(found)
        return found


def features_of(folder: Path) -> Named[Feature]:
    """Returns the features of a prepared data set."""
    found = describe(folder)["features"]
    return Named({name: _feature(fields) for name, fields in found.items()})


def described(features: Mapping[str, Feature]) -> dict[str, Any]:
    """Returns features as JSON; omits dtype and encoded if empty, as older data sets do.

    Raises:
        ValueError: if a column is too large.
    """
    found = {}
    for name, feature in features.items():
        check_size(name, feature)
        fields = feature._asdict()
        found[name] = {
            key: fields[key] for key in fields if key not in ("dtype", "encoded") or fields[key]
        }
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
            f"example; at most {LARGEST:,} are possible"
        )
    return size


def _feature(fields: Mapping[str, Any]) -> Feature:
    return Feature(**{**fields, "shape": tuple(fields["shape"]), "names": tuple(fields["names"])})


def _check(found: Any) -> None:
    """Raises ValueError unless a description has the form in which `records.write` writes it."""
    _require(isinstance(found, dict), "it must be an object")
    _require(re.fullmatch(r"\w+", str(found.get("name"))), "name must be a word")
    _require(found.get("version") == VERSION, f"version must be {VERSION!r}")
    _require(isinstance(found.get("checksum"), str), "checksum must be text")
    for part in ("features", "splits"):
        _require(isinstance(found.get(part), dict) and found[part], f"{part} must be an object")
    for counts in (found["splits"], found.get("files", {})):
        _require(
            isinstance(counts, dict) and all(map(_is_count, counts.values())),
            "splits and files must have integers from 0",
        )
    for name, fields in found["features"].items():
        _check_feature(name, fields)


def _check_feature(name: str, fields: Any) -> None:
    _require(isinstance(fields, dict), f"features.{name} must be an object")
    for part in ("shape", "names"):
        _require(isinstance(fields.get(part), list), f"features.{name}.{part} must be a list")
    unknown = set(fields) - set(Feature._fields)
    _require(not unknown, f"features.{name} has the unknown field {min(unknown, default='')!r}")
    _require(
        all(_is_count(axis) and axis > 0 for axis in fields["shape"]),
        f"features.{name}.shape must have integers from 1",
    )
    texts = [*fields["names"], fields.get("dtype", ""), fields.get("encoded", "")]
    _require(all(isinstance(text, str) for text in texts), f"features.{name} must have text")
    classes = fields.get("classes", 0)
    _require(_is_count(classes), f"features.{name}.classes must be an integer from 0")
    _require(
        len(fields["names"]) in (0, classes),
        f"features.{name} has {classes} classes but {len(fields['names'])} names",
    )
    check_size(name, _feature(fields))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require(holds: Any, rule: str) -> None:
    if not holds:
        raise ValueError(rule)
