"""Names of the modules of a VQGAN in other projects, and import of their parameters."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Image
from vqdit.models import VQGAN
from vqdit.pretrained.mismatch import (
    Shape,
    check_shapes,
    mismatch,
    require_both_sides,
    size_of,
    tensor_of,
)
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import VQ, GumbelVQ, Quantizer
from vqdit.quantizers.vq import VQStats
from vqdit.regularizers import KL
from vqdit.runs.array_trees import flatten
from vqdit.tasks import KLTask, TokenizerTask
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Params, Stats

ATTENTION_PARTS = ("norm", "q", "k", "v", "out")
LEVELS, BLOCKS = 10, 16
"""Largest number of levels, and of blocks per level; published models have at most 6 and 4."""


class Imported(NamedTuple):
    """A public tokenizer as a task, with its parameters and statistics."""

    task: AutoencoderTask
    params: Params
    stats: Stats


class Codebook(NamedTuple):
    """An imported quantizer with its arrays.

    Attributes:
        quantizer: the quantizer.
        params: parameters of the quantizer.
        stats: statistics of the quantizer.
        names: names of the tensors from which the quantizer was made.
    """

    quantizer: Quantizer
    params: Params
    stats: Stats
    names: tuple[str, ...]


class Names(NamedTuple):
    """Names of the modules in a project, without the prefix "encoder" or "decoder".

    Names are patterns with {level}, counted from 0 at the image's resolution, {rising}, counted
    from 0 at the latents' resolution, and {number}, the index within a level. Pairs have one
    pattern for the encoder and one for the decoder.

    Attributes:
        block: residual blocks of a level.
        attention: attention blocks of a level.
        resample: convolution that halves (encoder) or doubles (decoder) the resolution.
        middle: first residual block, attention and second residual block of the middle.
        norm: norm before the last convolution.
        shortcut: shortcut convolution within a residual block.
        attention_parts: norm, q, k, v and output layer within attention.
    """

    block: tuple[str, str]
    attention: tuple[str, str]
    resample: tuple[str, str]
    middle: tuple[str, str, str]
    norm: str
    shortcut: str
    attention_parts: tuple[str, str, str, str, str]

    def of(self, path: str, levels: int) -> str:
        """Returns the name of a parameter in the project.

        Args:
            path: path of the parameter in `VQGAN`, such as "encoder/level_0_block_1/norm_1/scale".
            levels: number of levels.
        """
        side, module, *parts, leaf = path.split("/")
        leaf = {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)
        if module.endswith("quant_conv"):
            return f"{module}.{leaf}"
        within = [self._part(part, "attention" in module) for part in parts if part != "conv"]
        return ".".join([side, self._module(side == "decoder", module, levels), *within, leaf])

    def _module(self, is_decoder: bool, module: str, levels: int) -> str:
        fixed = {
            "in": "conv_in",
            "out": "conv_out",
            "norm": self.norm,
            "middle_block_0": self.middle[0],
            "middle_attention": self.middle[1],
            "middle_block_1": self.middle[2],
        }
        if module in fixed:
            return fixed[module]
        _, level, kind, *number = module.split("_")
        kinds = {"block": self.block, "attention": self.attention}
        pattern = kinds.get(kind, self.resample)[is_decoder]
        return pattern.format(
            level=level, rising=levels - 1 - int(level), number=number[0] if number else 0
        )

    def _part(self, part: str, is_attention: bool) -> str:
        if is_attention:
            return self.attention_parts[ATTENTION_PARTS.index(part)]
        return self.shortcut if part == "shortcut" else part.replace("_", "")

    def infer(self, tensors: Mapping[str, Stored], **fields: Any) -> VQGAN:
        """Infers the architecture from the names and shapes of tensors.

        Args:
            tensors: tensors of the checkpoint.
            **fields: fields that override the inferred ones.

        Raises:
            PretrainedMismatch: if a tensor that determines the architecture is missing.
        """
        require_both_sides(tensors)
        found = self._numbers(tensors, self.block[0])
        levels, blocks = (len({pair[i] for pair in found}) for i in (0, 1))
        if levels > LEVELS or blocks > BLOCKS:
            raise ValueError(
                f"the checkpoint has {levels} levels of {blocks} blocks, but at most {LEVELS} of "
                f"{BLOCKS} can be imported"
            )
        attention = {level for level, _ in self._numbers(tensors, self.attention[0])}

        block = self.block[0].format(level="{level}", number=0)
        names = [f"encoder.{block.format(level=level)}.conv2.bias" for level in range(levels)]
        z_channels = size_of(tensors, "decoder.conv_in.weight", 1)
        model: dict[str, Any] = {
            "channels": tuple(size_of(tensors, name) for name in names),
            "blocks": blocks,
            "attention": tuple(sorted(attention)),
            "middle_attention": any(f".{self.middle[1]}." in name for name in tensors),
            "z_channels": z_channels,
            "double_z": size_of(tensors, "encoder.conv_out.bias") == 2 * z_channels,
            "quant_conv": any(re.match("(post_)?quant_conv.", name) for name in tensors),
        }
        return VQGAN(**(model | fields))

    def _numbers(self, tensors: Mapping[str, Stored], pattern: str) -> set[tuple[int, int]]:
        """Returns the (level, number) pairs of the encoder's modules that match a pattern."""
        escaped = re.escape(f"encoder.{pattern}.")
        for name in ("level", "number"):
            escaped = escaped.replace(re.escape("{" + name + "}"), rf"(?P<{name}>[0-9]{{1,3}})")
        matches = (re.match(escaped, name) for name in tensors)
        return {(int(found["level"]), int(found["number"])) for found in matches if found}


def build(
    model: VQGAN,
    names: Names,
    tensors: Mapping[str, Stored],
    *,
    size: int,
    codebook: Codebook | None = None,
    dim: int = 0,
) -> Imported:
    """Returns a tokenizer task with the parameters of a checkpoint.

    Args:
        model: the network.
        names: names of the modules in the checkpoint.
        tensors: tensors of the checkpoint, without tensors that only training uses.
        size: edge of the images in pixels.
        codebook: the quantizer; None for a model with a Gaussian posterior (KL).
        dim: width of the latents of a model with a Gaussian posterior.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the images are neither grey nor in colour.
    """
    require_both_sides(tensors)
    channels = size_of(tensors, "encoder.conv_in.weight", 1)
    if channels not in (1, 3):
        raise ValueError(
            f"the checkpoint is for pictures with {channels} channels, but only grey (1) and "
            "colour (3) are supported; use another checkpoint"
        )
    modality = Image(size=(size, size), channels=channels)
    if codebook:
        quantizer, own, stats, used = codebook
        task: AutoencoderTask = TokenizerTask(modality=modality, model=model, quantizer=quantizer)
        learned = {"quantizer": own}
    else:
        task = KLTask(modality=modality, model=model, regularizer=KL(dim=dim))
        learned, stats, used = {}, {}, ()
    rest = {name: tensor for name, tensor in tensors.items() if name not in used}
    _ = task.grid  # raises ValueError if the downsampling factor does not divide the size
    abstract = jax.eval_shape(task.blank)[0]
    abstract = {side: abstract[side] for side in ("encoder", "decoder")}
    filled = fill(abstract, names, rest, len(model.channels))
    return Imported(task, {**filled, **learned}, stats)


def nearest(tensors: Mapping[str, Stored], name: str, *, is_cosine: bool = False) -> Codebook:
    """Returns a quantizer that uses the nearest code; the usage count of every code is 1.

    Args:
        tensors: tensors of the checkpoint.
        name: name of the tensor with the codebook [k, d].
        is_cosine: whether vectors and codes are normalised before they are compared.

    Raises:
        PretrainedMismatch: if the tensor is missing or is not a matrix.
    """
    table = _table(tensors, name)
    if is_cosine:
        table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    rows = jnp.asarray(table)
    quantizer = VQ(
        codebook_size=len(table),
        dim=table.shape[1],
        distance="cosine" if is_cosine else "euclidean",
    )
    return Codebook(quantizer, {}, VQStats(rows, jnp.ones(len(table)), rows), (name,))


def gumbel(tensors: Mapping[str, Stored], *, codes: str, logits: str) -> Codebook:
    """Returns a quantizer that uses the code with the largest logit.

    Args:
        tensors: tensors of the checkpoint.
        codes: name of the tensor with the codebook [k, d].
        logits: name of the 1x1 convolution from d channels to k logits, without ".weight".

    Raises:
        PretrainedMismatch: if tensors are missing or of another shape.
    """
    weight, bias = f"{logits}.weight", f"{logits}.bias"
    table = _table(tensors, codes)
    size, dim = table.shape
    expected = {weight: (size, dim, 1, 1), bias: (size,)}
    check_shapes(expected, {name: tensor_of(tensors, name) for name in expected})
    params = {
        "logits": jnp.asarray(_float32(tensors[weight]).reshape(size, dim)),
        "bias": jnp.asarray(_float32(tensors[bias])),
        "codebook": jnp.asarray(table),
    }
    return Codebook(GumbelVQ(codebook_size=size, dim=dim), params, {}, (codes, weight, bias))


def _table(tensors: Mapping[str, Stored], name: str) -> np.ndarray:
    found = tensor_of(tensors, name)
    if len(found.shape) != 2:
        raise mismatch(mismatched=[f"{name}: expected [codes, width], found {list(found.shape)}"])
    return _float32(found)


def fill(abstract: Params, names: Names, tensors: Mapping[str, Stored], levels: int) -> Params:
    """Returns the parameters of a VQGAN from the tensors of a checkpoint.

    Args:
        abstract: structure and shapes of the parameters.
        names: names of the modules in the checkpoint.
        tensors: tensors of the checkpoint.
        levels: number of levels of the VQGAN.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    wanted = {path: names.of(path, levels) for path in flatten(abstract)}
    leaves = dict(zip(wanted.values(), flatten(abstract).values(), strict=True))
    shapes = {name: _foreign(leaf.shape) for name, leaf in leaves.items()}
    check_shapes(shapes, tensors, _squeezed)
    filled = [_converted(tensors[name], leaf.shape) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(abstract), filled)


def _foreign(shape: Shape) -> Shape:
    """Returns the shape of a parameter in torch: outputs, inputs, then the axes of the kernel."""
    return (*reversed(shape[-2:]), *shape[:-2])


def _squeezed(shape: Shape) -> Shape:
    """Returns the shape without 1x1 kernel axes, which attention has only in some checkpoints."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _converted(tensor: Stored, shape: Shape) -> Any:
    array = _float32(tensor)
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
        array = array.T
    return jnp.asarray(array.reshape(shape))


def _float32(tensor: Stored) -> np.ndarray:
    return np.ascontiguousarray(tensor.read().astype(np.float32))
