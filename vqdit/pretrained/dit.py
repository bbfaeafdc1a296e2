"""Imports state dicts of DiT, and of SiT, which is the same network for another process.

Peebles & Xie, arXiv:2212.09748; Ma et al., "SiT: Exploring Flow and Diffusion-based Generative
Models with Scalable Interpolant Transformers", arXiv:2401.08740. The architecture is inferred from
the names and shapes of the tensors, except for the number of heads and the kind of model, DiT or
SiT. Both have two outputs per channel. The outputs of DiT are the noise and an interpolation
coefficient of the variance; those of SiT are the velocity and an unused value.
"""

import math
import re
from collections.abc import Mapping
from typing import Literal

from vqdit.models.dit import SIZES, DiT
from vqdit.pretrained.mismatch import PretrainedMismatch, check_shapes, size_of
from vqdit.pretrained.stored import Stored
from vqdit.pretrained.transformer import (
    DEPTH,
    IMAGE,
    Names,
    Pretrained,
    check_positions,
    fill,
    inputs_of,
)
from vqdit.processes import DDPM, Flow
from vqdit.typing import Params

NAMES = Names(
    patch="x_embedder.proj",
    time=("t_embedder.mlp.0", "t_embedder.mlp.2"),
    labels="y_embedder.embedding_table",
    modulation="blocks.{block}.adaLN_modulation.1",
    qkv=("blocks.{block}.attn.qkv",),
    out="blocks.{block}.attn.proj",
    mlp=("blocks.{block}.mlp.fc1", "blocks.{block}.mlp.fc2"),
    head_modulation="final_layer.adaLN_modulation.1",
    head="final_layer.linear",
)
POSITIONS = "pos_embed"
Kind = Literal["dit", "sit"]


def is_dit(tensors: Mapping[str, Stored]) -> bool:
    """Returns whether the tensors have the names of DiT and SiT."""
    return "x_embedder.proj.weight" in tensors and "blocks.0.adaLN_modulation.1.weight" in tensors


def convert(tensors: Mapping[str, Stored], *, kind: Kind = "dit", heads: int = 0) -> Pretrained:
    """Returns the network of a checkpoint.

    Args:
        tensors: tensors of the checkpoint.
        kind: "dit" or "sit", which cannot be inferred from the tensors.
        heads: number of attention heads; 0 infers it for published sizes.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the positions are learned, or the number of heads is unknown.
    """
    dim, channels, patch = (size_of(tensors, "x_embedder.proj.weight", axis) for axis in range(3))
    classes = size_of(tensors, "y_embedder.embedding_table.weight") - 1
    outputs = size_of(tensors, "final_layer.linear.bias") // max(1, patch**2)
    side = math.isqrt(size_of(tensors, POSITIONS, 1))
    check_shapes({POSITIONS: (1, side**2, dim)}, {POSITIONS: tensors[POSITIONS]})
    depth = _depth(tensors)
    if depth > DEPTH or min(channels, outputs, classes, side) < 1:
        raise PretrainedMismatch(
            f"a DiT with {depth} blocks, {channels} channels, {outputs} outputs, {classes} labels "
            f"and {side}x{side} patches cannot be imported; the limit is {DEPTH} blocks, and all "
            "numbers must be at least 1"
        )
    model = DiT(
        depth=depth,
        dim=dim,
        heads=heads or _heads(depth, dim),
        patch=patch,
        mlp_ratio=size_of(tensors, "blocks.0.mlp.fc1.weight") // max(1, dim),
    )
    inputs = inputs_of(side * patch, channels, outputs, classes)
    rest = {name: tensor for name, tensor in tensors.items() if name != POSITIONS}
    params = fill(model, inputs, NAMES, rest)
    check_positions(model, (side, side), tensors[POSITIONS])
    if kind == "dit":
        return Pretrained(model, inputs, params, DDPM(learned_sigma=outputs != channels))
    inputs = inputs_of(side * patch, channels, channels, classes)
    process = Flow(convention="noise_first", time_scale=1.0)
    return Pretrained(model, inputs, _cut(params, channels, patch), process)


def _depth(tensors: Mapping[str, Stored]) -> int:
    found = (re.match(r"blocks\.(\d{1,9})\.", name) for name in tensors)
    return 1 + max(int(number[1]) for number in found if number)


def _heads(depth: int, dim: int) -> int:
    for size in SIZES.values():
        if (size["depth"], size["dim"]) == (depth, dim):
            return size["heads"]
    raise ValueError(
        f"the number of attention heads is unknown for a DiT of {depth} blocks of width {dim}, "
        "which is not a published size; set heads (--heads)"
    )


def _cut(params: Params, channels: int, patch: int) -> Params:
    """Returns the parameters, with the head reduced to the first `channels` outputs."""
    head = params[f"{IMAGE}_head"]
    shorter = {
        name: leaf.reshape(*leaf.shape[:-1], patch**2, -1)[..., :channels].reshape(
            *leaf.shape[:-1], patch**2 * channels
        )
        for name, leaf in head.items()
    }
    return {**params, f"{IMAGE}_head": shorter}
