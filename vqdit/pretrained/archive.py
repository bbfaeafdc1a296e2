"""Reads tensors from checkpoint files, without torch and without executing their code.

The sizes that a file declares are compared with its actual size before tensors are read.
"""

import math
from pathlib import Path

import numpy as np

from vqdit.pretrained import safetensors_files, torch_files
from vqdit.pretrained.stored import LONGEST, Stored, damaged

OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS; run `git lfs pull`",
    b"<": "a web page; download the file itself",
    b"\x1f\x8b": "compressed by gzip; unpack it",
}
"""Kinds of files that are often saved in place of weights, by their first bytes."""
COMPILED, PARALLEL = "_orig_mod.", "module."
"""Prefixes that `torch.compile` and data-parallel training add to names."""


def read_tensors(file: Path) -> dict[str, Stored]:
    """Returns the tensors of a checkpoint by name. The content decides the format, not the suffix.

    Prefixes that `torch.compile` and data-parallel training add to names are removed.

    Args:
        file: a `.safetensors` file, or a file written by `torch.save` of torch 1.6 or later
            (`.ckpt`, `.pt`, `.pth`, `.bin`) that has a state dict, either directly or under the key
            "ema", "state_dict" or "model".

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has another format, is damaged, declares more data than it has, or
            has no state dict. It is also raised when a tensor with NaN or infinite values is read.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file}")
    with file.open("rb") as stream:
        start = stream.read(64)
    other = [what for first, what in OTHERS.items() if start.startswith(first)]
    if other:
        raise ValueError(f"{file} is {other[0]}")
    if start.startswith(b"PK"):
        tensors = torch_files.read(file)
    elif file.suffix == ".safetensors" or start[8:9] == b"{":
        tensors = safetensors_files.read(file)
    else:
        raise ValueError(
            f"{file} is neither a .safetensors file nor a zip archive written by torch 1.6 or "
            "later; load it with torch and save its state_dict again"
        )
    named = {_plain(name, file): tensor for name, tensor in tensors.items()}
    if len(named) < len(tensors):
        raise ValueError(
            f"{file} has two tensors with the same name; save the state_dict of one model"
        )
    values = sum(math.prod(size or 1 for size in tensor.shape) for tensor in tensors.values())
    if values > file.stat().st_size:
        raise damaged(file, f"it declares {values:,} values, but has {file.stat().st_size:,} bytes")
    return {name: _finite(name, tensor, file) for name, tensor in named.items()}


def _plain(name: str, file: Path) -> str:
    """Returns the name of a tensor without prefixes of compilation and data-parallel training."""
    if not name.isprintable() or len(name) > LONGEST:
        raise damaged(file, f"a tensor has the invalid name {name[:80]!r}")
    name = name.replace(COMPILED, "")
    while name.startswith(PARALLEL):
        name = name.removeprefix(PARALLEL)
    return name


def _finite(name: str, tensor: Stored, file: Path) -> Stored:
    def read() -> np.ndarray:
        values = tensor.read()
        wrong = values.size - int(np.isfinite(values.astype(np.float32)).sum())
        if wrong:
            raise ValueError(
                f"{name!r} in {file} is not finite: {wrong} of its {values.size} values are NaN "
                "or infinite, so the training had diverged; use an earlier checkpoint"
            )
        return values

    return Stored(tensor.shape, read)
