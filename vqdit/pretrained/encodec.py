"""Import of EnCodec from folders in the layout of transformers: `EncodecModel`.

Defossez et al., "High Fidelity Neural Audio Compression", arXiv:2210.13438.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vqdit.models import SEANet
from vqdit.models.conv_codec import ConvCodec
from vqdit.pretrained.codec import (
    CODEBOOKS,
    RATES,
    build,
    leaf_name,
    with_summed_biases,
    without_weight_norm,
)
from vqdit.pretrained.diffusers_config import flag, listed, positive, same, whole
from vqdit.pretrained.layout import BLOCKS, LEVELS, Imported
from vqdit.pretrained.mismatch import tensor_of
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import RVQ, VQ
from vqdit.quantizers.vq import VQStats

TRAINING = (".codebook.inited", ".codebook.cluster_size", ".codebook.embed_avg")
"""Suffixes of the names of tensors that only training needs."""
BLOCK = {"conv_1": "block.1", "conv_2": "block.3", "shortcut": "shortcut"}
"""Layers of a residual block."""


def convert(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Imported:
    """Returns the tokenizer of a folder.

    Args:
        config: content of config.json.
        tensors: tensors of the weights.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `SEANet` does not support the model.
    """
    config, tensors = dict(config), with_summed_biases(without_weight_norm(tensors))
    dim = whole(config, "hidden_size", 128)
    same(config, "codebook_dim", None, dim)
    same(config, "norm_type", "weight_norm", "time_group_norm")
    is_normed = config.get("norm_type") == "time_group_norm"
    strides = tuple(reversed(listed(config, "upsampling_ratios", int, LEVELS, [8, 5, 4, 2])))
    last = whole(config, "last_kernel_size", 7)
    model = SEANet(
        **convolutions(config),
        strides=strides,
        last_width=(last, last),
        conv_shortcut=flag(config, "use_conv_shortcut"),
        padding=padding(config, "reflect"),
        norm="time_group_norm" if is_normed else "none",
        layers=whole(config, "num_lstm_layers", 2, LEVELS),
        normalize=flag(config, "normalize", False),
    )
    size, rate = whole(config, "codebook_size", 1024), whole(config, "sampling_rate", 24_000, RATES)
    depth = _depth(config, size, rate, model)
    books = [f"quantizer.layers.{level}.codebook.embed" for level in range(depth)]
    rows = [jnp.asarray(tensor_of(tensors, book).read()) for book in books]
    stats = tuple(VQStats(book, jnp.ones(len(book)), book) for book in rows)
    quantizer = RVQ(quantizer=VQ(codebook_size=size, dim=dim), depth=depth)
    tensors = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith(TRAINING) and name not in books
    }
    layers = names(model, has_lstm=True)

    def name(path: str) -> str:
        layer, _, leaf = path.rpartition("/")
        if leaf.startswith("layer_"):
            _, number, kind = leaf.split("_")
            kinds = {"input": "weight_ih", "hidden": "weight_hh", "bias": "bias"}
            return f"{layers[layer]}.lstm.{kinds[kind]}_l{number}"
        if layer.endswith("/norm"):
            return leaf_name(f"{layers[layer.removesuffix('/norm')]}.norm", leaf)
        return leaf_name(f"{layers[layer]}.conv", leaf)

    channels = whole(config, "audio_channels", 1, 2)
    return build(model, quantizer, stats, tensors, name, rate=rate, channels=channels)


def convolutions(config: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of `ConvCodec` that the configs of EnCodec and Mimi both have."""
    is_causal = flag(config, "use_causal_conv")
    return {
        "channels": whole(config, "num_filters", 32),
        "blocks": whole(config, "num_residual_layers", 1, BLOCKS),
        "dilation": whole(config, "dilation_growth_rate", 2),
        "compress": whole(config, "compress", 2),
        "width": whole(config, "kernel_size", 7),
        "block_width": whole(config, "residual_kernel_size", 3),
        "causal": is_causal,
        "trim_right": float(positive(config, "trim_right_ratio", 1.0)) if is_causal else 1.0,
    }


def padding(config: dict[str, Any], default: str) -> Any:
    """Returns the padding mode of a config."""
    same(config, "pad_mode", "reflect", "constant", "replicate")
    return config.get("pad_mode", default)


def names(model: ConvCodec, *, has_lstm: bool) -> dict[str, str]:
    """Returns torch's name of every layer, keyed by the path of the layer's parameters.

    Torch numbers all elements of a list of layers, including activations and an LSTM.
    """
    found: dict[str, str] = {}
    lstm = [None] if has_lstm else []
    encoder = [*model.encoder_steps(), *lstm, model.last(1, True)]
    decoder = [model.first(), *lstm, *model.decoder_steps(), model.last(1, False)]
    for side, steps in (("encoder", encoder), ("decoder", decoder)):
        place, part = -1, "front" if has_lstm or side == "encoder" else "back"
        for step in steps:
            place += 1
            if step is None:
                found[f"{side}/lstm"], part = f"{side}.layers.{place}", "back"
                continue
            path = f"{side}/{part}/{step.name}"
            if step.kind == "block":
                for own, theirs in BLOCK.items():
                    found[f"{path}/{own}"] = f"{side}.layers.{place}.{theirs}"
                continue
            place += not step.is_first  # the activation
            found[path] = f"{side}.layers.{place}"
    return found


def _depth(config: dict[str, Any], size: int, rate: int, model: SEANet) -> int:
    """Returns the number of codebooks that the largest bandwidth needs."""
    default = [1.5, 3.0, 6.0, 12.0, 24.0]
    bandwidths = listed(config, "target_bandwidths", float, 64, default)
    frames = math.ceil(rate / model.downsampling)
    depth = int(1000 * bandwidths[-1] // (frames * math.ceil(math.log2(size))))
    if not 1 <= depth <= CODEBOOKS:
        raise ValueError(
            f"target_bandwidths up to {bandwidths[-1]} kbit/s at {frames} tokens per second "
            f"need {depth} codebooks, but only 1 to {CODEBOOKS} can be imported"
        )
    return depth
