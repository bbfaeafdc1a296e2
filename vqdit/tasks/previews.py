"""Previews of training: a few samples, in rows by class, and the picture of them."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vqdit.modalities.drawing import overview, save_png, tile
from vqdit.samplers import Branch
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.request import Request
from vqdit.typing import Array, Int, Named

ROWS = 8


def preview_request(task: GenerationTask, index: Int[Array, " b"]) -> Request:
    """Returns a request for everything; the samples of these numbers take the classes in turn."""
    given = {name: task.blank_given(name, len(index)) for name in task.targets}
    for name, condition in task.conditions.items():
        given[name] = (
            index % preview_columns(task) % condition.classes
            if condition.classes
            else task.blank_given(name, len(index))
        )
    none = Named({name: jnp.asarray(False) for name in task.targets})
    every = Named({name: jnp.asarray(True) for name in task.targets})
    branches = ()
    if task.guidance != 1.0 and task.conditions:
        hidden = Named({name: jnp.asarray(True) for name in task.conditions})
        scale = Named({name: jnp.float32(task.guidance) for name in task.targets})
        branches = (Branch(hidden, scale),)
    return Request(Named(given), none, every, branches)


def draw_preview(task: GenerationTask, preview: Named[np.ndarray], path: Path) -> Path:
    """Writes the picture of stored samples; `path` has no ending. Returns the file."""
    file = path.with_suffix(".png")
    columns = preview_columns(task)
    drawn = {name: task.modality(name).draw(stored) for name, stored in preview.items()}
    if len(drawn) == 1:
        (only,) = drawn.values()
        save_png(file, tile(only, columns))
    else:
        save_png(file, overview(drawn, columns))
    return file


def preview_columns(task: GenerationTask) -> int:
    """Returns how many samples are in a row: one of each class, at most ten."""
    classes = [c.classes for c in task.conditions.values() if c.classes]
    return min(classes[0], 10) if classes else ROWS
