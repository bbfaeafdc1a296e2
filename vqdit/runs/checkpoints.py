"""Checkpoints: asynchronous, atomic, verified, restored onto any arrangement of devices.

A state is stored as a flat map from path ("params/encoder/in/kernel") to array, by Orbax. Orbax
casts dtypes in silence and does not notice corrupted array data. So every file has a checksum and
the paths, shapes and dtypes are compared before loading; and every leaf has an integer fingerprint,
computed on the device it lay on when it was saved, that is verified on those it is loaded to.
"""

import contextlib
import errno
import logging
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import jax

from vqdit.runs import file_checksums
from vqdit import parallel
from vqdit.runs.array_fingerprints import differences, fingerprints, flatten, stored, typed
from vqdit.typing import Component

T = TypeVar("T")
MARK = "_CHECKPOINT_METADATA"
"""The file that Orbax writes last."""
WRITERS = ("vqdit", "jax", "flax", "optax", "orbax-checkpoint")
"""Packages whose versions a checkpoint names."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE)
"""What the system says of disks that are full, read-only, broken or gone."""
log = logging.getLogger(__name__)


class CheckpointMismatch(ValueError):
    """A checkpoint does not have the leaves that the experiment needs."""


class CorruptCheckpoint(OSError):
    """A checkpoint's data are not those that were saved."""


class FailedSave(OSError):
    """A checkpoint could not be written. Those before it are as they were.

    Attributes:
        is_of_disk: whether what failed is the disk of one of the processes, and nothing else.
    """

    def __init__(self, message: str, *, is_of_disk: bool) -> None:
        super().__init__(message)
        self.is_of_disk = is_of_disk


class Keep(Component):
    """Which checkpoints stay; one that any of these rules wants does.

    Attributes:
        last: so many of the newest.
        every: those whose step is a multiple of it; 0: none.
        best: the one with the highest value of this metric of the validation split, such as
            "psnr"; "-loss" is the one with the lowest; "": none.
    """

    last: int = 3
    every: int = 0
    best: str = ""

    def __post_init__(self) -> None:
        if self.last < 1 or self.every < 0:
            raise ValueError(
                f"Keep needs last >= 1 and every >= 0, got last={self.last} every={self.every}"
            )

    @property
    def _metric(self) -> str:
        return self.best.removeprefix("-")

    def knows_best(self, metrics: Mapping[str, float]) -> bool:
        """Returns whether these metrics have what tells the best one."""
        return not self.best or self._metric in metrics

    def policy(self) -> Any:
        """Returns the policy for Orbax."""
        from orbax.checkpoint import v1 as ocp

        policies: Any = ocp.training.preservation_policies
        rules = [policies.LatestN(self.last)]
        if self.every:
            rules.append(policies.EveryNSteps(self.every))
        if self.best:
            name, sign = self._metric, -1.0 if self.best.startswith("-") else 1.0
            rules.append(
                policies.BestN(
                    get_metric_fn=lambda metrics: sign * metrics[name],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        return policies.AnyPreservationPolicy(rules)


KEEP_ALL = Keep(last=10**9)


class Checkpoints:
    """The checkpoints of one run, in `folder`, named by their step.

    Args:
        folder: where they are; made when the first one is saved.
        keep: which of them stay; None only reads.
    """

    def __init__(self, folder: Path, keep: Keep | None = None) -> None:
        self.folder = folder.absolute()
        self._keep = keep
        self._orbax: Any = None
        self._pending: tuple[int, Future[None]] | None = None
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        if keep is not None and self.folder.is_dir():
            self._clean()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # alone: other processes may not come here
            if self._pending is not None and (error := self._pending[1].exception()):
                log.error("checkpoint %d: %s", self._pending[0], _short(error))
            self._let_go()

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, in order; Orbax names only complete ones so."""
        if not self.folder.is_dir():
            return []
        named = (path for path in self.folder.iterdir() if path.name.isdigit() and path.is_dir())
        return sorted(int(path.name) for path in named)

    def latest(self) -> int | None:
        """Returns the step of the newest checkpoint."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Starts saving; returns once the state may change or be donated.

        Args:
            step: of the state.
            state: what is saved.
            metrics: of the validation split at this step, if they are known.

        Raises:
            FailedSave: the one before this could not be written; this one has not begun.
        """
        self.wait()
        if step in self.steps():
            return
        if metrics is not None and self._keep is not None and not self._keep.knows_best(metrics):
            known = ", ".join(metrics)
            log.error("no metric is called %r, so none is best; known: %s", self._keep.best, known)
            metrics = None
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
        except Exception as error:  # `wait` tells of it, as of what fails later
            failed: Future[None] = Future()
            failed.set_exception(error)
            self._pending = step, failed
        else:
            self._pending = step, self._finisher.submit(self._finish, step, pending)

    def _finish(self, step: int, pending: Any) -> None:
        """Waits until a checkpoint is complete, and writes down what its files are."""
        pending.result()
        if parallel.process()[0] == 0:
            try:
                file_checksums.write(self.folder / str(step))
            except OSError as error:  # its fingerprints still verify it
                log.error("checkpoint %d has no checksums of its files: %s", step, error)
                file_checksums.remove(self.folder / str(step))

    def wait(self) -> None:
        """Returns when the last save is on disk.

        Raises:
            FailedSave: it could not be written; what there is of it has been removed.
        """
        if self._pending is None:
            return
        (step, pending), self._pending = self._pending, None
        error = pending.exception()
        if parallel.all_agree(error is None):
            return
        is_of_disk = parallel.all_agree(error is None or _is_of_disk(error))
        self._drop(step)
        why = _short(error) if error else "another process failed"
        message = f"checkpoint {step} could not be written to {self.folder}: {why}"
        raise FailedSave(message, is_of_disk=is_of_disk) from error

    def has_ended(self) -> bool:
        """Returns whether a save is over in all processes, and `wait` has yet to tell how."""
        return self._pending is not None and parallel.all_agree(self._pending[1].done())

    def _drop(self, step: int) -> None:
        """Removes what there is of a save that failed, and with it what Orbax knows of it."""
        self._let_go()
        if parallel.process()[0] == 0:
            self._clean()
            shutil.rmtree(self.folder / str(step), ignore_errors=True)

    def _let_go(self) -> None:
        """Forgets Orbax's part, which raises again what it raised before."""
        with contextlib.suppress(Exception):
            if self._orbax is not None:
                self._orbax.close()
        self._orbax = None

    def _clean(self) -> None:
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            log.info("removing %s, of a save that did not end", leftover.name)
            shutil.rmtree(leftover, ignore_errors=True)

    def close(self) -> None:
        """Finishes the last save."""
        self.wait()
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None

    def restore(
        self,
        abstract: T,
        step: int | None = None,
        *,
        only: Iterable[str] = (),
        strict: bool = False,
    ) -> T:
        """Loads and verifies a checkpoint.

        Args:
            abstract: the state's structure: leaves with shape, dtype and (optionally) sharding.
            step: which one; None takes the newest good one and reports those that are not. A run
                that writes checkpoints sets them aside, as `damaged-STEP`.
            only: names of the fields of the state to load; the others stay as in `abstract`.
            strict: take the newest one or none.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointMismatch: leaves differ from `abstract`, listed by path.
            CorruptCheckpoint: the data are not those saved.
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
                if strict:
                    raise
                log.error("%s", error)
                damaged[candidate] = error
            else:
                if damaged:
                    log.warning("checkpoint %d is used instead", candidate)
                if self._keep is not None:
                    self._set_aside(list(damaged))
                return state
        raise CorruptCheckpoint(
            f"{damaged[steps[0]]}; none is left: put back copies, or begin in another folder"
        )

    def _set_aside(self, steps: list[int]) -> None:
        """Renames damaged checkpoints, so that the run can save these steps again."""
        if not steps:
            return
        self.close()  # Orbax remembers which steps there are
        if parallel.process()[0] == 0:
            for step in steps:
                target = self.folder / f"damaged-{step}"
                shutil.rmtree(target, ignore_errors=True)
                (self.folder / str(step)).rename(target)
        parallel.together("checkpoints set aside")

    def _restore(self, abstract: T, step: int, only: tuple[str, ...]) -> T:
        from orbax.checkpoint import v1 as ocp

        wanted = flatten(abstract)
        chosen = {path for path in wanted if not only or path.split("/")[0] in only}
        self.check_files(step)
        try:
            metadata = self._manager().metadata(step)
        except Exception as error:  # Orbax wraps every failure in one of many types
            raise self._corrupt(step, f"it cannot be read ({_short(error)})") from error
        expected = {path: stored(wanted[path]) for path in chosen}
        if lines := differences(metadata.metadata, expected, is_part=bool(only)):
            more = f"\n  and {len(lines) - 20} more" if len(lines) > 20 else ""
            shown = "\n  ".join(lines[:20]) + more
            raise CheckpointMismatch(f"checkpoint {step} does not fit the experiment:\n  {shown}")
        request = {
            path: expected[path] if path in chosen else ocp.PLACEHOLDER
            for path in metadata.metadata
        }
        try:
            flat = self._manager().load(step, request)
        except Exception as error:
            raise self._corrupt(step, f"it cannot be read ({_short(error)})") from error
        flat = {path: flat[path] for path in chosen}
        marks = (metadata.custom_metadata or {}).get("fingerprints", {})
        for path, mark in fingerprints(flat).items():
            if int(mark) != marks.get(path):
                raise self._corrupt(step, f"the data of {path} are not those saved")
        leaves = [
            typed(flat[path], leaf) if path in chosen else leaf for path, leaf in wanted.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

    def check_files(self, step: int) -> None:
        """Raises CorruptCheckpoint if a file is not as it was written; one process reads them."""
        folder, lines = self.folder / str(step), []
        if not (folder / MARK).is_file():
            lines = [f"{MARK} is missing"]
        elif parallel.process()[0] == 0 and file_checksums.exists(folder):
            lines = file_checksums.faults(folder)
        if not parallel.all_agree(not lines):
            more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
            raise self._corrupt(step, (lines or ["another process found it damaged"])[0] + more)

    def _corrupt(self, step: int, why: str) -> CorruptCheckpoint:
        return CorruptCheckpoint(f"checkpoint {step} in {self.folder} is damaged: {why}")

    def _manager(self) -> Any:
        if self._orbax is None:
            from orbax.checkpoint import v1 as ocp

            # Orbax logs every step it takes, and tracebacks of what it raises.
            logging.getLogger("absl").setLevel(logging.CRITICAL)
            training: Any = ocp.training
            self._orbax = training.Checkpointer(
                self.folder,
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=(self._keep or KEEP_ALL).policy(),
            )
        return self._orbax


def save_tree(folder: Path, tree: Any) -> None:
    """Saves one pytree into a new folder, at once."""
    with Checkpoints(folder, KEEP_ALL) as checkpoints:
        checkpoints.save(0, tree)


def load_tree(folder: Path, abstract: T) -> T:
    """Loads what `save_tree` saved."""
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(abstract, 0)


def _is_of_disk(error: BaseException | None) -> bool:
    """Returns whether the system says that a disk is full, read-only or broken."""
    while error is not None:
        said = re.search(r"os_error_code='(\d+)'", str(error))  # as tensorstore tells it
        number = int(said[1]) if said else getattr(error, "errno", None)
        if number in DISK:
            return True
        error = error.__cause__ or error.__context__
    return False


def _short(error: BaseException) -> str:
    """The beginning and the end of a message: Orbax's list every leaf, and name long paths."""
    first = (str(error).strip().splitlines() or [""])[0]
    if len(first) > 200:
        first = f"{first[:100]} ... {first[-100:]}"
    return f"{type(error).__name__}: {first}"
