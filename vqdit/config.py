"""Configs: load one by path or name, override its fields, turn it into JSON and back.

A config is a Python file with ``def config()`` that returns an `Experiment`, or a dict of named
ones that run in order. The command line is made from its dataclasses by tyro:
``--optimizer.learning-rate=3e-4``; of a dict, ``--tokenizer.optimizer.learning-rate=3e-4``. A
field that holds a component takes the name of another class too: ``--data.source=FashionMNIST``.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec

from vqdit.experiment import Experiment
from vqdit.typing import Component, Named

OURS = "vqdit."
"""JSON may name classes of modules that begin with this, and no others."""

Config = Experiment | dict[str, Experiment]


class ConfigError(ValueError):
    """A config cannot be found, read or overridden."""


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
            f"no config {name!r}{f'; did you mean {hint[0]!r}?' if hint else ''}\n"
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
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    lines += [error.lineno] if isinstance(error, SyntaxError) else []
    return f"{file}:{lines[-1]}" if lines else str(file)


def _check(result: Any, file: Path) -> None:
    if isinstance(result, Experiment):
        return
    if isinstance(result, dict) and result:
        if all(isinstance(value, Experiment) for value in result.values()):
            wrong = [name for name in result if not str(name).isidentifier()]
            if not wrong:
                return
            raise ConfigError(f"{file}: experiments need names like 'tokenizer', got {wrong[0]!r}")
    raise ConfigError(
        f"config() in {file} must return an Experiment or a dict of named ones, "
        f"got {type(result).__name__}"
    )


def override(config: Config, args: Sequence[str], prog: str = "train.py") -> Config:
    """Returns the config with the fields that `args` names replaced.

    Bad fields, types and choices end the program with a message that names the nearest fields;
    `--help` lists them all.

    Args:
        config: an experiment or a dict of them.
        args: "--path.to.field=value" or "--path.to.field", "value"; dashes or underscores; the
            values of a tuple are separated by commas or blanks.
        prog: what the program is called in messages.

    Raises:
        ConfigError: a class name is unknown, or a component refuses its values.
    """
    default: Any = Named(config) if isinstance(config, dict) else config
    rest: list[str] = []
    for arg in args:
        default, kept = _switch(default, arg)
        rest += kept
    try:
        result = tyro.cli(
            type(default),
            default=default,
            args=rest,
            prog=prog,
            description="Fields of the config, and their values:",
            registry=_registry(),
            config=(tyro.conf.FlagConversionOff,),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if isinstance(config, dict):
        return {name: result[name] for name in config}
    return result


def _registry() -> ConstructorRegistry:
    """Teaches tyro to see the entries of a `Named` as fields."""
    registry = ConstructorRegistry()

    @registry.struct_rule
    def named(info: tyro.constructors.StructTypeInfo) -> StructConstructorSpec | None:
        is_named = info.type is Named or get_origin(info.type) is Named
        if not is_named or not isinstance(info.default, Named):
            return None
        fields = tuple(
            StructFieldSpec(name=name, type=type(value), default=value)
            for name, value in info.default.items()
        )
        return StructConstructorSpec(instantiate=lambda **items: Named(items), fields=fields)

    return registry


def _switch(default: Any, arg: str) -> tuple[Any, list[str]]:
    """Handles what tyro does not: another class for a component, and commas in a tuple."""
    path, equals, value = arg.partition("=")
    if not path.startswith("--") or not equals:
        return default, [arg]
    names = path[2:].replace("-", "_").split(".")
    try:
        current = _get(default, names)
    except (AttributeError, KeyError):
        return default, [arg]
    if isinstance(current, tuple) and "," in value:
        return default, [path, *value.strip("()").replace(" ", "").rstrip(",").split(",")]
    if not isinstance(current, Component):
        return default, [arg]
    cls = _class_named(value, current, path)
    shared = {field.name for field in dataclasses.fields(cls)} & {
        field.name for field in dataclasses.fields(current)
    }
    try:
        new = cls(**{name: getattr(current, name) for name in shared})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{arg}: {error}") from error
    return _replace(default, names, new, arg), []


def _class_named(name: str, current: Component, path: str) -> type[Component]:
    """Finds a class among the `__all__` of the package that the current component is from."""
    module = type(current).__module__
    parent = module.rpartition(".")[0]
    package = importlib.import_module(module if parent == "vqdit" else parent)
    base = type(current).__mro__[-3] if len(type(current).__mro__) > 3 else type(current)
    classes = {
        exported: getattr(package, exported)
        for exported in getattr(package, "__all__", ())
        if isinstance(getattr(package, exported), type)
        and issubclass(getattr(package, exported), base)
        and getattr(package, exported) is not base
    }
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{path}: no class {name!r}{hint}; one of: {', '.join(sorted(classes))}")
    return classes[name]


def _get(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        value = value[name] if isinstance(value, Named) else getattr(value, name)
    return value


def _replace(value: Any, names: Sequence[str], new: Any, arg: str) -> Any:
    if not names:
        return new
    inner = _replace(_get(value, names[:1]), names[1:], new, arg)
    if isinstance(value, Named):
        return value | {names[0]: inner}
    try:
        return dataclasses.replace(value, **{names[0]: inner})
    except ValueError as error:
        raise ConfigError(f"{arg}: {error}") from error


def to_json(value: Any) -> Any:
    """Returns what `json.dump` takes; `from_json` gives an equal value back."""
    if isinstance(value, Component):
        cls = type(value)
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(cls)}
        return {"type": f"{cls.__module__}:{cls.__name__}", **fields}
    if isinstance(value, Named):
        return {"type": "Named", "items": {name: to_json(item) for name, item in value.items()}}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"{value!r} cannot be part of a config; use components, tuples and numbers")


def from_json(value: Any) -> Any:
    """Rebuilds what `to_json` wrote. Only our own components are ever constructed.

    Raises:
        ConfigError: a class or field is unknown, as in a file of another version.
    """
    if isinstance(value, list):
        return tuple(from_json(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Named":
        return Named({name: from_json(item) for name, item in value["items"].items()})
    cls = _trusted(str(value.get("type")))
    fields = {name: from_json(item) for name, item in value.items() if name != "type"}
    unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise ConfigError(
            f"{cls.__name__} has no field {', '.join(sorted(unknown))}; "
            "the file was written by another version of vqdit"
        )
    return cls(**fields)


def _trusted(name: str) -> type[Component]:
    module, _, attribute = name.partition(":")
    if module.startswith(OURS):
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ImportError:
            found = None
        if isinstance(found, type) and issubclass(found, Component):
            return found
    raise ConfigError(f"unknown component {name!r}; the file was not written by this vqdit")


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


def take(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Takes `option=VALUE` or `option VALUE` out of the arguments.

    Raises:
        ConfigError: the option has no value.
    """
    rest, value = [], None
    arguments = iter(argv)
    for argument in arguments:
        if argument == option:
            value = next(arguments, None)
            if value is None:
                raise ConfigError(f"{option} needs a value, as in {option}=...")
        elif argument.startswith(option + "="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, rest
