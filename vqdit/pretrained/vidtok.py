"""Imports diffusers folders with an `AutoencoderVidTok`, the causal tokenizers of VidTok.

Tang et al., "VidTok: A Versatile and Open-Source Video Tokenizer", arXiv:2412.13061. The original
puts stride - 1 copies of the first frame before a clip, and drops as many decoded frames. All its
layers pad clips with copies of the first frame, so `VideoAutoencoder` computes the same without
these additional frames.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Video
from vqdit.models import VideoAutoencoder
from vqdit.pretrained.diffusers import weights
from vqdit.pretrained.diffusers_config import CLASS, listed, same, whole
from vqdit.pretrained.layout import BLOCKS, LEVELS, Imported
from vqdit.pretrained.mismatch import Shape, check_shapes
from vqdit.pretrained.stored import Stored
from vqdit.quantizers import FSQ
from vqdit.regularizers import KL
from vqdit.runs.array_trees import flatten
from vqdit.tasks import KLTask, TokenizerTask
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.typing import Params

FRAMES = 17
"""Default number of frames of data sets, which cannot be inferred from weights."""
LEVELS_OF_DIGITS = 8
"""Number of values of each dimension of the codes."""
FIXED = {
    "in": "conv_in.conv",
    "out": "conv_out.conv",
    "norm": "norm_out.norm",
    "middle_block_0": "mid.block_1",
    "middle_block_1": "mid.block_2",
    "middle_attention": "mid.attn_1",
}
PARTS = {
    "norm_1": "norm1.norm",
    "norm_2": "norm2.norm",
    "shortcut": "nin_shortcut",
    "norm": "norm.norm",
    "q": "q.conv",
    "k": "k.conv",
    "v": "v.conv",
    "out": "proj_out.conv",
    "mix": "mix_factor",
}
LEAVES = {"kernel": "weight", "scale": "weight"}


def is_vidtok(config: Mapping[str, Any]) -> bool:
    """Returns whether the config.json is that of an AutoencoderVidTok."""
    return config[CLASS] == "AutoencoderVidTok"


def convert(folder: Path, config: dict[str, Any], size: int, frames: int) -> Imported:
    """Returns the tokenizer in a folder.

    Args:
        folder: folder with config.json and weights, written by `save_pretrained`.
        config: content of config.json.
        size: edge of the frames in pixels.
        frames: number of frames of a clip.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the model is not causal, or has what `VideoAutoencoder` does not support.
    """
    same(config, "is_causal", True)
    same(config, "regularizer", "kl", "fsq")
    is_kl, dim = config.get("regularizer", "kl") == "kl", whole(config, "z_channels", 4)
    same(config, "double_z", is_kl)
    channels = whole(config, "in_channels", 3, 3)
    same(config, "out_channels", channels)
    model = _model(config)
    modality = Video(frames=frames, size=(size, size), channels=channels)
    fields: dict[str, Any] = {"name": "video", "modality": modality, "model": model}
    if is_kl:
        task: AutoencoderTask = KLTask(**fields, regularizer=KL(dim=dim))
    else:
        quantizer = FSQ(levels=(LEVELS_OF_DIGITS,) * dim, bound="atanh")
        same(config, "codebook_size", *quantizer.codebook_sizes)
        task = TokenizerTask(**fields, quantizer=quantizer)
    _ = task.grid  # raises ValueError if the strides do not fit the clips
    abstract, stats = jax.eval_shape(task.blank)
    abstract = {side: abstract[side] for side in ("encoder", "decoder")}
    params = _filled(abstract, weights(folder))
    learned = {} if is_kl else {"quantizer": {}}
    return Imported(task, {**params, **learned}, {})


def _model(config: dict[str, Any]) -> VideoAutoencoder:
    width, factors = whole(config, "ch", 128), listed(config, "ch_mult", int, LEVELS, [1, 2, 4, 4])
    if factors[0] != 1:
        raise ValueError(
            f"a VidTok with ch_mult={factors} cannot be imported; ch_mult must begin with 1"
        )
    last = len(factors) - 1
    space, time = _strides(config, "ds", range(last), (last - 2, last - 1))
    space_up, time_up = _strides(config, "us", range(1, last + 1), (1, 2))
    return VideoAutoencoder(
        channels=tuple(width * factor for factor in factors),
        blocks=whole(config, "num_res_blocks", 2, BLOCKS),
        time_strides=time,
        space_strides=space,
        decoder_time_strides=time_up,
        decoder_space_strides=space_up,
        middle_attention=True,
        norm="layer",
        upsampling="linear",
    )


def _strides(
    config: dict[str, Any], kind: str, levels: range, usual: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the strides in space and in time between the levels."""
    found = []
    for axis, default in (("spatial", list(levels)), ("tempo", list(usual))):
        name = f"{axis}_{kind}"
        given = default if config.get(name) is None else listed(config, name, int, LEVELS)
        if not set(given) <= set(found[0] if found else levels):
            raise ValueError(
                f"{name}={given} cannot be imported; it must list levels from {levels[0]} to "
                f"{levels[-1]} at which space is resampled too"
            )
        found.append(given)
    space, time = (tuple(1 + (level in given) for level in levels) for given in found)
    return space, time


def _name(path: str) -> str:
    """Returns the original name of a parameter.

    Args:
        path: path of the parameter, such as "encoder/level_0_time_1/conv_1/kernel".
    """
    side, module, *parts, leaf = path.split("/")
    is_decoder, is_level = side == "decoder", module.startswith("level")
    is_causal = not is_level or "_time_" in module  # convolutions of frames have no padding
    if is_level:
        _, level, kind, *more = module.split("_")
        stack = f"{'up' if is_decoder else 'down'}{'_temporal' if kind == 'time' else ''}.{level}"
        is_block = more and more[0].isdigit()
        inner = f"block.{more[0]}" if is_block else f"{'up' if is_decoder else 'down'}sample"
        names = [side, stack, inner]
    else:
        names = [side, FIXED[module]]
    for part in (*parts, leaf):
        if part.startswith("conv"):
            part = part.replace("_", "") + (".conv" if is_causal else "")
        elif part == "shortcut" and is_causal:
            part = "nin_shortcut.conv"
        names.append(LEAVES.get(part) or PARTS.get(part, part))
    return ".".join(names)


def _filled(abstract: Params, tensors: Mapping[str, Stored]) -> Params:
    leaves = {_name(path): leaf.shape for path, leaf in flatten(abstract).items()}
    foreign = {name: _foreign(shape) for name, shape in leaves.items()}
    check_shapes(foreign, tensors, _squeezed)
    filled = [_ours(tensors[name], foreign[name], shape) for name, shape in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(abstract), filled)


def _foreign(shape: Shape) -> Shape:
    return (*reversed(shape[-2:]), *shape[:-2]) if len(shape) > 1 else shape


def _squeezed(shape: Shape) -> Shape:
    """Returns the shape without kernel axes of length 1, which only one of the two models has."""
    return (*shape[:2], *(size for size in shape[2:] if size > 1))


def _ours(tensor: Stored, foreign: Shape, shape: Shape) -> Any:
    array = tensor.read().astype(np.float32).reshape(foreign)
    if len(shape) > 1:
        array = array.transpose(*range(2, len(shape)), 1, 0)
    return jnp.asarray(np.ascontiguousarray(array))
