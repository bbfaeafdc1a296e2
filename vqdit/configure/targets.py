"""The targets and conditions of a generator."""

import keyword
from collections.abc import Sequence
from typing import Any

from vqdit.configure.columns import Documents
from vqdit.configure.parts import Part
from vqdit.modalities import Audio, Image, Label, Text
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, Target
from vqdit.tasks.targets import BaseTarget
from vqdit.typing import Named

GENERATOR = "generator"
"""Name of the experiment of the DiT."""
OVERLAP = 0.05
"""Overlap of neighbouring reveal windows, as a fraction of the sampling steps."""


def targets_of(
    parts: Sequence[Part],
) -> tuple[Named[BaseTarget], Named[Condition]]:
    """Returns the targets and the conditions of the DiT."""
    conditions = {
        part.name: Condition(modality=part.modality)
        for part in parts
        if isinstance(part.modality, Label) and not part.is_wanted
    }
    generated = [part for part in parts if part.name not in conditions]
    steps, windows = 16 if len(generated) == 1 else 32, _windows(generated)
    targets: dict[str, BaseTarget] = {}
    for part in generated:
        several: dict[str, Any] = {"process": Masked(schedule="cosine")}
        if len(generated) > 1:
            several = {
                "process": Masked(weighting="uniform"),
                "reveal": windows[part.name],
                "weight": _weight(part),
            }
        if isinstance(part.column.facts, Documents):
            several = {"process": Masked()}  # this loss is a bound on the likelihood of the text
        several["sampler"] = _sampler(part, steps)
        if part.models:
            targets[part.name] = Target(tokenizer=experiment_name(part.name), **several)
        else:
            targets[part.name] = CodeTarget(modality=part.modality, **several)
    return Named(targets), Named(conditions)


def _sampler(part: Part, steps: int) -> Unmasking:
    if isinstance(part.column.facts, Documents):
        return Unmasking(steps=max(16, part.tokens // 2), order="random")
    if isinstance(part.modality, Image):
        return Unmasking(steps=steps, noise=4.5)
    if isinstance(part.modality, Audio):
        return Unmasking(steps=steps, temperature=0.6, noise=1.0)
    if isinstance(part.modality, Text):
        return Unmasking(steps=steps, temperature=0.5, noise=0.5)
    return Unmasking(steps=steps)


def _weight(part: Part) -> float:
    """Returns the weight of a part's loss, which is larger for parts with few tokens."""
    if not part.is_wanted:
        return 0.1
    return 3.0 if isinstance(part.modality, Label) else 2.0 if not part.models else 1.0


def _windows(parts: Sequence[Part]) -> dict[str, tuple[float, float]]:
    """Returns the part of sampling, (begin, end) in [0, 1], in which each column is generated.

    Labels come first, then the other columns, those with few tokens earlier.
    """
    labels = [part.name for part in parts if isinstance(part.modality, Label)]
    others = [part for part in parts if part.name not in labels]
    others.sort(key=lambda part: (bool(part.models), part.tokens))
    windows = {name: (0.0, 0.05 if others else 1.0) for name in labels}
    begin = 0.05 * bool(labels)
    share = (1.0 - begin) / max(1, len(others))
    for number, part in enumerate(others):
        start = begin + number * share
        windows[part.name] = (
            round(max(begin, start - OVERLAP), 2),
            round(min(1.0, start + share + OVERLAP), 2),
        )
    return windows


def experiment_name(column: str) -> str:
    """Returns the name of a column's tokenizer, which is also a variable in the config."""
    name = column.lower()
    return f"{name}_tokenizer" if name == GENERATOR or keyword.iskeyword(name) else name


def constant_name(column: str) -> str:
    """Returns the name of the variable that holds a column's modality in the config."""
    name = column.upper()
    return f"{name}_COLUMN" if name in ("SOURCE", "CLASSES") else name
