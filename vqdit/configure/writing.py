"""A config as a Python file: the experiments that train on data as they were found."""

from vqdit.configure.deciding import Configured
from vqdit.configure.source_code import Source as Code
from vqdit.configure.targets import experiment_name
from vqdit.data import ImageFolder, Table
from vqdit.modalities import Label


def write(configured: Configured, doc: str) -> str:
    """Returns the source of a config file.

    Args:
        configured: the experiments.
        doc: what the docstring says of the data and of the time.
    """
    code = Code()
    body, names = "", {}
    for part in configured.planned.parts:
        if isinstance(part.modality, Label) and part.modality.names:
            name = "CLASSES" if "CLASSES" not in names.values() else f"{part.name.upper()}_CLASSES"
            names[part.modality.names] = name
    is_table = isinstance(configured.planned.source, Table)
    if not is_table:
        body += _assign_source(configured, code)
    for value, name in names.items():
        body += code.assignment(name, value)
        code.name(value, name)
    for part in configured.planned.parts:
        comments = {"": dict(part.comments)["modality"]}
        body += code.assignment(_constant(part.name), part.modality, comments)
        code.name(part.modality, _constant(part.name))
    if is_table:
        body += _assign_source(configured, code)
    body += "\n\ndef config() -> dict[str, Experiment]:\n"
    body += '    """Return the experiments, in the order of training."""\n'
    for name, sized in configured.sized.items():
        comments = {path: text for path, text in sized.comments.items() if path != "modality"}
        body += code.assignment(name, sized.experiment, comments, 1)
    items = ", ".join(f'"{name}": {name}' for name in configured.sized)
    body += f"    return {{{items}}}\n"
    return f'"""{doc}"""\n\n{code.imports()}\n{body}'


def _assign_source(configured: Configured, code: Code) -> str:
    text = code.assignment("SOURCE", configured.planned.source, _source_comments(configured))
    code.name(configured.planned.source, "SOURCE")
    return text


def _source_comments(configured: Configured) -> dict[str, str]:
    source = configured.planned.source
    if isinstance(source, ImageFolder) and source.on_error == "skip":
        return {"on_error": "Pictures that cannot be decoded are left out."}
    return {}


def _constant(column: str) -> str:
    return experiment_name(column).upper()
