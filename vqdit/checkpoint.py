"""Checkpoints: asynchronous, atomic, verified, restored onto any arrangement of devices.

A state is stored as a flat map from path ("params/encoder/in/kernel") to array, by Orbax. Orbax
casts dtypes in silence and does not notice corrupted array data, so the paths, shapes and dtypes
are compared before loading, and every leaf has an integer fingerprint that is verified after it.
"""

import hashlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from vqdit.sharding import one_device
from vqdit.typing import Array, UInt32

T = TypeVar("T")
KEEP_ALL = 10**9
log = logging.getLogger(__name__)


class CheckpointMismatch(ValueError):
    """A checkpoint does not have the leaves that the experiment needs."""


class CorruptCheckpoint(OSError):
    """A checkpoint's data are not those that were saved."""


class Checkpoints:
    """The checkpoints of one run, in `folder`, named by their step.

    Args:
        folder: where they are; made when the first one is saved.
        keep: how many of the latest stay; None only reads.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        self.folder = folder.absolute()
        self._keep = keep
        self._orbax: Any = None
        self._pending: Any = None
        if keep is not None and self.folder.is_dir():
            for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
                log.info("removing %s, left by a save that was killed", leftover.name)
                shutil.rmtree(leftover, ignore_errors=True)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in order."""
        if not self.folder.is_dir():
            return []
        named = (path for path in self.folder.iterdir() if path.name.isdigit())
        return sorted(int(path.name) for path in named if (path / "_CHECKPOINT_METADATA").is_file())

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any) -> None:
        """Starts saving; returns once the state may change or be donated."""
        self.wait()
        if step in self.steps():
            return
        flat = flatten(state)
        marks = {path: int(mark) for path, mark in _fingerprints(flat).items()}
        self._pending = self._manager().save_async(
            step, flat, force=True, custom_metadata={"fingerprints": marks}
        )

    def wait(self) -> None:
        """Returns when the last save is on disk; raises what it raised."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    def close(self) -> None:
        """Finishes the last save."""
        self.wait()
        if self._orbax is not None:
            self._orbax.close()
            self._orbax = None

    def restore(self, abstract: T, step: int | None = None, *, only: Iterable[str] = ()) -> T:
        """Loads and verifies a checkpoint.

        Args:
            abstract: the state's structure: leaves with shape, dtype and (optionally) sharding.
            step: which one; None takes the newest good one and reports those that are not.
            only: names of the fields of the state to load; the others stay as in `abstract`.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CheckpointMismatch: leaves differ from `abstract`, listed by path.
            CorruptCheckpoint: the data are not those saved.
        """
        steps = self.steps() if step is None else [step]
        if not steps:
            raise FileNotFoundError(f"no checkpoint in {self.folder}")
        for number, candidate in enumerate(reversed(steps)):
            try:
                return self._restore(abstract, candidate, tuple(only))
            except CorruptCheckpoint as error:
                if number == len(steps) - 1:
                    raise
                log.error("%s; trying the one before", error)
        raise CorruptCheckpoint(f"no good checkpoint in {self.folder}")

    def _restore(self, abstract: T, step: int, only: tuple[str, ...]) -> T:
        from orbax.checkpoint import v1 as ocp

        wanted = flatten(abstract)
        chosen = {path for path in wanted if not only or path.split("/")[0] in only}
        try:
            metadata = self._manager().metadata(step)
        except Exception as error:  # Orbax wraps every failure in one of many types
            raise CorruptCheckpoint(
                f"checkpoint {step} in {self.folder} cannot be read ({_short(error)})"
            ) from error
        _compare(metadata.metadata, {path: wanted[path] for path in chosen}, step, bool(only))
        request = {
            path: _stored(wanted[path]) if path in chosen else ocp.PLACEHOLDER
            for path in metadata.metadata
        }
        try:
            flat = self._manager().load(step, request)
        except Exception as error:
            raise CorruptCheckpoint(
                f"checkpoint {step} in {self.folder} cannot be read ({_short(error)})"
            ) from error
        flat = {path: flat[path] for path in chosen}
        marks = (metadata.custom_metadata or {}).get("fingerprints", {})
        for path, mark in _fingerprints(flat).items():
            if int(mark) != marks.get(path):
                raise CorruptCheckpoint(
                    f"checkpoint {step} in {self.folder}: the data of {path} are not those saved"
                )
        leaves = [
            _typed(flat[path], leaf) if path in chosen else leaf for path, leaf in wanted.items()
        ]
        return jax.tree.unflatten(jax.tree.structure(abstract), leaves)

    def _manager(self) -> Any:
        if self._orbax is None:
            from orbax.checkpoint import v1 as ocp

            logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax logs every step it takes
            policies: Any = ocp.training
            self._orbax = policies.Checkpointer(
                self.folder,
                save_decision_policy=policies.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.preservation_policies.LatestN(self._keep or KEEP_ALL),
            )
        return self._orbax


def save_tree(folder: Path, tree: Any) -> None:
    """Saves one pytree into a new folder, at once."""
    with Checkpoints(folder, keep=1) as checkpoints:
        checkpoints.save(0, tree)


def load_tree(folder: Path, abstract: T) -> T:
    """Loads what `save_tree` saved."""
    with Checkpoints(folder) as checkpoints:
        return checkpoints.restore(abstract, 0)


def flatten(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path, in the order of the tree; keys of randomness as their data."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = "/".join(_part(part) for part in path)
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        flat[name] = jax.random.key_data(leaf) if is_key else leaf
    return flat


def _part(part: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def _is_abstract_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _stored(leaf: Any) -> Any:
    """Returns shape, dtype and sharding of a leaf as it is stored."""
    if _is_abstract_key(leaf):
        data = jax.eval_shape(jax.random.key_data, leaf)
        return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding or one_device())
    sharding = leaf.sharding or one_device()
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _typed(array: Array, leaf: Any) -> Array:
    return jax.random.wrap_key_data(array) if _is_abstract_key(leaf) else array


def _compare(found: dict[str, Any], wanted: dict[str, Any], step: int, partial: bool) -> None:
    """Raises CheckpointMismatch with one line per leaf that differs."""
    lines = []
    for path in sorted(set(found) | set(wanted)):
        if path not in found:
            lines.append(f"{path}: expected {_describe(wanted[path])}, found nothing")
        elif path not in wanted:
            if not partial:
                lines.append(f"{path}: expected nothing, found {_describe(found[path])}")
        elif _describe(found[path]) != _describe(_stored(wanted[path])):
            expected = _describe(_stored(wanted[path]))
            lines.append(f"{path}: expected {expected}, found {_describe(found[path])}")
    if lines:
        shown = "\n  ".join(lines[:20]) + (f"\n  and {len(lines) - 20} more" * (len(lines) > 20))
        raise CheckpointMismatch(f"checkpoint {step} does not fit the experiment:\n  {shown}")


def _short(error: Exception) -> str:
    """The beginning of a message: Orbax's list every leaf."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:100]}"


def _describe(leaf: Any) -> str:
    return f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"


def fingerprint(tree: Any) -> str:
    """Returns 16 letters that tell whether two trees of arrays are the same, bit for bit."""
    flat = flatten(tree)
    marks = _fingerprints(flat)
    lines = [
        f"{path} {flat[path].dtype} {flat[path].shape} {marks[path]}\n" for path in sorted(flat)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


@jax.jit
def _fingerprints(flat: dict[str, Array]) -> dict[str, UInt32[Array, ""]]:
    """Returns sum_i bits_i (2 i + 1) mod 2^32 of each leaf.

    Sums of integers do not depend on how an array is laid out, and odd weights make every change
    of one bit visible.
    """

    def mark(leaf: Array) -> UInt32[Array, ""]:
        if leaf.dtype == jnp.bool_:
            bits = leaf.astype(jnp.uint32)
        else:
            width = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
            bits = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
        index = jnp.arange(leaf.size, dtype=jnp.uint32).reshape(leaf.shape)
        return jnp.sum(bits * (2 * index + 1), dtype=jnp.uint32)

    return {path: mark(leaf) for path, leaf in flat.items()}
