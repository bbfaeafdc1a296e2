"""`vqdit.load`: loads a trained run as a Python object, whose methods take and return arrays."""

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from vqdit.files import local_path, read_json
from vqdit.inference.generator import Generator
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities import Label
from vqdit.precision import in_32_bits
from vqdit.runs import restoring
from vqdit.runs.workdir import DATA, find_run
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Trained
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.targets import CodeTarget, Condition
from vqdit.typing import Named

FEATURES = {"features?": {str: {"names?": [str]}}}
"""The part of a run's record of its data that has class names."""

T = TypeVar("T", CodeTarget, Condition)


@in_32_bits
def load(path: str | Path) -> Tokenizer | Generator:
    """Loads a trained run.

    Args:
        path: a workdir, or the folder of a config with several experiments, whose last run is
            loaded.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint yet.
    """
    folder = local_path(path)
    restored = _with_class_names(restoring.restore(folder), find_run(folder) / DATA)
    return (
        Tokenizer(restored) if isinstance(restored.task, AutoencoderTask) else Generator(restored)
    )


def _with_class_names(restored: restoring.Restored, data: Path) -> restoring.Restored:
    """Returns the run with class names from the data, for labels without names in the config."""
    task = restored.task
    if not isinstance(task, DiffusionTask) or not data.is_file():
        return restored
    features = read_json(data, FEATURES, own=True).get("features", {})

    def named(name: str, part: T) -> T:
        modality, names = part.modality, tuple(features.get(name, {}).get("names", ()))
        if not isinstance(modality, Label) or modality.names or len(names) != modality.classes:
            return part
        return dataclasses.replace(part, modality=dataclasses.replace(modality, names=names))

    conditions = {name: named(name, part) for name, part in task.conditions.items()}
    targets = {
        name: named(name, part) if isinstance(part, CodeTarget) else part
        for name, part in task.targets.items()
    }
    parts = {"conditions": Named(conditions), "targets": Named(targets)}
    return restored._replace(task=dataclasses.replace(task, **parts))


def resolver(siblings: dict[str, Path]) -> Any:
    """Returns a function that loads a trained task by an earlier experiment's name or by path."""

    def resolve(name: str) -> Trained:
        folder = siblings.get(name, None) or local_path(name)
        try:
            restored = restoring.restore(folder)
        except FileNotFoundError as error:
            known = f"; earlier experiments here: {', '.join(siblings)}" if siblings else ""
            raise FileNotFoundError(f"cannot find {name!r}: {error}{known}") from error
        return Trained(restored.task, restored.params, restored.stats)

    return resolve
