"""Reads and checks fields of the config.json of a diffusers folder."""

import math
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqdit.files import read_json

NAME = "config.json"
CLASS = "_class_name"
LARGEST = 2**20
"""Largest accepted width in a config, larger than in any known network."""
MISSING = object()


def read(folder: Path) -> dict[str, Any] | None:
    """Returns the config of a folder; None if it has no config with a class name."""
    try:
        config = read_json(folder / NAME, {f"{CLASS}?": str})
    except OSError:
        return None
    return config if CLASS in config else None


def whole(config: dict[str, Any], name: str, default: Any = MISSING, most: int = LARGEST) -> int:
    """Returns a field that is an integer from 1 to `most`."""
    return _field(
        config,
        name,
        default,
        f"an integer from 1 to {most:,}",
        lambda value: type(value) is int and 1 <= value <= most,
    )


def positive(config: dict[str, Any], name: str, default: float) -> float:
    """Returns the field `name`, or the default; it must be a finite number above 0."""
    return _field(
        config,
        name,
        default,
        "a finite number above 0",
        lambda value: type(value) in (int, float) and math.isfinite(value) and value > 0,
    )


def flag(config: dict[str, Any], name: str, default: bool = True) -> bool:
    """Returns a field that is true or false."""
    return _field(config, name, default, "true or false", lambda value: isinstance(value, bool))


def listed(
    config: dict[str, Any], name: str, kind: type, most: int, default: Any = MISSING
) -> list[Any]:
    """Returns a field that is a list of 1 to `most` values of a type."""
    kinds = (int, float) if kind is float else (kind,)
    return _field(
        config,
        name,
        default,
        f"a list of 1 to {most} values of type {kind.__name__}",
        lambda value: (
            isinstance(value, list)
            and 1 <= len(value) <= most
            and all(type(item) in kinds for item in value)
        ),
    )


def same(config: dict[str, Any], name: str, *values: Any) -> None:
    """Raises ValueError unless a field is absent or has one of the given values."""
    if name in config and config[name] not in values:
        *others, last = map(repr, values)
        such = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name}={reprlib.repr(config[name])} cannot be imported; only {such} can")


def _field(
    config: dict[str, Any], name: str, default: Any, rule: str, holds: Callable[[Any], bool]
) -> Any:
    value = config.get(name, default)
    if value is MISSING:
        raise ValueError(f"{NAME} lacks {name}, which must be {rule}; add it")
    if not holds(value):
        raise ValueError(f"{name} in {NAME} must be {rule}, got {reprlib.repr(value)}")
    return value
