"""Import of Mimi from folders in the layout of transformers: `MimiModel`.

Defossez et al., "Moshi", arXiv:2410.00037.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vqdit.models import Mimi
from vqdit.pretrained.codec import CODEBOOKS, RATES, build, leaf_name, without_weight_norm
from vqdit.pretrained.diffusers_config import listed, positive, same, whole
from vqdit.pretrained.encodec import convolutions, names, padding
from vqdit.pretrained.layout import LEVELS, Imported
from vqdit.pretrained.mismatch import tensor_of
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import RVQ, VQ, Projected, Quantizer, SplitVQ
from vqdit.quantizers.vq import VQStats
from vqdit.typing import Stats

DEPTH = 64
"""Largest number of layers of a transformer that can be imported."""
PARTS = ("semantic", "acoustic")
LAYERS = {
    "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
    "scale_1": "self_attn_layer_scale.scale",
    "scale_2": "mlp_layer_scale.scale",
}
"""Names of the parts of a transformer layer."""
LEAST = 1e-5
"""Lower bound of the count that divides the sum of a code's vectors."""


def convert(config: Mapping[str, Any], tensors: Mapping[str, Stored]) -> Imported:
    """Returns the tokenizer of a folder.

    Args:
        config: content of config.json.
        tensors: tensors of the weights.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `Mimi` does not support the model.
    """
    config, tensors = dict(config), without_weight_norm(tensors)
    dim, heads = whole(config, "hidden_size", 512), whole(config, "num_attention_heads", 8)
    rope = config.get("rope_parameters") or {"rope_theta": config.get("rope_theta", 1e4)}
    same(config, "num_key_value_heads", heads)
    same(config, "head_dim", None, dim // heads)
    same(config, "hidden_act", "gelu")
    same(config, "attention_bias", False)
    same(config, "use_conv_shortcut", False, True)
    same(rope, "rope_type", "default")
    strides = tuple(reversed(listed(config, "upsampling_ratios", int, LEVELS, [8, 6, 5, 4])))
    rate, last = whole(config, "sampling_rate", 24_000, RATES), whole(config, "last_kernel_size", 3)
    model = Mimi(
        **convolutions(dict({"num_filters": 64}, **config)),
        strides=strides,
        last_width=(last, last),
        conv_shortcut=config.get("use_conv_shortcut", False),
        padding=padding(config, "constant"),
        token_stride=_token_stride(config, rate, math.prod(strides)),
        layers=whole(config, "num_hidden_layers", 8, DEPTH),
        heads=heads,
        window=whole(config, "sliding_window", 250),
        hidden=whole(config, "intermediate_size", 2048),
        base=float(positive(rope, "rope_theta", 1e4)),
        epsilon=float(positive(config, "norm_eps", 1e-5)),
        token_groups=whole(config, "upsample_groups", 512),
    )
    quantizer, stats, used = _quantizer(config, tensors, dim)
    tensors = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in used and not name.endswith(".codebook.initialized")
    }
    layers = names(model, has_lstm=False)

    def name(path: str) -> str:
        side, part, *rest, leaf = path.split("/")
        if side == "quantizer":
            book = f"quantizer.{PARTS[int(part)]}_residual_vector_quantizer"
            return f"{book}.{leaf}put_proj.weight"
        if part == "transformer":
            layer = f"{side}_transformer.layers.{rest[0].removeprefix('layer_')}"
            if len(rest) == 1:
                return f"{layer}.{LAYERS[leaf]}"
            return leaf_name(f"{layer}.{LAYERS[rest[1]]}", leaf)
        if part in ("up", "down"):
            return leaf_name(f"{part}sample.conv", leaf)
        return leaf_name(f"{layers[path.removesuffix('/' + leaf)]}.conv", leaf)

    channels = whole(config, "audio_channels", 1, 2)
    return build(model, quantizer, stats, tensors, name, rate=rate, channels=channels)


def _token_stride(config: dict[str, Any], rate: int, hop: int) -> int:
    """Returns the ratio of the rates before and after the last convolution of the encoder."""
    frames = positive(config, "frame_rate", rate / (2 * hop))
    stride = int(math.ceil(rate / hop) / frames)
    if stride < 2:
        raise ValueError(
            f"a Mimi with frame_rate={frames:g} cannot be imported: frame_rate must be at most "
            "half of the rate after the strided convolutions of its encoder"
        )
    return stride


def _quantizer(
    config: dict[str, Any], tensors: Mapping[str, Stored], dim: int
) -> tuple[Quantizer, Stats, set[str]]:
    """Returns the quantizer, its statistics, and the names of the tensors that were used."""
    size, width = whole(config, "codebook_size", 2048), whole(config, "codebook_dim", 256)
    same(config, "vector_quantization_hidden_dimension", width)
    count = whole(config, "num_quantizers", 32, CODEBOOKS)
    first = whole(config, "num_semantic_quantizers", 1, max(1, count - 1))
    parts, stats, used = [], [], set()
    for part, depth in zip(PARTS, (first, count - first), strict=True):
        levels = []
        for level in range(depth):
            book = f"quantizer.{part}_residual_vector_quantizer.layers.{level}.codebook"
            names = [f"{book}.embed_sum", f"{book}.cluster_usage"]
            total, usage = (jnp.asarray(tensor_of(tensors, name).read()) for name in names)
            rows = total / jnp.maximum(usage, LEAST)[:, None]
            levels.append(VQStats(rows, usage, total))
            used.update(names)
        rvq = RVQ(quantizer=VQ(codebook_size=size, dim=width), depth=depth)
        parts.append(rvq if width == dim else Projected(quantizer=rvq, dim=dim))
        stats.append(tuple(levels))
    return SplitVQ(semantic=parts[0], acoustic=parts[1]), tuple(stats), used
