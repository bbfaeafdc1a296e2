"""The frozen arrays of a run: what its task uses but does not train, such as a tokenizer.

They are copied into the workdir when the run starts and are read from there afterwards. So a
resumed run uses exactly the tokenizer that it started with, and sampling needs the workdir alone.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from vqdit import parallel
from vqdit.data import Batch
from vqdit.runs.checkpoints import load_tree, save_tree
from vqdit.runs.workdir import CONFIG, FROZEN, read_component, write_component
from vqdit.tasks.base import Frozen, Resolve, Task


def load_frozen(
    folder: Path, task: Task, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
) -> tuple[Task, Frozen]:
    """Returns the task with its references resolved, and its frozen arrays.

    Args:
        folder: the workdir; a new run's arrays are copied into it.
        task: the task of the experiment.
        resolve: finds the experiments that the task refers to.
        batches: returns one pass over the training split, for statistics of latents.

    Raises:
        ValueError: the run has started before, but its frozen arrays are missing.
    """
    if (folder / FROZEN / "task.json").is_file():
        return read_frozen(folder)
    if (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder / FROZEN} is missing: it held the arrays that the run started with, and the "
            "run cannot continue with others; put it back, or use another --workdir"
        )
    resolved, frozen = task.load(resolve, batches)
    write_frozen(folder, resolved, frozen)
    return resolved, frozen


def write_frozen(folder: Path, task: Task, frozen: Frozen) -> None:
    """Copies a task and its frozen arrays into a workdir."""
    kept = folder / FROZEN
    if kept.is_dir():
        shutil.rmtree(kept)  # left by a start that was killed
    if jax.tree.leaves(frozen):
        save_tree(kept / "arrays", parallel.host(frozen))  # every process holds all of them
    kept.mkdir(exist_ok=True)
    write_component(kept / "task.json", task)


def read_frozen(folder: Path) -> tuple[Task, Frozen]:
    """Returns the task and the frozen arrays that `write_frozen` wrote.

    Raises:
        FileNotFoundError: the folder has none.
    """
    kept = folder / FROZEN
    if not (kept / "task.json").is_file():
        raise FileNotFoundError(
            f"{kept} is missing: it holds the arrays that the run in {folder} uses but does not "
            "train; put it back, or train again in another --workdir"
        )
    task = read_component(kept / "task.json", Task)
    abstract = jax.eval_shape(task.frozen_like)
    frozen = load_tree(kept / "arrays", abstract) if jax.tree.leaves(abstract) else abstract
    return task, frozen
