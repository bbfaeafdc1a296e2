"""Sizes and SHA-256 checksums of the files in a folder, stored there as `manifest.json`.

They reveal changed bits, incomplete uploads and deleted files, which readers of array data often do
not notice.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from vqdit import files

NAME = "manifest.json"
SHAPE = {"seal": str, "files": {str: {"bytes": int, "sha256": str}}}


def write(folder: Path) -> None:
    """Writes the manifest of a folder into it, atomically."""
    found = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in _files(folder)
    }
    # This checksum distinguishes a damaged manifest from damaged files.
    record = files.to_text({"seal": _seal(found), "files": found})
    files.write_whole(folder / NAME, record.encode())


def remove(folder: Path) -> None:
    """Removes the manifest of a folder."""
    (folder / NAME).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Returns whether a folder has a manifest."""
    return (folder / NAME).is_file()


def seal(folder: Path) -> str:
    """Returns the checksum of a folder's manifest, which identifies all files of the folder.

    Raises:
        OSError: the folder has no manifest.
        ValueError: the manifest is damaged.
    """
    return files.read_json(folder / NAME, SHAPE, own=True)["seal"]


def faults(folder: Path) -> list[str]:
    """Returns one line for each file that is missing or differs from its manifest.

    Files that the manifest does not list are ignored.
    """
    try:
        record = files.read_json(folder / NAME, SHAPE, own=True)
        if record["seal"] != _seal(record["files"]):
            raise ValueError("seal")
    except (OSError, ValueError):
        return [f"{NAME} is damaged"]
    lines = []
    for name, expected in record["files"].items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{name} is missing")
        elif path.stat().st_size != expected["bytes"]:
            lines.append(
                f"{name} has {path.stat().st_size} bytes, but {expected['bytes']} were saved"
            )
        elif _sha256(path) != expected["sha256"]:
            lines.append(f"{name} has changed (its SHA-256 differs)")
    return lines


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name != NAME)


def _sha256(path: Path) -> str:
    with files.open_own(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(listed: dict[str, Any]) -> str:
    text = json.dumps(listed, indent=1, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
