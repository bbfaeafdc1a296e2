"""What a folder holds: size and SHA-256 of every file in it, and whether that is still so.

Storage loses bits, uploads end early, and clean-ups take too much. Readers of array data notice
few of these.
"""

import hashlib
import json
import os
from pathlib import Path

NAME = "manifest.json"


def write(folder: Path) -> None:
    """Writes the manifest of a folder into it, at once or not at all."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in _files(folder)
    }
    text = json.dumps(files, indent=1, sort_keys=True)
    draft = folder / f".{NAME}"
    # The seal tells a damaged manifest from damaged files.
    draft.write_text(json.dumps({"seal": _seal(text), "files": files}, indent=1, sort_keys=True))
    os.replace(draft, folder / NAME)


def remove(folder: Path) -> None:
    """Removes the manifest of a folder, and what there is of a draft."""
    for name in (NAME, f".{NAME}"):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Returns whether a folder has a manifest."""
    return (folder / NAME).is_file()


def faults(folder: Path) -> list[str]:
    """Returns what is not as its manifest says: a line for each file, none if all is well.

    Files that the manifest does not know are none of its business.
    """
    try:
        record = json.loads((folder / NAME).read_text())
        files, seal = record["files"], record["seal"]
        if seal != _seal(json.dumps(files, indent=1, sort_keys=True)):
            raise ValueError("seal")
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{NAME} is damaged"]
    lines = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{name} is missing")
        elif path.stat().st_size != expected["bytes"]:
            lines.append(f"{name} has {path.stat().st_size} bytes, {expected['bytes']} were saved")
        elif _sha256(path) != expected["sha256"]:
            lines.append(f"{name} is not what was saved (its SHA-256 differs)")
    return lines


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if path.name not in (NAME, f".{NAME}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
