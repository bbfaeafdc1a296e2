"""Overrides: `--any.field=value` replaces fields of a config.

    --optimizer.learning-rate=3e-4         a field; dashes or underscores
    --task.modality.size=28,28             a tuple: commas or blanks
    --task.targets.image.sampler.steps=8   an entry of a `Named`
    --tokenizer.steps=500                  a field if there are several experiments
    --data.source=FashionMNIST             another class for a component
    --data.augment=HorizontalFlip,Affine   components of a tuple; empty for none
    --task.adversary.weight=0.5            adds an optional component
    --task.adversary=None                  removes an optional component

All overrides are applied together, so their order does not matter, and a component is checked only
after all its fields are set: `--task.targets.image.process=Flow
--task.targets.image.sampler=Euler`. If the class of a component changes, fields that both classes
share keep the config's values.
"""

import dataclasses
import difflib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveTypeInfo,
    UnsupportedTypeAnnotationError,
)

from vqdit.cli.options import near
from vqdit.config import Config, ConfigError
from vqdit.config.old_names import OptionNames
from vqdit.typing import Component, Named

C = TypeVar("C", bound=Component)
OWN = ("config", "workdir")
"""Options of the commands that accept overrides."""


class Change(NamedTuple):
    """One override of the command line: the option with its dashes, and its values."""

    option: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.option}={','.join(self.values)}"


Tree = dict[str, Any]
"""Changes by field; the key "" has the change of the whole component."""


def override(config: Config, args: Sequence[str]) -> Config:
    """Returns the config with the fields that `args` names replaced.

    Raises:
        ConfigError: a field or class is unknown, a value has the wrong type, or a component has
            invalid values.
    """
    whole: Any = Named(config) if isinstance(config, dict) else config
    tree: Tree = {}
    for change in _changes(args):
        branch = tree
        names = change.option.removeprefix("--").replace("-", "_").split(".")
        if not all(names):
            raise ConfigError(f"unexpected {str(change)!r}; an override looks like --steps=500")
        for name in names:
            branch = branch.setdefault(name, {})
        branch[""] = change
    overrides = _Overrides(whole)
    result = overrides.apply(whole, type(whole), tree, "")
    overrides.names.notice()
    return {name: result[name] for name in config} if isinstance(config, dict) else result


def _changes(args: Sequence[str]) -> Iterator[Change]:
    option, values = "", []
    for arg in [*args, "--"]:
        if not arg.startswith("--"):
            values.append(arg)
            continue
        if option:
            if not values:
                raise ConfigError(f"{option} needs a value, as in {option}=...")
            yield Change(option, tuple(values))
        elif values:
            raise ConfigError(f"unexpected {values[0]!r}; an override looks like --steps=500")
        option, equals, value = arg.partition("=")
        values = [value] if equals else []


class _Overrides:
    """Applies changes to the parts of one config."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self.names = OptionNames()

    def apply(self, value: Any, kind: Any, tree: Tree, path: str) -> Any:
        """Returns `value` with the changes in `tree`.

        Args:
            value: the value of a field.
            kind: annotated type of the field.
            tree: changes of the field and of its inner fields.
            path: dotted path of the field in the config.
        """
        part = _optional_part(kind)
        if part is not None:
            if "" in tree and [text.lower() for text in tree[""].values] == ["none"]:
                return None
            return self._component(value, part, tree, path)
        if isinstance(value, Component) or (value is None and _is_component(kind)):
            return self._component(value, kind, tree, path)
        if isinstance(value, Named):
            return self._named(value, kind, tree, path)
        if get_origin(kind) is tuple and _is_component(get_args(kind)[0]):
            return self._tuple(value or (), get_args(kind)[0], tree, path)
        for name in tree:
            if name:
                raise self._unknown(_join(path, name), f"--{_shown(path)}", [])
        return _parsed(tree[""], kind, value)

    def _component(
        self, value: Component | None, kind: type[Component], tree: Tree, path: str
    ) -> Component:
        now = kind if value is None else type(value)
        cls = _class(tree[""], kind, self.names) if "" in tree else now
        fields = _defaults(cls)
        if value is not None:
            fields |= _values(value) if cls is now else _shared(value, cls)
        kinds = get_type_hints(cls)
        known = [field.name for field in dataclasses.fields(cls)]
        for name, branch in tree.items():
            name = name if name in known else self.names.update_field(cls, name)
            if name and name not in known:
                raise self._unknown(_join(path, name), cls.__name__, known)
            if name:
                inner = _join(path, name)
                fields[name] = self.apply(fields.get(name), kinds[name], branch, inner)
        return _made(cls, fields, tree, path) if tree or value is None else value

    def _named(self, value: Named, kind: Any, tree: Tree, path: str) -> Named:
        if "" in tree:
            entries = ", ".join(f"--{_shown(_join(path, name))}" for name in value)
            raise ConfigError(
                f"{tree['']}: a map cannot be set as a whole; set its entries one by one: "
                f"{entries or 'none'}"
            )
        items = dict(value)
        for name, branch in tree.items():
            if name not in items:
                raise self._unknown(_join(path, name), f"--{_shown(path)}", list(items))
            item_kind = next(iter(get_args(kind)), type(items[name]))
            items[name] = self.apply(items[name], item_kind, branch, _join(path, name))
        return Named(items)

    def _tuple(self, value: tuple, kind: type[Component], tree: Tree, path: str) -> tuple:
        items, changes = list(value), {name: branch for name, branch in tree.items() if name}
        if "" in tree:
            option, names = tree[""].option, _split(tree[""].values)
            items = [None] * len(names)
            changes |= {
                str(number): {"": Change(option, (name,)), **changes.get(str(number), {})}
                for number, name in enumerate(names)
            }
        for name, branch in changes.items():
            if not (name.isdigit() and int(name) < len(items)):
                numbers = [str(number) for number in range(len(items))]
                raise self._unknown(_join(path, name), f"--{_shown(path)}", numbers)
            items[int(name)] = self.apply(items[int(name)], kind, branch, _join(path, name))
        return tuple(items)

    def _unknown(self, path: str, owner: str, names: list[str]) -> ConfigError:
        prefix, _, last = path.rpartition(".")
        everywhere = [known for known in _paths(self._whole, "") if not path.startswith(known)]
        everywhere.sort(key=lambda known: known.count("."))
        close = difflib.get_close_matches(last, names if prefix else [*names, *OWN], n=1)
        hints = [_join(prefix, name) for name in close]
        hints = hints or [known for known in everywhere if known.endswith(f".{last}")][:3]
        hint = "; did you mean " + " or ".join(f"--{_shown(hint)}" for hint in hints) + "?"
        fields = f"; {owner} has {', '.join(map(_shown, names)) or 'no fields'}" if prefix else ""
        return ConfigError(f"unknown field --{_shown(path)}{hint * bool(hints)}{fields}")


def _parsed(change: Change, kind: Any, current: Any) -> Any:
    """Converts the text of a change to the annotated type of its field with tyro.

    Args:
        change: the override.
        kind: annotated type of the field.
        current: present value of the field, which an error message shows as an example.
    """
    values = list(change.values)
    if get_origin(kind) is tuple:
        values = _split(values)
    elif len(values) > 1:
        raise ConfigError(
            f"{change.option} takes one value, but {values[1]!r} follows it; remove one of them"
        )
    if kind is bool or bool in get_args(kind):
        is_truth = values[0].lower() in ("true", "false")
        values = [value.capitalize() for value in values] if is_truth else values
    if type(None) in get_args(kind) and values[0].lower() == "none":
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    if isinstance(spec, UnsupportedTypeAnnotationError):
        raise ConfigError(
            f"{change.option} cannot be set on the command line; change the config file"
        )
    try:
        if spec.nargs not in (len(values), "*") or not set(values) <= set(spec.choices or values):
            raise ValueError
        parsed = spec.instance_from_str(values)
        if any(part != part for part in (parsed if isinstance(parsed, tuple) else (parsed,))):
            raise ValueError  # rejects NaN, as no field allows it
    except ValueError as error:
        example = ",".join(map(str, current)) if isinstance(current, tuple) else current
        such = "" if example in (None, "") else f", such as {example}"
        raise ConfigError(
            f"{change.option} takes {_expected(kind)}{such}; got {','.join(change.values)!r}"
        ) from error
    return parsed


def _expected(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return ",".join("..." if part is ... else _expected(part) for part in get_args(kind))
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    return "" if isinstance(spec, UnsupportedTypeAnnotationError) else spec.metavar


def _split(values: Sequence[str]) -> list[str]:
    """Returns the parts of "28,28", "(28, 28)", "28 28" or "28,"."""
    parts = ",".join(values).strip("()[]").split(",")
    return [part.strip() for part in parts if part.strip()]


def _made(cls: type[Component], fields: dict[str, Any], tree: Tree, path: str) -> Component:
    needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
    missing = [f"--{_shown(_join(path, name))}=..." for name in sorted(needed - set(fields))]
    if missing:
        raise ConfigError(f"{cls.__name__} has fields without defaults; add {' '.join(missing)}")
    try:
        return cls(**fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{' '.join(map(str, _leaves(tree)))}: {error}") from error


def _leaves(tree: Tree) -> Iterator[Change]:
    for name, branch in tree.items():
        yield from _leaves(branch) if name else [branch]


def _defaults(cls: type[Component]) -> dict[str, Any]:
    fields = dataclasses.fields(cls)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def _values(value: Component) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _shared(value: Component, cls: type[Component]) -> dict[str, Any]:
    """Returns the fields of `value` that differ from their defaults and that `cls` also has."""
    defaults, old, new = _defaults(type(value)), get_type_hints(type(value)), get_type_hints(cls)
    return {
        name: given
        for name, given in _values(value).items()
        if new.get(name) == old[name] and given != defaults.get(name)
    }


def classes_of(base: type[C]) -> dict[str, type[C]]:
    """Returns the public subclasses of `base` in its package; `base` itself if it has none."""
    package = importlib.import_module(".".join(base.__module__.split(".")[:2]))
    public = (getattr(package, name) for name in getattr(package, "__all__", vars(package)))
    found = {c.__name__: c for c in public if _is_component(c) and issubclass(c, base)}
    found.pop(base.__name__, None)
    return found or {base.__name__: base}


def _class(change: Change, base: type[Component], names: OptionNames) -> type[Component]:
    name, classes = names.update_class(",".join(change.values)), classes_of(base)
    if name not in classes:
        if list(classes) == [base.__name__] and not dataclasses.fields(base):
            raise ConfigError(
                f"{change}: vqdit has no subclass of {base.__name__}; write one, and use it "
                "in a config file"
            )
        if list(classes) == [base.__name__]:
            field = f"{change.option}.{_shown(dataclasses.fields(base)[0].name)}"
            raise ConfigError(f"{change} cannot be set as a whole; set its fields, such as {field}")
        raise ConfigError(
            f"{change.option} must be the name of a class, got {name!r}{near(name, classes)}; "
            f"choose one of: {', '.join(sorted(classes))}"
        )
    return classes[name]


def _optional_part(kind: Any) -> type[Component] | None:
    """Returns the component class C of a field of type `C | None`."""
    parts = [part for part in get_args(kind) if _is_component(part)]
    return parts[0] if parts and type(None) in get_args(kind) else None


def _is_component(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Component)


def _paths(value: Any, path: str) -> Iterator[str]:
    """Yields the path of every field of a config."""
    if path:
        yield path
    if isinstance(value, Component):
        for field in dataclasses.fields(value):
            yield from _paths(getattr(value, field.name), _join(path, field.name))
    elif isinstance(value, Named):
        for name, item in value.items():
            yield from _paths(item, _join(path, name))


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(path: str) -> str:
    return path.replace("_", "-")
