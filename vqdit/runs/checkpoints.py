"""Checkpoints: saved asynchronously and atomically, verified, and restored onto any mesh.

Orbax stores a state as a flat map from path ("params/encoder/in/kernel") to array.
`checkpoint_verification` verifies it, and `checkpoint_retention` decides which checkpoints are
kept.
"""

import contextlib
import logging
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax

from vqdit import parallel
from vqdit.runs import file_checksums
from vqdit.runs.array_fingerprints import fingerprints
from vqdit.runs.array_trees import flatten, from_stored, stored
from vqdit.runs.checkpoint_retention import KEEP_ALL, Keep
from vqdit.runs.checkpoint_verification import (
    CorruptCheckpoint,
    verify_data,
    verify_files,
    verify_structure,
)
from vqdit.runs.failed_saves import FailedSave, is_disk_error, short
from vqdit.runs.orbax_paths import check_path, literal

T = TypeVar("T")
WRITERS = ("vqdit", "jax", "flax", "optax", "orbax-checkpoint")
"""Packages whose versions are stored in each checkpoint."""
log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run; each is in a sub-folder of `folder` that is named by its step.

    Args:
        folder: folder of the checkpoints; created when the first checkpoint is saved.
        keep: rules for keeping checkpoints; None opens them only for reading.

    Raises:
        ValueError: Orbax cannot use the path of the folder (see `orbax_paths.check_path`).
    """

    def __init__(self, folder: Path, keep: Keep | None = None) -> None:
        self.folder = folder.absolute()
        check_path(self.folder)
        self._keep = keep
        self._orbax: Any = None
        self._pending: tuple[int, Future[None]] | None = None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        if keep is not None and self.folder.is_dir():
            self._remove_incomplete()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
            return
        # After an error, do not wait for other processes, which may never get here.
        if self._pending is not None and (error := self._pending[1].exception()):
            log.error("checkpoint %d: %s", self._pending[0], short(error))
        self._discard_orbax()

    def steps(self) -> list[int]:
        """Returns the sorted steps of all complete checkpoints.

        Orbax renames a folder to its final name after the checkpoint is complete.
        """
        if not self.folder.is_dir():
            return []
        named = (path for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir())
        return sorted(int(path.name) for path in named)

    def furthest(self) -> int:
        """Returns the largest saved step or 0; counts checkpoints that were moved aside."""
        names = [path.name for path in self.folder.glob("damaged-*")]
        aside = (name.removeprefix("damaged-") for name in names)
        return max([0, *self.steps(), *(int(step) for step in aside if step.isdecimal())])

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint; None if there is none."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Starts saving; returns when the state may be changed or donated.

        Args:
            step: number of finished steps.
            state: the tree of arrays to save.
            metrics: metrics of the validation split at this step, if known.

        Raises:
            FailedSave: the previous checkpoint could not be written; this one was not started.
        """
        self.wait()
        if step in self.steps():
            return
        if metrics is not None and self._keep is not None:
            metrics = self._keep.measured(metrics)
        flat = flatten(state)
        marks = {path: int(mark) for path, mark in fingerprints(flat).items()}
        versions = {name: version(name) for name in WRITERS}
        try:
            pending = self._manager().save_async(
                step,
                flat,
                force=True,
                metrics=None if metrics is None else dict(metrics),
                custom_metadata={"fingerprints": marks, "versions": versions},
            )
        except Exception as error:  # `wait` raises it, as it does later errors
            failed: Future[None] = Future()
            failed.set_exception(error)
            self._pending = step, failed
        else:
            self._pending = step, self._finisher.submit(self._finish, step, pending)

    def _finish(self, step: int, pending: Any) -> None:
        """Waits until a checkpoint is complete, opens it, and writes checksums of its files."""
        pending.result()
        if parallel.process()[0] == 0:
            found = self._manager().metadata(step)
            if set(found.metadata or ()) != set(found.custom_metadata["fingerprints"]):
                raise OSError("the checkpoint was written, but its arrays are missing")
            try:
                file_checksums.write(self.folder / str(step))
            except OSError as error:  # the fingerprints still verify it
                log.error("checkpoint %d has no checksums of its files: %s", step, error)
                file_checksums.remove(self.folder / str(step))

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
            FailedSave: the checkpoint could not be written; its incomplete files are removed.
        """
        if self._pending is None:
            return
        (step, pending), self._pending = self._pending, None
        error = pending.exception()
        if parallel.all_agree(error is None):
            return
        is_of_disk = parallel.all_agree(error is None or is_disk_error(error))
        self._discard_orbax()
        if parallel.process()[0] == 0:
            self._remove_incomplete()
            shutil.rmtree(self.folder / str(step), ignore_errors=True)
        why = short(error) if error else "another process failed"
        message = f"checkpoint {step} could not be written to {self.folder}: {why}"
        raise FailedSave(message, is_of_disk=is_of_disk) from error

    def has_ended(self) -> bool:
        """Returns whether a save has ended in all processes; `wait` then returns immediately."""
        return self._pending is not None and parallel.all_agree(self._pending[1].done())

    def close(self) -> None:
        """Waits for the last save, and closes the checkpoints.

        Raises:
            FailedSave: the checkpoint could not be written.
        """
        self.wait()
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None

    def _discard_orbax(self) -> None:
        """Closes Orbax's checkpointer, which would raise its last error again if it were reused."""
        with contextlib.suppress(Exception):
            if self._orbax is not None:
                self._orbax.close()
        self._orbax = None

    def _remove_incomplete(self) -> None:
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            log.info("removing the incomplete checkpoint %s", leftover.name)
            shutil.rmtree(leftover, ignore_errors=True)

    def restore(
        self,
        abstract: T,
        step: int | None = None,
        *,
        only: Iterable[str] = (),
        strict: bool = False,
        tries: int = 5,
    ) -> T:
        """Loads and verifies a checkpoint.

        Args:
            abstract: structure of the state: leaves with shape, dtype and (optionally) sharding.
            step: the checkpoint to load; None loads the newest undamaged checkpoint and reports
                damaged ones. If the checkpoints are open for writing, damaged ones are also renamed
                to `damaged-STEP`.
            only: names of the state's fields to load; the others remain as in `abstract`.
            strict: True raises an error if the newest checkpoint is damaged.
            tries: number of attempts of a reader to load the newest checkpoint, which a run that is
                still training may replace meanwhile.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointMismatch: leaves differ from `abstract`; the message lists them by path.
            CorruptCheckpoint: the data differ from the saved data.
        """
        if step is not None:
            return self._restore(abstract, step, tuple(only))
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        damaged: dict[int, CorruptCheckpoint] = {}
        for candidate in reversed(steps):
            try:
                state = self._restore(abstract, candidate, tuple(only))
            except CorruptCheckpoint as error:
                if self._keep is None and tries and self.steps() != steps:
                    # The run that is being read has saved a newer checkpoint and removed this one.
                    self._discard_orbax()  # which caches the steps
                    return self.restore(abstract, only=only, strict=strict, tries=tries - 1)
                if strict:
                    raise
                damaged[candidate] = error
                if candidate != steps[0]:  # raises the oldest error
                    log.error("%s", error)
            else:
                if damaged:
                    log.warning("checkpoint %d is used instead", candidate)
                if damaged and self._keep is not None:
                    self._set_aside(list(damaged))
                return state
        raise CorruptCheckpoint(
            self.folder / str(steps[0]),
            f"{damaged[steps[0]].why}; there is no undamaged checkpoint: restore one from a copy, "
            "or start again in another folder",
        )

    def _set_aside(self, steps: list[int]) -> None:
        """Renames damaged checkpoints, so that the run can save these steps again."""
        self.close()  # Orbax caches the steps
        if parallel.process()[0] == 0:
            for step in steps:
                target = self.folder / f"damaged-{step}"
                shutil.rmtree(target, ignore_errors=True)
                (self.folder / str(step)).rename(target)
        parallel.together("checkpoints set aside")

    def _restore(self, abstract: T, step: int, only: tuple[str, ...]) -> T:
        from orbax.checkpoint import v1 as ocp

        folder = self.folder / str(step)
        wanted = flatten(abstract)
        chosen = {path for path in wanted if not only or path.split("/")[0] in only}
        expected = {path: stored(wanted[path]) for path in chosen}
        verify_files(folder)
        try:
            metadata = self._manager().metadata(step)
        except Exception as error:  # Orbax raises errors of many types
            raise CorruptCheckpoint(folder, f"it cannot be read ({short(error)})") from error
        if not metadata.metadata:
            raise CorruptCheckpoint(folder, "it has no arrays")
        verify_structure(folder, metadata.metadata, expected, is_part=bool(only))
        request = {path: expected.get(path, ocp.PLACEHOLDER) for path in metadata.metadata}
        try:
            loaded = self._manager().load(step, request)
        except Exception as error:
            raise CorruptCheckpoint(folder, f"it cannot be read ({short(error)})") from error
        flat = {path: loaded[path] for path in chosen}
        verify_data(folder, flat, (metadata.custom_metadata or {}).get("fingerprints", {}))
        leaves = [
            from_stored(flat[path], leaf) if path in chosen else leaf
            for path, leaf in wanted.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

    def check_files(self, step: int) -> None:
        """Raises CorruptCheckpoint if a file of a checkpoint is missing or damaged."""
        verify_files(self.folder / str(step))

    def _manager(self) -> Any:
        if self._orbax is None:
            from orbax.checkpoint import v1 as ocp

            # Orbax logs each of its steps, and tracebacks of its errors.
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            training: Any = ocp.training
            self._orbax = training.Checkpointer(
                literal(self.folder),
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=(self._keep or KEEP_ALL).policy(),
            )
        return self._orbax


def save_tree(folder: Path, tree: Any) -> None:
    """Saves one tree of arrays into a new folder, and waits until it is on disk."""
    with Checkpoints(folder, KEEP_ALL) as checkpoints:
        checkpoints.save(0, tree)


def load_tree(folder: Path, abstract: T) -> T:
    """Loads a tree that `save_tree` saved."""
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(abstract, 0)
