"""Finds the fields in which two experiments differ, and which of them may change on resume."""

import dataclasses
from typing import Any, NamedTuple

from vqdit.typing import Component, Named


class Difference(NamedTuple):
    """A field in which two experiments differ: path, both values, and whether it may change."""

    path: str
    old: Any
    new: Any
    resumable: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.old!r} -> {self.new!r}"


def differences(old: Any, new: Any, path: str = "", resumable: bool = False) -> list[Difference]:
    """Returns the fields in which two experiments differ, in the order of the fields.

    A field is resumable if it, or a component that contains it, is marked as resumable.

    Args:
        old: one experiment, or a field of it.
        new: the other experiment, or the same field of it.
        path: dotted path of this field; "" for an experiment.
        resumable: whether a component that contains this field is marked as resumable.
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
