"""Old names of modules, classes and fields, so that old workdirs, configs and commands work.

Names may change between releases, but workdirs and config files remain. So old names are replaced
by current names wherever names are read: in the JSON of a workdir (`update_json`), in the source of
a config file (`update_source`) and in command-line options (`OptionNames`). The log lists the
replaced names once.
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
"""Current modules of components, by old module."""

CLASSES = {"Deadlines": "Timeouts", "Symbols": "CodeTarget"}
"""Current names of component classes, by old name."""

_JOINT = {
    "clamp": "p_known",
    "drop": "p_dropped",
    "partial": "max_known_time",
    "single": "p_one_known",
}
FIELDS = {
    "Experiment": {"deadlines": "timeouts"},
    "Shifted": {"law": "distribution"},
    **dict.fromkeys(("Conditional", "Independent", "Shared", "Unbalanced"), _JOINT),
}
"""Current names of fields, by current name of the class and old name of the field."""

REMOVED_FIELDS = {"CodeTarget": {"tokenizer": "", "inpaint": 0.0, "posterior": "mean"}}
"""Removed fields of classes, and the value with which a field in a file may be dropped."""


def update_json(value: Any) -> Any:
    """Replaces old names in the JSON of components."""
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
    if not colon:  # a `Named` has keys chosen by the user
        return {field: _updated(item, renamed) for field, item in value.items()}
    module, name = MODULES.get(module, module), _rename(CLASSES, name, renamed)
    names = FIELDS.get(name, {})
    fields = {
        _rename(names, field, renamed): _updated(item, renamed) for field, item in value.items()
    }
    removed = REMOVED_FIELDS.get(name, {})
    kept = {field: item for field, item in fields.items() if not _is_dropped(removed, field, item)}
    return {**kept, "type": f"{module}:{name}"}


def update_source(source: str, filename: str) -> ast.Module:
    """Returns the syntax tree of a config file, in which current names replace old ones.

    Args:
        source: text of the file.
        filename: path of the file, for error messages.

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
        self._classes: dict[str, str] = dict(CLASSES)  # current names by names in the file
        self._modules = ("vqdit.",)  # prefixes of attributes of vqdit's modules

    def visit_Import(self, node: ast.Import) -> ast.AST:
        for alias in node.names:
            alias.name = _rename(MODULES, alias.name, self.renamed)
            if alias.asname and alias.name.startswith("vqdit."):
                self._modules += (f"{alias.asname}.",)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if (node.module or "").split(".")[0] == "vqdit":
            node.module = _rename(MODULES, str(node.module), self.renamed)
            for alias in node.names:
                alias.asname = alias.asname or alias.name
                alias.name = _rename(CLASSES, alias.name, self.renamed)
                self._classes[alias.asname] = alias.name
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        dotted = ast.unparse(node)
        if dotted in MODULES:
            return ast.parse(_rename(MODULES, dotted, self.renamed), mode="eval").body
        self.generic_visit(node)
        if dotted.startswith(self._modules):
            node.attr = _rename(CLASSES, node.attr, self.renamed)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        name = self._classes.get(name, name)
        fields, removed = FIELDS.get(name, {}), REMOVED_FIELDS.get(name, {})
        node.keywords = [
            keyword
            for keyword in node.keywords
            if not _is_dropped(removed, keyword.arg or "", getattr(keyword.value, "value", None))
        ]
        for keyword in node.keywords:
            if keyword.arg:
                keyword.arg = _rename(fields, keyword.arg, self.renamed)
        return node


class OptionNames:
    """Replaces old names in the options of a command, and logs one line with all of them."""

    def __init__(self) -> None:
        self._renamed: dict[str, str] = {}

    def update_field(self, cls: type, field: str) -> str:
        return _rename(FIELDS.get(cls.__name__, {}), field, self._renamed)

    def update_class(self, name: str) -> str:
        return _rename(CLASSES, name, self._renamed)

    def notice(self) -> None:
        _notice(self._renamed)


def _is_dropped(removed: dict[str, Any], field: str, value: Any) -> bool:
    return field in removed and value == removed[field]


def _rename(names: dict[str, str], name: str, renamed: dict[str, str]) -> str:
    if name in names:
        renamed[name] = names[name]
    return names.get(name, name)


_NOTICED: set[str] = set()


def _notice(renamed: dict[str, str]) -> None:
    """Logs one line with names that are replaced for the first time."""
    pairs = [f"{old} -> {new}" for old, new in renamed.items() if old not in _NOTICED]
    if pairs:
        _NOTICED.update(renamed)
        log.info("old names are replaced by current ones: %s", ", ".join(pairs))
