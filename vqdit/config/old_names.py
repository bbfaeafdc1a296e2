"""Old names of modules, classes and fields, so that old workdirs, configs and commands still work.

Names change between releases; the files that people keep do not. Whatever is read is first put
into today's names: the JSON of a workdir (`update_json`), a config file's source (`update_source`)
and options of the command line (`update_field`, `update_class`). A line of the log says so.
"""

import ast
import logging
from typing import Any

log = logging.getLogger(__name__)

MODULES = {
    "vqdit.bench": "vqdit.profiling.benchmark",
    "vqdit.checkpoint": "vqdit.runs.checkpoint_retention",
    "vqdit.ema": "vqdit.optim.ema",
    "vqdit.experiment": "vqdit.config.experiment",
    "vqdit.optimizers": "vqdit.optim.optimizers",
    "vqdit.sharding": "vqdit.parallel.mesh",
}
"""Modules whose components configs and workdirs name, by their old names."""

CLASSES = {"Deadlines": "Timeouts", "Symbols": "CodeTarget"}
"""Classes of components by their old names."""

_JOINT = {
    "clamp": "p_known",
    "drop": "p_dropped",
    "partial": "max_known_time",
    "single": "p_one_known",
}
FIELDS = {
    "Experiment": {"deadlines": "timeouts"},
    **dict.fromkeys(("Conditional", "Independent", "Shared", "Unbalanced"), _JOINT),
}
"""Fields by today's name of their class and their old names."""


def update_json(value: Any) -> Any:
    """Returns the JSON of a component, or of several, with today's names."""
    renamed: dict[str, str] = {}
    value = _updated(value, renamed)
    _notice(renamed)
    return value


def _updated(value: Any, renamed: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_updated(item, renamed) for item in value]
    if not isinstance(value, dict):
        return value
    module, colon, name = str(value.get("type")).partition(":")
    if not colon:  # a `Named`, whose names are its user's
        return {field: _updated(item, renamed) for field, item in value.items()}
    module, name = MODULES.get(module, module), _rename(CLASSES, name, renamed)
    names = FIELDS.get(name, {})
    fields = {
        _rename(names, field, renamed): _updated(item, renamed) for field, item in value.items()
    }
    return {**fields, "type": f"{module}:{name}"}


def update_source(source: str, filename: str) -> ast.Module:
    """Parses a config file and puts its names of vqdit's modules, classes and fields into today's.

    Args:
        source: text of the file.
        filename: its path, for error messages.

    Raises:
        SyntaxError: the file is not Python.
    """
    updater = _Updater()
    tree = ast.fix_missing_locations(updater.visit(ast.parse(source, filename)))
    _notice(updater.renamed)
    return tree


class _Updater(ast.NodeTransformer):
    """Renames imported modules and classes, and the keyword arguments of components."""

    def __init__(self) -> None:
        self.renamed: dict[str, str] = {}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if (node.module or "").split(".")[0] == "vqdit":
            node.module = _rename(MODULES, str(node.module), self.renamed)
            for alias in node.names:
                if alias.name in CLASSES:
                    alias.asname = alias.asname or alias.name
                    alias.name = _rename(CLASSES, alias.name, self.renamed)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        fields = FIELDS.get(CLASSES.get(name, name), {})
        for keyword in node.keywords:
            if keyword.arg:
                keyword.arg = _rename(fields, keyword.arg, self.renamed)
        return node


def update_field(cls: type, field: str) -> str:
    """Returns today's name of a class's field, as an option of the command line gives it."""
    renamed: dict[str, str] = {}
    field = _rename(FIELDS.get(cls.__name__, {}), field, renamed)
    _notice(renamed)
    return field


def update_class(name: str) -> str:
    """Returns today's name of a class, as an option of the command line gives it."""
    renamed: dict[str, str] = {}
    name = _rename(CLASSES, name, renamed)
    _notice(renamed)
    return name


def _rename(names: dict[str, str], name: str, renamed: dict[str, str]) -> str:
    if name in names:
        renamed[name] = names[name]
    return names.get(name, name)


_NOTICED: set[str] = set()


def _notice(renamed: dict[str, str]) -> None:
    """Logs one line for what was renamed, the first time."""
    pairs = [f"{old} -> {new}" for old, new in renamed.items() if old not in _NOTICED]
    if pairs:
        _NOTICED.update(renamed)
        log.info("old names are read as today's: %s", ", ".join(pairs))
