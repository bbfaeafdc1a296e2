"""Verifies the files, the structure and the array data of a checkpoint when it is restored.

Orbax casts dtypes silently and does not detect corrupted array data. Therefore every file of a
checkpoint has a checksum, and paths, shapes and dtypes are compared before loading. The fingerprint
of every array is computed on the devices that save it, and is compared on the devices that load it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from vqdit import parallel
from vqdit.runs import file_checksums
from vqdit.runs.array_fingerprints import fingerprints
from vqdit.typing import Array

LAST_FILE = "_CHECKPOINT_METADATA"
"""The last file of a checkpoint that Orbax writes."""
SHOWN = 8
"""Largest number of mismatched leaves that an error lists."""


class CheckpointMismatch(ValueError):
    """The leaves of a checkpoint differ from the leaves of the experiment."""


class CorruptCheckpoint(OSError):
    """The data of a checkpoint differ from the saved data.

    Args:
        folder: the checkpoint.
        why: description of the damage.
    """

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"checkpoint {folder.name} in {folder.parent} is damaged: {why}")
        self.why = why


def verify_files(folder: Path) -> None:
    """Compares the files of a checkpoint with their checksums; only one process reads the files.

    Raises:
        CorruptCheckpoint: a file is missing or damaged.
    """
    lines = []
    if not (folder / LAST_FILE).is_file():
        lines = [f"{LAST_FILE} is missing"]
    elif parallel.process()[0] == 0 and file_checksums.exists(folder):
        lines = file_checksums.faults(folder)
    if not parallel.all_agree(not lines):
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        raise CorruptCheckpoint(
            folder, (lines or [("another process found that it is damaged")])[0] + more
        )


def verify_structure(
    folder: Path, found: Mapping[str, Any], expected: Mapping[str, Any], *, is_part: bool
) -> None:
    """Compares paths, shapes and dtypes of a checkpoint's leaves with the expected ones.

    Args:
        folder: the checkpoint.
        found: leaves of the checkpoint by path.
        expected: leaves to load by path.
        is_part: whether the checkpoint may have additional leaves.

    Raises:
        CheckpointMismatch: leaves differ; the message lists them by path.
    """
    paths = sorted(expected if is_part else {*found, *expected})
    lines = [
        f"{path}: expected {_described(expected.get(path))}, found {_described(found.get(path))}"
        for path in paths
        if _described(expected.get(path)) != _described(found.get(path))
    ]
    if lines:
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise CheckpointMismatch(
            f"checkpoint {folder.name} does not match the experiment: "
            f"{'; '.join(lines[:SHOWN])}{more}"
        )


def verify_data(folder: Path, flat: dict[str, Array], saved: Mapping[str, int]) -> None:
    """Compares the fingerprints of loaded arrays with the fingerprints of the saved arrays.

    Raises:
        CorruptCheckpoint: an array differs.
    """
    for path, mark in fingerprints(flat).items():
        if int(mark) != saved.get(path):
            raise CorruptCheckpoint(folder, f"the data of {path} differ from the saved data")


def _described(leaf: Any) -> str:
    return "nothing" if leaf is None else f"{jnp.dtype(leaf.dtype).name}{list(leaf.shape)}"
