"""Shared code of the imports of audio codecs: weight norm, names, and filling of parameters."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Audio
from vqdit.models import Codec
from vqdit.pretrained.layout import Imported
from vqdit.pretrained.mismatch import check_shapes
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import Quantizer
from vqdit.runs.array_trees import flatten
from vqdit.tasks import TokenizerTask
from vqdit.typing import Params, Stats

SECONDS = 30.0
"""Default length of the longest recording, in seconds, which cannot be inferred from weights."""
CODEBOOKS = 256
"""Largest number of codebooks that can be imported; published models have at most 32."""
RATES = 1_000_000
"""Largest sampling rate that can be imported, in Hz."""
WEIGHT_NORM = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)
"""Names of the length and the direction of a kernel, before and since torch 2.1."""

Name = Callable[[str], str]


def without_weight_norm(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Returns tensors in which `weight` = g v / |v| replaces every length g and direction v."""
    found = dict(tensors)
    for length, direction in WEIGHT_NORM:
        for name in [name for name in tensors if name.endswith(length)]:
            layer = name.removesuffix(length)
            if layer + direction in found:
                g, v = found.pop(name), found.pop(layer + direction)
                found[f"{layer}.weight"] = Stored(v.shape, functools.partial(_product, g, v))
    return found


def _product(g: Stored, v: Stored) -> np.ndarray:
    length, direction = (part.read().astype(np.float32) for part in (g, v))
    norm = np.sqrt(np.sum(direction**2, axis=(1, 2), keepdims=True, dtype=np.float32))
    return length * direction / norm


def with_summed_biases(tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    """Returns tensors in which the sum of the two biases of an LSTM layer replaces both biases."""
    found = dict(tensors)
    for name in tensors:
        other = name.replace(".bias_ih_", ".bias_hh_")
        if other != name and other in tensors and tensors[name].shape == tensors[other].shape:
            pair = found.pop(name), found.pop(other)
            whole = functools.partial(_sum, *pair)
            found[name.replace(".bias_ih_", ".bias_")] = Stored(pair[0].shape, whole)
    return found


def _sum(a: Stored, b: Stored) -> np.ndarray:
    return a.read().astype(np.float32) + b.read().astype(np.float32)


def leaf_name(layer: str, leaf: str) -> str:
    """Returns torch's name of a parameter of a layer."""
    return f"{layer}.{ {'kernel': 'weight', 'scale': 'weight'}.get(leaf, leaf) }"


def fill(abstract: Params, name: Name, tensors: Mapping[str, Stored]) -> Params:
    """Returns parameters from the tensors of a checkpoint.

    Args:
        abstract: structure and shapes of the parameters.
        name: returns the name of a parameter in the checkpoint, given its path.
        tensors: tensors of the checkpoint, without tensors that only training needs.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    leaves = flatten(abstract)
    shapes = {name(path): _theirs(path, leaf.shape) for path, leaf in leaves.items()}
    check_shapes(shapes, tensors)
    filled = [_ours(path, tensors[name(path)], leaf.shape) for path, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(abstract), filled)


def _axes(path: str, count: int) -> tuple[int, ...] | None:
    """Returns the transposition from vqdit's axes to torch's; None if both have the same order."""
    parts = path.split("/")
    is_transposed = parts[-2].endswith("_up") or parts[-3:-1] == ["up", "conv"]
    if parts[-1] == "kernel" and count == 3:
        return (1, 2, 0) if is_transposed else (2, 1, 0)
    is_matrix = parts[-1] == "kernel" or parts[-1].endswith(("_input", "_hidden"))
    return (1, 0) if is_matrix or parts[-1] in ("in", "out") and count == 2 else None


def _theirs(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path.endswith("/alpha"):
        return (1, *shape, 1)
    order = _axes(path, len(shape))
    found = tuple(shape[axis] for axis in order) if order else shape
    return (*found, 1) if re.match("quantizer/.*/(in|out)$", path) else found


def _ours(path: str, tensor: Stored, shape: tuple[int, ...]) -> Any:
    array, order = tensor.read().astype(np.float32), _axes(path, len(shape))
    if order:
        array = array.reshape(_theirs(path, shape)[: len(order)])
        array = array.transpose(np.argsort(order))
    return jnp.asarray(np.ascontiguousarray(array.reshape(shape)))


def build(
    model: Codec,
    quantizer: Quantizer,
    stats: Stats,
    tensors: Mapping[str, Stored],
    name: Name,
    *,
    rate: int,
    channels: int,
) -> Imported:
    """Returns a tokenizer task with the parameters of a checkpoint.

    Args:
        model: the network.
        quantizer: the quantizer.
        stats: statistics of the quantizer.
        tensors: tensors of the checkpoint, without tensors that only training needs.
        name: returns the name of a parameter in the checkpoint, given its path.
        rate: sampling rate in Hz.
        channels: 1 (mono) or 2 (stereo).

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    modality = Audio(rate=rate, seconds=(1 / rate, SECONDS), channels=channels)
    task = TokenizerTask(name="audio", modality=modality, model=model, quantizer=quantizer)

    def blank() -> Params:
        x = jnp.zeros((1, model.downsampling, channels))
        params = model.init(jax.random.key(0), x, quantizer.dim)
        return {**params, "quantizer": quantizer.init(jax.random.key(0))[0]}

    return Imported(task, fill(jax.eval_shape(blank), name, tensors), stats)
