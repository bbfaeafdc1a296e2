"""Writes a config as a Python file."""

from collections.abc import Sequence

from vqdit.configure.deciding import Configured
from vqdit.configure.parts import Part
from vqdit.configure.source_code import WIDTH
from vqdit.configure.source_code import Source as Code
from vqdit.configure.targets import constant_name
from vqdit.data import ImageFolder, Table
from vqdit.modalities import Label, Modality


def write(configured: Configured, doc: str) -> str:
    """Returns the source of a config file.

    Args:
        configured: the experiments.
        doc: docstring of the config, about the data and the time.
    """
    code = Code()
    planned, body = configured.planned, ""
    is_table = isinstance(planned.source, Table)
    if not is_table:
        body += _assign_source(configured, code)
    for names, name in _classes(planned.parts).items():
        body += code.assignment(name, names)
        code.name(names, name)
    for modality, name in _modalities(planned.parts).items():
        parts = [part for part in planned.parts if part.modality == modality]
        why = dict(parts[0].comments)["modality"]
        if len(parts) > 1:
            why = f"{', '.join(part.name for part in parts)}. {why}"
        body += code.assignment(name, modality, {"": why})
        code.name(modality, name)
    if is_table:
        body += _assign_source(configured, code)
    body += "\n\ndef config() -> dict[str, Experiment]:\n"
    body += '    """Return the experiments, in the order of training."""\n'
    for name, sized in configured.sized.items():
        comments = {path: text for path, text in sized.comments.items() if path != "modality"}
        body += code.assignment(name, sized.experiment, comments, 1)
    items = [f'"{name}": {name}' for name in configured.sized]
    line = f"    return {{{', '.join(items)}}}"
    if len(line) > WIDTH:
        line = "\n".join(["    return {", *(f"        {item}," for item in items), "    }"])
    body += f"{line}\n"
    return f'"""{doc}"""\n\n{code.imports()}\n{body}'


def _classes(parts: Sequence[Part]) -> dict[tuple[str, ...], str]:
    """Returns the variables of the config that hold the class names of labels."""
    found: dict[tuple[str, ...], str] = {}
    for part in parts:
        if isinstance(part.modality, Label) and part.modality.names not in found:
            name = f"{constant_name(part.name)}_CLASSES" if found else "CLASSES"
            found[part.modality.names] = name
    return found


def _modalities(parts: Sequence[Part]) -> dict[Modality, str]:
    """Returns the variables of the config that hold modalities; columns may share one."""
    columns: dict[Modality, list[str]] = {}
    for part in parts:
        columns.setdefault(part.modality, []).append(constant_name(part.name))
    return {modality: "_AND_".join(names[:2]) for modality, names in columns.items()}


def _assign_source(configured: Configured, code: Code) -> str:
    text = code.assignment("SOURCE", configured.planned.source, _source_comments(configured))
    code.name(configured.planned.source, "SOURCE")
    return text


def _source_comments(configured: Configured) -> dict[str, str]:
    source = configured.planned.source
    if isinstance(source, ImageFolder) and source.on_error == "skip":
        return {"on_error": "Pictures that cannot be decoded are left out."}
    return {}
