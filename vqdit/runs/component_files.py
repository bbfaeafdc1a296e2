"""JSON files with checksums for components of a workdir: the experiment and the frozen task."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

from vqdit import config
from vqdit.files import read_json, to_text, write_json

T = TypeVar("T")
ARRAYS = "sha256_of_arrays"
"""The field with the checksum of the arrays of a component."""


def write_component(file: Path, component: Any, arrays: str | None = None) -> None:
    """Writes a component as JSON with its checksum, for `read_component`.

    Args:
        file: the file.
        component: the component.
        arrays: checksum of the component's arrays, for `arrays_of`.
    """
    value = config.to_json(component) | ({} if arrays is None else {ARRAYS: arrays})
    write_json(file, {**value, "sha256": _checksum(value)})


def _checksum(value: Any) -> str:
    return hashlib.sha256(to_text(value, indent=None).encode()).hexdigest()


def arrays_of(file: Path) -> str | None:
    """Returns the checksum of a component's arrays, which the component's file may have, or None.

    Raises:
        ValueError: the file is damaged.
    """
    return read_json(file, {f"{ARRAYS}?": str}, own=True).get(ARRAYS)


def read_component(file: Path, kind: type[T]) -> T:
    """Returns the component in a JSON file of a workdir, which must be of the class `kind`.

    Raises:
        ValueError: the file is damaged, or has other content.
    """
    try:
        value = read_json(file, {"sha256?": str}, own=True)
        if value.pop("sha256", None) not in (None, _checksum(value)):
            raise config.ConfigError(
                "the file has changed since vqdit wrote it; restore the original or, if you "
                "made the change, remove the field sha256"
            )
        value.pop(ARRAYS, None)
        found = config.from_json(value)
    except config.ConfigError as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    if not isinstance(found, kind):
        raise ValueError(
            f"{file} has a component {type(found).__name__} instead of {kind.__name__}; restore it "
            "from a copy"
        )
    return found
