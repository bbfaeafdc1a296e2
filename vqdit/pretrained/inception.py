"""Converts the public weights of FID's Inception, a file of torch, for `vqdit.models.inception`.

The user supplies the file: pt_inception-2015-12-05-6726825d.pth of pytorch-fid, or the identical
file of torch-fidelity. The file's name ends in the first digits of its SHA-256.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.models.inception import EDGE, inception
from vqdit.pretrained.archive import read_tensors
from vqdit.pretrained.stored import Stored
from vqdit.typing import Params

KNOWN = {"6726825d": "inception-2015-12-05 of pytorch-fid and torch-fidelity"}
"""Names of files of weights by the first digits of their SHA-256."""
EPSILON = 1e-3
"""Added to the variances of the batch normalisation."""


def variant(checksum: str) -> str:
    """Returns the name of the public weights with this SHA-256; empty if it is not known."""
    return KNOWN.get(checksum[:8], "")


def read_inception(file: Path) -> Params:
    """Reads the parameters of `inception` from a state dict with the names of torchvision.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not have these weights, or they do not fit the network.
    """
    tensors = read_tensors(file)
    try:
        params = convert(tensors)
        shape = jax.ShapeDtypeStruct((1, EDGE, EDGE, 3), jnp.float32)
        found = jax.eval_shape(inception, params, shape)
    except (KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ValueError(
            f"{file} has no weights of FID's Inception: {why}; use pytorch-fid's file"
        ) from error
    if found.features.shape != (1, 2048):
        raise ValueError(
            f"{file} has an Inception with {found.features.shape[1]} features, but FID's has 2048; "
            "use pytorch-fid's file"
        )
    return params


def convert(tensors: Mapping[str, Stored]) -> Params:
    """Returns parameters from tensors; the batch normalisation becomes part of the convolutions.

    Raises:
        KeyError: a tensor is missing.
    """
    params: Params = {"fc": tensors["fc.weight"].read().T.astype(np.float32)}
    for name in tensors:
        if not name.endswith(".conv.weight") or name.startswith("AuxLogits"):
            continue
        layer = name.removesuffix(".conv.weight")
        kernel = tensors[name].read().astype(np.float64)
        scale, bias, mean, variance = (
            tensors[f"{layer}.bn.{part}"].read().astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        folded = (kernel * scale[:, None, None, None]).transpose(2, 3, 1, 0)
        params[layer] = {
            "kernel": folded.astype(np.float32),
            "bias": (bias - mean * scale).astype(np.float32),
        }
    return params
