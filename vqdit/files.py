"""Checks paths from users, reads JSON with checks, and writes files atomically."""

import errno
import json
import math
import os
import re
import reprlib
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_BYTES = 2**26
"""Largest accepted size of a JSON file in bytes."""
MAX_DEPTH = 64
"""Largest accepted depth of nested lists and objects in JSON."""
KINDS = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    None: "null",
}
"""Descriptions of shapes in error messages."""


def local_path(given: str | Path) -> Path:
    """Converts a path from a user, in which `~` is the home folder.

    Raises:
        ValueError: the path is the address of a bucket or server, or names an unknown user.
    """
    text = os.fspath(given)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(
            f"{text!r} is the address of a bucket or server, which vqdit cannot read or write; "
            "copy or mount it, and give the path of a folder or file on this machine"
        )
    if "\0" in text:
        raise ValueError(f"{text!r} is not a path: it has a null character; remove this character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text!r} uses an unknown home folder; write the full path") from error


def open_own(file: Path, mode: str = "rb") -> Any:
    """Opens a file of a workdir without following links and without blocking on pipes.

    Raises:
        OSError: the file is a link, or cannot be opened.
    """
    return open(file, mode, opener=_open_no_link, encoding=None if "b" in mode else "utf-8")


def read_json(file: Path, shape: Any = object, *, own: bool = False) -> Any:
    """Returns the content of a JSON file.

    Args:
        file: the file.
        shape: schema of the content: `str`, `bool`, `int`, `float` (or an integer), `None`, `list`,
            `dict`, `object` (anything), a tuple of alternatives, `[shape]` for a list whose items
            match `shape`, `{str: shape}` for an object with any names, or `{"name": shape,
            "other?": shape}` for an object with these fields, of which those with "?" may be
            absent. Additional fields are allowed.
        own: whether the file is part of a workdir, in which links are rejected.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON of this shape; the message names the file and the position.
    """
    try:
        return parse_json(_content(file, _open_no_link if own else _open_at_once), shape)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; restore it from a copy") from error


def parse_json(text: bytes, shape: Any = object) -> Any:
    """Parses JSON, with the checks of `read_json`.

    Raises:
        ValueError: the text is not strict JSON, or has another shape.
    """
    try:
        value = json.loads(
            text.decode(),
            parse_constant=_refuse_number,
            parse_float=_finite,
            parse_int=_bounded,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise ValueError(f"the JSON is nested more than {MAX_DEPTH} levels deep") from None
    _check(value, shape, "", MAX_DEPTH)
    return value


def to_text(value: Any, indent: int | None = 2) -> str:
    """Converts a value to strict JSON; non-finite numbers become "nan", "inf" or "-inf"."""
    return json.dumps(_strict(value), indent=indent, allow_nan=False)


def write_json(file: Path, value: Any) -> None:
    """Writes a value as JSON (see `to_text`), atomically.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(file, f"{to_text(value)}\n".encode())


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file atomically: it has either the old or the complete new content.

    If the path is a link, the link is replaced and its target is not changed.

    Raises:
        OSError: the file cannot be written.
    """
    temporary = file.with_name(f".{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as new:
            new.write(content)
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            f"cannot write {file}: {error.strerror}; free some space or repair the disk, and run "
            "the same command again"
        ) from error


def _content(file: Path, opener: Callable[[str, int], int]) -> bytes:
    with open(file, "rb", opener=opener) as opened:
        found = os.fstat(opened.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("this path is not a regular file")
        if found.st_size > MAX_BYTES:
            raise ValueError(
                f"the file has {found.st_size} bytes, but at most {MAX_BYTES} are allowed"
            )
        return opened.read(MAX_BYTES + 1)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # without this flag, opening a pipe would block


def _open_no_link(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(
            f"{path} is a link, and links in a workdir are not followed; replace it by the file "
            "or folder itself"
        ) from error


def _refuse_number(name: str) -> float:
    raise ValueError(f"the JSON has the number {name}, but numbers must be finite")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(reprlib.repr(text))


def _bounded(text: str) -> int:
    if len(text) > 20:
        raise ValueError(
            f"the JSON has an integer of {len(text)} characters, but at most 20 are allowed"
        )
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"a JSON object has the name {reprlib.repr(twice)} twice, but names must be unique"
        )
    return found


def _check(value: Any, shape: Any, where: str, depth: int) -> None:
    """Raises ValueError unless a value matches a schema and has at most `depth` nested levels."""
    place = where or "it"
    if depth < 0:
        raise ValueError(f"the JSON is nested more than {MAX_DEPTH} levels deep")
    if not _has_kind(value, shape):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        wanted = " or ".join(KINDS[_kind(kind)] for kind in kinds)
        raise ValueError(f"{place} must be {wanted}, got {reprlib.repr(value)}")
    if isinstance(shape, tuple):
        shape = next(kind for kind in shape if _has_kind(value, kind))
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{place} has a lone surrogate (half a character) in {value!a}"
            ) from error
    elif isinstance(value, list):
        each = shape[0] if isinstance(shape, list) else object
        for number, item in enumerate(value):
            _check(item, each, f"{where}[{number}]", depth - 1)
    elif isinstance(value, dict):
        fields = shape if isinstance(shape, dict) else {}
        for name in fields:
            if isinstance(name, str) and not name.endswith("?") and name not in value:
                raise ValueError(f"{place} lacks {name!r}")
        for name, item in value.items():
            inner = fields.get(name, fields.get(f"{name}?", fields.get(str, object)))
            shown = name if name.isascii() and name.isprintable() else ascii(name)
            _check(name, str, f"the name {shown}", depth)
            _check(item, inner, f"{where}.{shown}" if where else shown, depth - 1)


def _has_kind(value: Any, shape: Any) -> bool:
    """Returns whether the outermost type of a value matches a schema; items are not checked."""
    if isinstance(shape, tuple):
        return any(_has_kind(value, kind) for kind in shape)
    kind = _kind(shape)
    if kind is None or kind is object:
        return kind is object or value is None
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _kind(shape: Any) -> Any:
    return type(shape) if isinstance(shape, list | dict) else shape


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _strict(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
