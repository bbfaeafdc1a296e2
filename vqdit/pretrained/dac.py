"""Import of DAC: folders in the layout of transformers (`DacModel`), and the original `.pth` files.

Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", arXiv:2306.06546.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from vqdit.models import DAC
from vqdit.pretrained.codec import CODEBOOKS, RATES, build, leaf_name, without_weight_norm
from vqdit.pretrained.diffusers_config import listed, whole
from vqdit.pretrained.layout import LEVELS, Imported
from vqdit.pretrained.mismatch import size_of
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import RVQ, VQ
from vqdit.quantizers.vq import VQUse


class Names(NamedTuple):
    """Names of layers in a project; {level} counts from the first level of encoder or decoder.

    Attributes:
        first: first layer of the encoder, and of the decoder.
        last: last layers; {end} is the number of levels plus 1.
        last_activation: activations before the last layers, also with {end}.
        block: blocks, one per level.
        resample: strided layers within a level.
        activation: activations before the strided layers.
        unit: residual units within a level; {number} counts from 1 in `unit_from` steps.
        unit_from: number of the first unit of a level of the encoder, and of the decoder.
        parts: the two activations and the two layers of a unit.
    """

    first: tuple[str, str]
    last: tuple[str, str]
    last_activation: tuple[str, str]
    block: tuple[str, str]
    resample: tuple[str, str]
    activation: tuple[str, str]
    unit: str
    unit_from: tuple[int, int]
    parts: dict[str, str]

    def of(self, path: str, levels: int) -> str:
        """Returns the name of a parameter, given its path."""
        side, _, *layer, leaf = path.split("/")
        if side == "quantizer":
            return _of_quantizer(*path.split("/")[1:])
        place, is_decoder = "/".join(layer), side == "decoder"
        if place == "in":
            return leaf_name(self.first[is_decoder], leaf)
        if place in ("out", "out_activation"):
            found = self.last if place == "out" else self.last_activation
            name = found[is_decoder].format(end=levels + 1, after=levels + 2)
            return leaf_name(name, leaf)
        _, level, kind, *rest = layer[0].split("_")
        number = levels - 1 - int(level) if is_decoder else int(level)
        block = self.block[is_decoder].format(level=number, next=number + 1)
        if kind == "block":
            unit = self.unit.format(number=int(rest[0]) + self.unit_from[is_decoder])
            return leaf_name(f"{block}.{unit}.{self.parts[layer[1]]}", leaf)
        part = self.activation if rest else self.resample
        return leaf_name(f"{block}.{part[is_decoder]}", leaf)


TRANSFORMERS = Names(
    first=("encoder.conv1", "decoder.conv1"),
    last=("encoder.conv2", "decoder.conv2"),
    last_activation=("encoder.snake1", "decoder.snake1"),
    block=("encoder.block.{level}", "decoder.block.{level}"),
    resample=("conv1", "conv_t1"),
    activation=("snake1", "snake1"),
    unit="res_unit{number}",
    unit_from=(1, 1),
    parts={
        "activation_1": "snake1",
        "conv_1": "conv1",
        "activation_2": "snake2",
        "conv_2": "conv2",
    },
)
ORIGINAL = Names(
    first=("encoder.block.0", "decoder.model.0"),
    last=("encoder.block.{after}", "decoder.model.{after}"),
    last_activation=("encoder.block.{end}", "decoder.model.{end}"),
    block=("encoder.block.{next}", "decoder.model.{next}"),
    resample=("block.4", "block.1"),
    activation=("block.3", "block.0"),
    unit="block.{number}.block",
    unit_from=(0, 2),
    parts={"activation_1": "0", "conv_1": "1", "activation_2": "2", "conv_2": "3"},
)
RATE = "sample_rate"


def convert(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Imported:
    """Returns the tokenizer of a folder of transformers.

    Args:
        config: content of config.json.
        tensors: tensors of the weights.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    config, channels = dict(config), whole(dict(config), "encoder_hidden_size", 64)
    strides = tuple(listed(config, "downsampling_ratios", int, LEVELS, [2, 4, 8, 8]))
    sizes = {
        "dim": whole(config, "hidden_size", channels * 2 ** len(strides)),
        "depth": whole(config, "n_codebooks", 9, CODEBOOKS),
        "codebook_size": whole(config, "codebook_size", 1024),
        "code_dim": whole(config, "codebook_dim", 8),
    }
    decoder = whole(config, "decoder_hidden_size", 1536)
    model = _model(channels, decoder, strides)
    rate = whole(config, "sampling_rate", 16000, RATES)
    return _build(model, TRANSFORMERS, without_weight_norm(tensors), rate=rate, **sizes)


def is_dac(tensors: Mapping[str, Stored]) -> bool:
    """Returns whether the tensors have the names of the original code of DAC."""
    return any(re.match(r"decoder\.model\.1\.block\.1\.", name) for name in tensors)


def convert_original(tensors: Mapping[str, Stored], metadata: Mapping[str, Any]) -> Imported:
    """Returns the tokenizer of a file that DAC's own code has written.

    Args:
        tensors: tensors of the file; their shapes determine the network.
        metadata: the file's metadata, of which only the sampling rate is used.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the file does not state its sampling rate.
    """
    rate = metadata.get(RATE)
    if type(rate) is not int or not 1 <= rate <= RATES:
        raise ValueError(
            f"the checkpoint of DAC must state a {RATE} from 1 to {RATES:,} in its metadata, got "
            f"{rate!r:.20}; use the file as it was published, or a folder that transformers saved"
        )
    tensors = without_weight_norm(tensors)
    found = {
        int(m[1]) for m in (re.match(r"decoder\.model\.(\d{1,2})\.block", n) for n in tensors) if m
    }
    levels = len(found)
    downs = [f"encoder.block.{level + 1}.block.4.weight" for level in range(levels)]
    strides = tuple(max(1, size_of(tensors, name, 2) // 2) for name in downs)
    first = "quantizer.quantizers.0"
    sizes = {
        "dim": size_of(tensors, f"{first}.out_proj.bias"),
        "depth": len(_numbers(tensors, r"quantizer\.quantizers\.(\d{1,3})\.")),
        "codebook_size": size_of(tensors, f"{first}.codebook.weight"),
        "code_dim": size_of(tensors, f"{first}.codebook.weight", 1),
    }
    channels, decoder = (size_of(tensors, f"{name}.bias") for name in ORIGINAL.first)
    return _build(_model(channels, decoder, strides), ORIGINAL, tensors, rate=rate, **sizes)


def _numbers(tensors: Mapping[str, Stored], pattern: str) -> set[str]:
    matches = (re.match(pattern, name) for name in tensors)
    return {found[1] for found in matches if found}


def _model(channels: int, decoder: int, strides: tuple[int, ...]) -> DAC:
    fields: dict[str, Any] = {"strides": strides, "norm": "none", "cut_odd": True}
    return DAC(channels=channels, decoder_channels=decoder, **fields)


def _build(
    model: DAC,
    names: Names,
    tensors: Mapping[str, Stored],
    *,
    rate: int,
    dim: int,
    depth: int,
    codebook_size: int,
    code_dim: int,
) -> Imported:
    code = VQ(
        codebook_size=codebook_size,
        dim=dim,
        code_dim=code_dim,
        bias=True,
        distance="angle",
        learning="gradient",
    )
    stats = tuple(VQUse(jnp.ones(codebook_size)) for _ in range(depth))

    def name(path: str) -> str:
        return names.of(path, len(model.strides))

    quantizer = RVQ(quantizer=code, depth=depth)
    return build(model, quantizer, stats, tensors, name, rate=rate, channels=1)


def _of_quantizer(level: str, leaf: str) -> str:
    layer, _, kind = leaf.partition("_")
    name = f"quantizer.quantizers.{level}"
    if layer == "codebook":
        return f"{name}.codebook.weight"
    return f"{name}.{layer}_proj.{kind or 'weight'}"
