"""Configs: load one by path or name, turn it into JSON and back, compare two.

A config is a Python file with ``def config()`` that returns an `Experiment`, or a dict of named
ones that run in order. The command line overrides its fields (`vqdit.cli.overrides`).
"""

import dataclasses
import difflib
import importlib
import importlib.util
import os
import traceback
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from vqdit.experiment import Experiment
from vqdit.typing import Component, Named

PARTS = "VQDIT_PARTS"
"""The environment variable of modules whose classes JSON may name, beside vqdit's: `mine,lab`.

Reading a workdir imports what it names, so these are modules that their user trusts.
"""

NAMED = "Named"
"""What JSON calls a `Named`."""

Config = Experiment | dict[str, Experiment]


class ConfigError(ValueError):
    """A config cannot be found, read, overridden or written."""


class Difference(NamedTuple):
    """A field in which two experiments differ."""

    path: str
    old: Any
    new: Any
    resumable: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.old!r} -> {self.new!r}"


def shipped() -> dict[str, Path]:
    """Returns the configs that come with vqdit, by name."""
    here = Path(__file__).parent
    for folder in (here / "configs", here.parent / "configs"):  # in a wheel; in a checkout
        if folder.is_dir():
            files = sorted(folder.rglob("*.py"))
            return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
    return {}


def load(name: str) -> tuple[str, Config]:
    """Loads a config.

    Args:
        name: path of a Python file, or the name of a shipped config such as "image/fashion_dit".

    Returns:
        The config's own name (the file's, without folder and ending), and the config.

    Raises:
        ConfigError: it does not exist, has no `config()`, fails, or returns something else.
    """
    known = shipped()
    file = Path(name) if Path(name).is_file() else known.get(name.removesuffix(".py"))
    if file is None:
        near = difflib.get_close_matches(Path(name).stem, [Path(n).name for n in known], n=1)
        hint = [shown for shown in known if Path(shown).name in near]
        raise ConfigError(
            f"no config {name!r}{f'; did you mean {hint[0]!r}?' if hint else ''}; "
            f"give the path of a Python file, or one of: {', '.join(known)}"
        )
    spec = importlib.util.spec_from_file_location(f"vqdit_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file; a config ends in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "config", None)):
            raise ConfigError(
                f"{file} has no function config(); "
                "a config defines `def config() -> Experiment`, or a dict of named ones"
            )
        result = module.config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{_where(error, file)}: {type(error).__name__}: {error}") from error
    _check(result, file)
    return file.stem, result


def _where(error: Exception, file: Path) -> str:
    """Returns the last line of the config file that the error passed through."""
    frames, name = traceback.extract_tb(error.__traceback__), str(file.absolute())
    lines = [frame.lineno for frame in frames if frame.filename == name]
    if isinstance(error, SyntaxError) and error.filename == name:
        lines.append(error.lineno)
    return f"{file}:{lines[-1]}" if lines else str(file)


def _check(result: Any, file: Path) -> None:
    named = result if isinstance(result, dict) else {"experiment": result}
    if not named or not all(isinstance(value, Experiment) for value in named.values()):
        wrong = [value for value in named.values() if not isinstance(value, Experiment)]
        got = f"a dict with {_described(wrong[0])}" if wrong and named is result else ""
        raise ConfigError(
            f"config() in {file} must return an Experiment or a dict of named ones, "
            f"got {got or _described(result)}"
        )
    for name, experiment in named.items():
        if not str(name).isidentifier():
            raise ConfigError(f"{file}: experiments need names like 'tokenizer', got {name!r}")
        try:
            from_json(to_json(experiment))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error


def _described(value: Any) -> str:
    return "an empty dict" if value == {} else type(value).__name__


def to_json(value: Any) -> Any:
    """Returns what `json.dump` takes; `from_json` gives an equal value back."""
    if isinstance(value, Component):
        cls, name = type(value), f"{type(value).__module__}:{type(value).__qualname__}"
        if not _is_part(type(value).__module__):
            raise ConfigError(
                f"{cls.__name__} is not part of vqdit, so no workdir could be read back; put its "
                f"class into a module that can be imported, such as mine.py, and set {PARTS}=mine"
            )
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(cls)}
        return {"type": name, **fields}
    if isinstance(value, Named):
        return {"type": NAMED, "items": {name: to_json(item) for name, item in value.items()}}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{value!r} cannot be part of a config; use components, tuples and numbers")


def from_json(value: Any) -> Any:
    """Rebuilds what `to_json` wrote. Only our own components are ever constructed.

    Raises:
        ConfigError: a class or field is unknown, as in a file of another version, or a component
            refuses its values.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.get("type") == NAMED and isinstance(value.get("items"), dict):
        return Named({name: from_json(item) for name, item in value["items"].items()})
    cls = _trusted(str(value.get("type")))
    fields = {name: from_json(item) for name, item in value.items() if name != "type"}
    unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}; "
            "the file was written by another version of vqdit"
        )
    for name, kind in get_type_hints(cls).items():
        if name in fields and not _fits(fields[name], kind):
            shown = getattr(kind, "__name__", "") if not get_args(kind) else str(kind)
            raise ConfigError(f"{cls.__name__}.{name} must be {shown}, got {fields[name]!r}")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _fits(value: Any, kind: Any) -> bool:
    """True if the value is of the annotated kind; an integer is a number, a truth is neither."""
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
        except ImportError:
            found = None
        if isinstance(found, type) and issubclass(found, Component) and found is not Component:
            return found
    raise ConfigError(
        f"unknown component {name!r}; the file was not written by this vqdit, or with {PARTS} set "
        "to a module of your own"
    )


def _is_part(module: str) -> bool:
    """Returns whether a module is vqdit's, or one that the user calls a part of it."""
    own = [name.strip() for name in os.environ.get(PARTS, "").split(",") if name.strip()]
    return any(f"{module}.".startswith(f"{part}.") for part in ("vqdit", *own))


def differences(old: Any, new: Any, path: str = "", resumable: bool = False) -> list[Difference]:
    """Returns the fields in which two experiments differ, in order.

    A field is resumable if it, or a field around it, is marked so.
    """
    if isinstance(old, Component) and type(old) is type(new):
        found = []
        for field in dataclasses.fields(old):
            inner = f"{path}.{field.name}" if path else field.name
            may = resumable or bool(field.metadata.get("resumable"))
            pair = getattr(old, field.name), getattr(new, field.name)
            found += differences(*pair, inner, may)
        return found
    if isinstance(old, Named) and isinstance(new, Named) and set(old) == set(new):
        return [
            change
            for name in old
            for change in differences(old[name], new[name], f"{path}.{name}", resumable)
        ]
    return [] if old == new else [Difference(path, old, new, resumable)]
