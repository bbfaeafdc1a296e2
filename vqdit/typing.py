"""Types for all modules: the dimension key, array aliases, `Component` and `Named`.

Dimension key, used in all shape strings, einsum letters and comments::

    b batch      l tokens      d width      k codes      q codebooks per position
    h heads      n steps       c channels   *grid spatial positions
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import jax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped, UInt8, UInt32

from vqdit import rules

__all__ = [
    "Array",
    "Bool",
    "Component",
    "Float",
    "Int",
    "Key",
    "Named",
    "Params",
    "Shaped",
    "Stats",
    "UInt8",
    "UInt32",
    "resumable",
]

Params = Any
"""A pytree of arrays that receive gradients."""
Stats = Any
"""A pytree of arrays that a component updates itself (codebooks by EMA, counts)."""

V = TypeVar("V")


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Component:
    """Base class of all parts of a config.

    A subclass is automatically a frozen, keyword-only dataclass. Its fields are the configuration,
    and its methods are pure functions. Components can be hashed, compared, printed and converted to
    JSON (`vqdit.config.to_json`).
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def __new__(cls, **fields: Any):  # noqa: ANN204 (inferred; beartype refuses Self)
        unknown = [name for name in fields if name not in cls.__dataclass_fields__]
        if unknown:
            known = ", ".join(cls.__dataclass_fields__) or "no fields"
            raise TypeError(f"{cls.__name__} has no field {unknown[0]!r}; it has: {known}")
        choices = _choices(cls)
        for name, value in fields.items():
            several = value.values() if isinstance(value, Named) else value
            for number in several if isinstance(value, tuple | Named) else (value,):
                if isinstance(number, float):
                    rules.check(rules.finite, **{f"{cls.__name__}.{name}": number})
            for item in value if isinstance(value, tuple) else (value,):
                if name in choices and item not in choices[name]:
                    known = ", ".join(map(repr, choices[name]))
                    raise ValueError(f"{cls.__name__}.{name} must be one of {known}, got {item!r}")
        return super().__new__(cls)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def require(self, rule: str, holds: bool, hint: str = "") -> None:
        """Raises ValueError with the rule and the field's value unless the rule holds.

        Args:
            rule: text of the rule, such as "dim >= 1"; its first word is the name of the field.
            holds: whether the rule holds.
            hint: remedy, which is appended to the message.
        """
        if not holds:
            got = getattr(self, rule.split()[0])
            hint = f"; {hint}" if hint else ""
            raise ValueError(f"{type(self).__name__} needs {rule}, got {got!r}{hint}")


@functools.cache
def _choices(cls: type[Component]) -> dict[str, tuple[Any, ...]]:
    """Returns the allowed values of each field whose type, or type of items, is a Literal."""
    found = {}
    with contextlib.suppress(NameError):  # a local class may use types of its function
        for name, kind in get_type_hints(cls).items():
            kind = get_args(kind)[0] if get_args(kind)[1:] == (...,) else kind
            kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
            values = {bool: (True, False), NoneType: (None,)}
            parts = [get_args(k) if get_origin(k) is Literal else values.get(k) for k in kinds]
            if any(get_origin(k) is Literal for k in kinds) and None not in parts:
                found[name] = tuple(value for part in parts if part for value in part)
    return found


def resumable(default: Any) -> Any:
    """Declares a field whose value may change when a run resumes; other changes raise an error."""
    return dataclasses.field(default=default, metadata={"resumable": True})


class Named(Mapping[str, V], Generic[V]):
    """An immutable, hashable map from names to values, which is a pytree.

    Names are sorted, so that two maps with the same names have the same pytree structure.

    >>> Named(image=1, audio=2)
    Named(audio=2, image=1)
    >>> Named({"image": 1}) | {"label": 3}
    Named(image=1, label=3)
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] | None = None, /, **named: V) -> None:
        merged = {**(items or {}), **named}
        object.__setattr__(self, "_items", {name: merged[name] for name in sorted(merged)})

    def __getitem__(self, name: str) -> V:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __or__(self, other: Mapping[str, V]) -> Named[V]:
        return Named({**self._items, **other})

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self._items == other._items

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("Named is immutable; use `named | {name: value}` for a changed copy")

    def __reduce__(self) -> tuple[Any, ...]:
        return (Named, (self._items,))

    def __repr__(self) -> str:
        return f"Named({', '.join(f'{name}={value!r}' for name, value in self._items.items())})"


def _flatten_with_keys(named: Named[Any]) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
    return [(jax.tree_util.DictKey(name), value) for name, value in named.items()], tuple(named)


def _flatten(named: Named[Any]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    return tuple(named.values()), tuple(named)


def _unflatten(names: tuple[str, ...], values: Any) -> Named[Any]:
    return Named(dict(zip(names, values, strict=True)))


jax.tree_util.register_pytree_with_keys(Named, _flatten_with_keys, _unflatten, _flatten)
