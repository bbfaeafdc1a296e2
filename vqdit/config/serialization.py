"""Converts components to JSON and back, for `config.json` in workdirs."""

import dataclasses
import functools
import importlib.util
import math
import os
import reprlib
import sys
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vqdit.config.old_names import update_json
from vqdit.typing import Component, Named

PARTS = "VQDIT_PARTS"
"""Environment variable with additional modules whose classes JSON may name, as in `mine,lab`.

When a workdir is read, its modules of this list are imported, so list only trusted modules.
"""

NAMED = "Named"
"""The `type` of a `Named` in JSON."""


class ConfigError(ValueError):
    """A config cannot be found, read, overridden or written."""


def to_json(value: Any) -> Any:
    """Returns a value for `json.dump`; `from_json` converts it to an equal component."""
    if isinstance(value, Component):
        cls, name = type(value), f"{type(value).__module__}:{type(value).__qualname__}"
        if not _is_part(type(value).__module__):
            raise ConfigError(
                f"{cls.__name__} is not part of vqdit, so the workdir could not be read again; "
                "put the class into a module that can be imported, such as mine.py, and set "
                f"{PARTS}=mine"
            )
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(cls)}
        return {"type": name, **fields}
    if isinstance(value, Named):
        return {"type": NAMED, "items": {name: to_json(item) for name, item in value.items()}}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{value} cannot be part of a config; numbers must be finite")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{value!r} cannot be part of a config; use components, tuples, texts and numbers"
    )


def from_json(value: Any) -> Any:
    """Converts JSON to components; constructs only classes of vqdit and of modules in VQDIT_PARTS.

    Raises:
        ConfigError: a class or field is unknown, as in a file of another version, or a component
            has invalid values.
    """
    return _built(update_json(value))


def _built(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_built(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.get("type") == NAMED and isinstance(value.get("items"), dict):
        for name in value["items"]:
            if not name.isidentifier():
                raise ConfigError(
                    f"{_shown(name)} cannot be a name; use letters, digits and _, as in image_2"
                )
        return Named({name: _built(item) for name, item in value["items"].items()})
    cls = _trusted(str(value.get("type")))
    fields = {name: _built(item) for name, item in value.items() if name != "type"}
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = [name if name.isidentifier() else _shown(name) for name in {*fields} - known]
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}; "
            "the file was written by another version of vqdit; use that version"
        )
    for name, kind in get_type_hints(cls).items():
        if name in fields and not _fits(fields[name], kind):
            wanted = getattr(kind, "__name__", "") if not get_args(kind) else str(kind)
            got = _shown(fields[name])
            raise ConfigError(f"{cls.__name__}.{name} must be {wanted}, got {got}")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    except Exception as error:  # the rule did not expect such values
        why = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{cls.__name__} has invalid fields ({why})") from error


def _shown(value: Any) -> str:
    """Returns a value on one short line, for error messages."""
    return reprlib.repr(value).encode("ascii", "backslashreplace").decode()


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a value has the annotated type; an int is a valid float, a bool is not."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in args
    if origin in (Union, UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = (args[0],) * len(value) if args[-1] is ... else args
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if origin is Named:
        return isinstance(value, Named) and all(_fits(item, args[0]) for item in value.values())
    if kind in (int, float):
        numbers = int if kind is int else int | float
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind)


def _trusted(name: str) -> type[Component]:
    module, _, attribute = name.partition(":")
    if _is_part(module):
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ImportError as error:
            if error.name != module:
                raise ConfigError(f"{name!r} cannot be imported: {error}") from error
            found = None
        if isinstance(found, type) and issubclass(found, Component) and found is not Component:
            return found
    raise ConfigError(
        f"unknown component {name[:100]!a}; the file was written by another version of vqdit, "
        f"or with {PARTS} set to a module of your own; use that version, and set this variable"
    )


def _is_part(module: str) -> bool:
    """Returns whether a module is part of vqdit, or of a module that VQDIT_PARTS lists."""
    own = _own(os.environ.get(PARTS, ""))
    return any(f"{module}.".startswith(f"{part}.") for part in ("vqdit", *own))


@functools.cache
def _own(listed: str) -> tuple[str, ...]:
    """Returns the names of the modules in `listed`, which is the value of VQDIT_PARTS.

    Modules in the current folder are also found, as with `python -m vqdit`.
    """
    names = tuple(name.strip() for name in listed.split(",") if name.strip())
    if names and not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    for name in names:
        try:
            is_there = importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            is_there = False
        if not is_there:
            raise ConfigError(
                f"{PARTS} names the module {name!r}, which is neither in {os.getcwd()} nor in "
                "PYTHONPATH; correct the name, or add its folder to PYTHONPATH"
            )
    return names
