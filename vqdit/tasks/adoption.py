"""Properties of the data that a task adopts when a run begins: text units and packing.

The workdir stores the resulting task, so that sampling needs only the workdir.
"""

import dataclasses
from typing import TypeVar

from vqdit.data.sources import Feature
from vqdit.modalities import BPE, Modality, Text
from vqdit.typing import Component

T = TypeVar("T", bound=Component)


def with_adopted(part: T, feature: Feature | None) -> T:
    """Returns a component whose `modality` has the text units and packing of its data column."""
    modality = getattr(part, "modality", None)
    if not isinstance(modality, Text) or feature is None:
        return part
    units = modality.units
    if isinstance(units, BPE) and not units.merges and feature.units:
        units = dataclasses.replace(units, merges=feature.units)
    modality = dataclasses.replace(modality, units=units, packed=feature.packed)
    return dataclasses.replace(part, modality=modality)


def check_text(name: str, modality: Modality, feature: Feature) -> None:
    """Raises ValueError unless the column `name` has the units of the text `modality`."""
    if not isinstance(modality, Text):
        return
    learned = modality.units.learned
    if isinstance(modality.units, BPE) != bool(feature.units):
        data, task = ("units of a BPE", "bytes") if feature.units else ("bytes", "units of a BPE")
        raise ValueError(
            f"{name!r} is stored as {data}, but the task has {task}; give the source and the task "
            "the same units"
        )
    if learned and learned != feature.units:
        raise ValueError(
            f"the BPE of {name!r} in this run has other merges than the BPE of the data, which was "
            "learned from other texts; use the data with which the run began"
        )
