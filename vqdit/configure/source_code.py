"""Components as the Python source of a config: fields that are not defaults, with comments.

The code is formatted as by ruff, with at most 100 characters per line.
"""

import dataclasses
import importlib
import inspect
import json
import keyword
from collections.abc import Mapping
from typing import Any

from vqdit.typing import Component, Named

WIDTH = 100
TAB = " " * 4
MODULES = (
    "vqdit.config",
    "vqdit.data",
    "vqdit.losses",
    "vqdit.modalities",
    "vqdit.models",
    "vqdit.optim",
    "vqdit.parallel",
    "vqdit.processes",
    "vqdit.quantizers",
    "vqdit.samplers",
    "vqdit.tasks",
    "vqdit.typing",
)
"""The modules from which a config imports."""

ALWAYS = {
    "AdamW": ("learning_rate",),
    "Audio": ("rate",),
    "CodeTarget": ("modality",),
    "Condition": ("modality",),
    "ConvAutoencoder": ("channels", "patch", "blocks"),
    "DiT": ("depth", "dim", "heads", "patch"),
    "Image": ("size", "channels"),
    "ImageFolder": ("path", "size", "channels"),
    "Table": ("path",),
    "TextFiles": ("path", "length", "documents", "split_by"),
    "Label": ("classes",),
    "Target": ("tokenizer",),
    "Text": ("length",),
    "TokenizerTask": ("name", "modality", "model", "quantizer"),
    "Unmasking": ("steps",),
    "VQ": ("codebook_size", "dim"),
}
"""Fields that are written first, even with their default values, by component."""

Comments = Mapping[str, str]
"""Comments on fields by the path of the field, such as "task.modality"."""


class Source:
    """Converts values to source code, and collects the imports that it needs.

    Args:
        names: names of values that are written as variables, such as CLASSES.
    """

    def __init__(self, names: Mapping[Any, str] | None = None) -> None:
        self._names = dict(names or {})
        self._used: set[type] = set()

    def name(self, value: Any, name: str) -> None:
        """Writes this value as the variable `name` from now on."""
        self._names[value] = name

    def assignment(
        self, name: str, value: Any, comments: Comments | None = None, indent: int = 0
    ) -> str:
        """Returns the statement `name = value`, after the comment for the path ""."""
        before = f"{TAB * indent}{name} = "
        comments = comments or {}
        above = _comment(comments.get("", ""), indent)
        return f"{above}{before}{self._value(value, '', comments, indent, len(before), 0)}\n"

    def expression(self, value: Any) -> str:
        """Returns a value as an expression, on one line if it fits."""
        return self._value(value, "", {}, 0, 0, 0)

    def imports(self) -> str:
        """Returns the import statements for all written values, sorted as by isort."""
        lines: dict[str, list[str]] = {}
        for kind in self._used:
            lines.setdefault(_public_module(kind), []).append(kind.__name__)
        return "".join(
            _import(module, sorted(names, key=lambda name: (not name.isupper(), name)))
            for module, names in sorted(lines.items())
        )

    def _value(
        self, value: Any, path: str, comments: Comments, indent: int, before: int, after: int
    ) -> str:
        """Returns a value as source; `before` and `after` are the lengths of the text around it."""
        if isinstance(value, Component | tuple) and value in self._names:
            return self._names[value]
        opening, items, closing = self._items(value)
        if not items and not opening:
            return closing if len(closing) + before + after <= WIDTH else _split(closing, indent)
        is_commented = any(
            comments.get(f"{path}.{key}".lstrip(".")) for key in _paths(value, self._names)
        )
        if not is_commented:
            parts = [
                f"{shown}{self._value(part, '', {}, 0, 0, -(WIDTH**2))}" for shown, _, part in items
            ]
            line = (
                f"{opening}{', '.join(parts)}{',' * (opening == '(' and len(items) == 1)}{closing}"
            )
            if len(line) + before + after <= WIDTH and "\n" not in line:
                return line
        lines = [opening]
        for shown, key, part in items:
            inner = f"{path}.{key}".strip(".")
            lines.append(_comment(comments.get(inner, ""), indent + 1).rstrip("\n"))
            start = f"{TAB * (indent + 1)}{shown}"
            lines.append(f"{start}{self._value(part, inner, comments, indent + 1, len(start), 1)},")
        return "\n".join([line for line in lines if line] + [TAB * indent + closing])

    def _items(self, value: Any) -> tuple[str, list[tuple[str, str, Any]], str]:
        """Returns a value's opening text, its parts (prefix, key, value), and its closing text."""
        if isinstance(value, Component):
            self._used.add(type(value))
            fields = [(f"{name}=", name, part) for name, part in _fields(value).items()]
            return f"{type(value).__name__}(", fields, ")"
        if isinstance(value, Named):
            self._used.add(Named)
            if not any(keyword.iskeyword(name) or not name.isidentifier() for name in value):
                return "Named(", [(f"{name}=", name, part) for name, part in value.items()], ")"
            return "Named(", [("", "", dict(value))], ")"
        if isinstance(value, dict):
            return "{", [(f"{_text(name)}: ", name, part) for name, part in value.items()], "}"
        if isinstance(value, tuple):
            return "(", [("", str(number), part) for number, part in enumerate(value)], ")"
        return "", [], _text(value) if isinstance(value, str) else repr(value)


def _fields(value: Component) -> dict[str, Any]:
    """Returns the fields to write: those that differ from their defaults, and those in `ALWAYS`."""
    fields = dataclasses.fields(value)  # pyright: ignore[reportArgumentType]
    always = ALWAYS.get(type(value).__name__, ())
    found = {field.name: getattr(value, field.name) for field in fields}
    changed = [f.name for f in fields if f.name in always or found[f.name] != f.default]
    order = [*always, *(name for name in changed if name not in always)]
    return {name: found[name] for name in order}


def _paths(value: Any, names: Mapping[Any, str]) -> list[str]:
    """Returns the paths of all parts of a value that are not written as variables."""
    if isinstance(value, Component | tuple) and value in names:
        return []
    if isinstance(value, Component):
        parts = _fields(value)
    elif isinstance(value, Named | dict):
        parts = dict(value)
    else:
        return []
    return [
        path
        for name, part in parts.items()
        for path in (name, *(f"{name}.{inner}" for inner in _paths(part, names)))
    ]


def _text(text: str) -> str:
    """Returns a string literal in ruff's style: in double quotes unless they need escapes."""
    if '"' in text and "'" not in text:
        return repr(text)
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _split(literal: str, indent: int) -> str:
    """Returns a string literal over several lines, in parentheses."""
    if literal[:1] not in "\"'" or "\\" in literal:
        return literal
    quote, inside = literal[0], literal[1:-1]
    size = WIDTH - len(TAB) * (indent + 1) - 2
    parts = [inside[start : start + size] for start in range(0, len(inside), size)]
    lines = "".join(f"{TAB * (indent + 1)}{quote}{part}{quote}\n" for part in parts)
    return f"(\n{lines}{TAB * indent})"


def _comment(text: str, indent: int) -> str:
    """Returns a comment as lines of at most `WIDTH` characters."""
    lines, line = [], ""
    for word in text.split():
        if line and len(TAB) * indent + 2 + len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    lines += [line] if line else []
    return "".join(f"{TAB * indent}# {line}\n" for line in lines)


def _public_module(kind: type) -> str:
    """Returns the module of `MODULES` that has a class in its `__all__`."""
    for name in MODULES:
        module = importlib.import_module(name)
        if kind.__name__ in getattr(module, "__all__", ()) and inspect.isclass(kind):
            return name
    raise TypeError(
        f"the class {kind.__name__} is in no public module of vqdit, so a config cannot import it"
    )


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}\n"
    if len(line) <= WIDTH + 1:
        return line
    return f"from {module} import (\n{''.join(f'{TAB}{name},{chr(10)}' for name in names)})\n"
