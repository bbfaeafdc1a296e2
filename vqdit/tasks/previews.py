"""Previews in training: draws a picture of a few samples, with one class per column."""

from pathlib import Path

import numpy as np

from vqdit.modalities.drawing import overview, save_png, tile
from vqdit.ragged import cut
from vqdit.tasks import lengths
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.guidance_scales import guidance_branches
from vqdit.tasks.request import Request, make_request
from vqdit.typing import Named

ROWS = 8


def preview_request(task: GenerationTask, index: np.ndarray) -> Request:
    """Returns a request for all targets; each row of samples has the classes in order."""
    columns = np.arange(preview_columns(task), dtype=np.int32)
    labels = {n: columns % c.classes for n, c in task.conditions.items() if c.classes}
    branches = guidance_branches(task, (), None)
    return make_request(task, index, labels, list(task.targets), branches)


def draw_preview(task: GenerationTask, preview: Named[np.ndarray], path: Path) -> Path:
    """Draws stored samples into a PNG file, `path` with a suffix; returns the file."""
    file, preview = path.with_suffix(".png"), cut_to_length(task, preview)
    columns = preview_columns(task)
    drawn = {name: task.modality(name).draw(stored) for name, stored in preview.items()}
    if len(drawn) == 1:
        (only,) = drawn.values()
        save_png(file, tile(only, columns))
    else:
        save_png(file, overview(drawn, columns))
    return file


def cut_to_length(task: GenerationTask, padded: Named[np.ndarray]) -> Named[np.ndarray]:
    """Returns stored examples; modalities of variable length become ragged columns without padding.

    Args:
        task: the task of the model.
        padded: stored examples by name, and numbers of tokens by `lengths.of` of the name.
    """
    each = {lengths.of(name): name for name in task.variable}
    found = {name: values for name, values in padded.items() if name not in each}
    for length, name in each.items():
        per_token = task.space(name).positions_per_token
        counts = np.maximum(np.asarray(padded[length]), 0) * per_token
        found[name] = cut(found[name], counts)
    return Named(found)


def preview_columns(task: GenerationTask) -> int:
    """Returns the number of samples in a row: one per class, but at most ten."""
    classes = [c.classes for c in task.conditions.values() if c.classes]
    return min(classes[0], 10) if classes else ROWS
