"""The frozen arrays of a run, which its task uses but does not train, such as a tokenizer.

They are copied into the workdir when the run starts, and are read from there afterwards. So a
resumed run uses exactly the tokenizer with which it started, and sampling needs only the workdir.
"""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jax

from vqdit import parallel
from vqdit.data import Batch
from vqdit.runs import file_checksums
from vqdit.runs.checkpoints import load_tree, save_tree
from vqdit.runs.component_files import arrays_of, read_component, write_component
from vqdit.runs.workdir import CONFIG, FROZEN
from vqdit.tasks.base import Frozen, Resolve, Task


def load_frozen(
    folder: Path, task: Task, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
) -> tuple[Task, Frozen]:
    """Returns the task with its references resolved, and its frozen arrays.

    Args:
        folder: the workdir; the arrays of a new run are copied into it.
        task: the task of the experiment.
        resolve: returns the experiments to which the task refers.
        batches: starts one pass over the training split, to measure statistics of latents.

    Raises:
        ValueError: the run is resumed, but its frozen arrays are missing.
    """
    if (folder / FROZEN / "task.json").is_file():
        return read_frozen(folder)
    if (folder / CONFIG).is_file():
        raise ValueError(
            f"{folder / FROZEN} is missing: it had the arrays with which the run started, and the "
            "run cannot continue with other arrays; put it back, or use another --workdir"
        )
    resolved, frozen = task.load(resolve, batches)
    write_frozen(folder, resolved, frozen)
    return resolved, frozen


def write_frozen(folder: Path, task: Task, frozen: Frozen) -> None:
    """Copies a task and its frozen arrays into a workdir."""
    kept = folder / FROZEN
    if parallel.process()[0] == 0 and kept.is_dir():
        shutil.rmtree(kept)  # from a start that was killed
    parallel.together("frozen arrays")  # no process may see what another one already writes
    arrays = kept / "arrays"
    if jax.tree.leaves(frozen):
        save_tree(arrays, parallel.host(frozen))  # every process has all of them
    kept.mkdir(exist_ok=True)
    if parallel.process()[0] == 0:
        write_component(kept / "task.json", task, _seal(arrays))


def read_frozen(folder: Path) -> tuple[Task, Frozen]:
    """Reads the task and the frozen arrays that `write_frozen` wrote.

    Raises:
        FileNotFoundError: the folder has no frozen arrays.
        ValueError: the arrays do not belong to the task.
    """
    kept = folder / FROZEN
    if not (kept / "task.json").is_file():
        raise FileNotFoundError(
            f"{kept} is missing: it had the arrays that the run in {folder} uses but does not "
            "train; put it back, or train again in another --workdir"
        )
    task = read_component(kept / "task.json", Task)
    try:
        abstract = jax.eval_shape(task.frozen_like)
    except ValueError as error:
        raise ValueError(
            f"{kept / 'task.json'} is damaged: {error}; restore all of {kept} from a copy"
        ) from error
    if not jax.tree.leaves(abstract):
        return task, abstract
    arrays = kept / "arrays"
    frozen = load_tree(arrays, abstract)
    if arrays_of(kept / "task.json") not in (None, _seal(arrays)):
        raise ValueError(
            f"the arrays in {arrays} do not belong to {kept / 'task.json'}; restore all of {kept} "
            "from a copy"
        )
    return task, frozen


def _seal(arrays: Path) -> str | None:
    """Returns the checksum of a tree that `save_tree` saved; None if it has no checksums."""
    saved = arrays / "0"
    return file_checksums.seal(saved) if file_checksums.exists(saved) else None
