"""Imports diffusers folders with a `VQModel` or an `AutoencoderKL`.

`encode` of an imported AutoencoderKL returns the unscaled posterior mean. `scaling_factor` and
`shift_factor`, which belong to the diffusion model, are not imported, because vqdit measures the
statistics of latents itself.
"""

import reprlib
from pathlib import Path
from typing import Any

from vqdit.files import read_json
from vqdit.models import VQGAN
from vqdit.pretrained.archive import read_tensors
from vqdit.pretrained.diffusers_config import CLASS, flag, listed, same, whole
from vqdit.pretrained.layout import BLOCKS, LEVELS, Imported, Names, build, nearest
from vqdit.pretrained.stored import Stored, damaged, escaped

NAMES = Names(
    block=("down_blocks.{level}.resnets.{number}", "up_blocks.{rising}.resnets.{number}"),
    attention=("down_blocks.{level}.attentions.{number}", "up_blocks.{rising}.attentions.{number}"),
    resample=(
        "down_blocks.{level}.downsamplers.{number}.conv",
        "up_blocks.{rising}.upsamplers.{number}.conv",
    ),
    middle=("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1"),
    norm="conv_norm_out",
    shortcut="conv_shortcut",
    attention_parts=("group_norm", "to_q", "to_k", "to_v", "to_out.0"),
)
RENAMED = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Names of the attention layers before diffusers 0.15, and the current names."""
KINDS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
"""Supported kinds of levels, and whether they have attention."""
CODEBOOK = "quantize.embedding.weight"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def convert(folder: Path, config: dict[str, Any], size: int) -> Imported:
    """Returns the tokenizer in a folder.

    Args:
        folder: folder with config.json and weights, written by `save_pretrained`.
        config: content of config.json.
        size: edge of the images in pixels.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `VQGAN` does not support the model.
    """
    model = _model(config)
    tensors = {_renamed(name): tensor for name, tensor in weights(folder).items()}
    if model.double_z:
        return build(model, NAMES, tensors, size=size, dim=whole(config, "latent_channels"))
    return build(model, NAMES, tensors, size=size, codebook=nearest(tensors, CODEBOOK))


def _model(config: dict[str, Any]) -> VQGAN:
    kind = config[CLASS]
    if kind not in ("VQModel", "AutoencoderKL"):
        raise ValueError(
            f"a {escaped(kind)} of diffusers cannot be imported; use a VQModel, an AutoencoderKL, "
            "an AutoencoderVidTok or a DiTTransformer2DModel"
        )
    if config.get("norm_type", "group") != "group":
        raise ValueError(
            f"a VQModel with norm_type={reprlib.repr(config['norm_type'])} (as in MoVQ) cannot "
            "be imported; use one with norm_type='group'"
        )
    same(config, "act_fn", "silu", "swish")
    convolutions = {flag(config, f"use_{name}") for name in ("quant_conv", "post_quant_conv")}
    if len(convolutions) > 1:
        raise ValueError(
            "a model in which use_quant_conv and use_post_quant_conv differ cannot be imported; "
            "use one in which they are equal"
        )
    return VQGAN(
        channels=tuple(listed(config, "block_out_channels", int, LEVELS)),
        blocks=whole(config, "layers_per_block", 1, BLOCKS),
        attention=_attention(config),
        middle_attention=flag(config, "mid_block_add_attention"),
        z_channels=whole(config, "latent_channels"),
        double_z=kind == "AutoencoderKL",
        quant_conv=convolutions.pop(),
        groups=whole(config, "norm_num_groups", 32),
    )


def _attention(config: dict[str, Any]) -> tuple[int, ...]:
    """Returns the levels with attention, which must be the same in encoder and decoder."""
    down = listed(config, "down_block_types", str, LEVELS)
    up = listed(config, "up_block_types", str, LEVELS)
    up = [kind.replace("UpDecoder", "DownEncoder") for kind in reversed(up)]
    for kind in (*down, *up):
        if kind not in KINDS:
            raise ValueError(
                f"a level of kind {escaped(kind)} cannot be imported; supported are "
                f"{', '.join(KINDS)}"
            )
    if down != up or len(down) != len(config["block_out_channels"]):
        raise ValueError(
            "a model whose down_block_types, up_block_types and block_out_channels do not mirror "
            "one another cannot be imported; use one with a symmetric encoder and decoder"
        )
    return tuple(level for level, kind in enumerate(down) if KINDS[kind])


def weights(folder: Path) -> dict[str, Stored]:
    """Returns the tensors in a folder.

    Raises:
        FileNotFoundError: if the folder has no weights.
        ValueError: if it is unclear which of several files has the weights.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_tensors(folder / name)
    for name in WEIGHTS:
        if (folder / f"{name}.index.json").is_file():
            return _from_shards(folder / f"{name}.index.json")
    patterns = ("*.index.*.json", "*.safetensors", "*.bin")
    found = next((files for files in map(sorted, map(folder.glob, patterns)) if files), [])
    if len(found) == 1:
        return (_from_shards if found[0].suffix == ".json" else read_tensors)(found[0])
    if found:
        names = ", ".join(map(escaped, (file.name for file in found)))
        raise ValueError(
            f"{folder} has several weights, {names}; rename the one to import to {WEIGHTS[0]}, or "
            "remove the others"
        )
    raise FileNotFoundError(f"no weights in {folder}: it has no {WEIGHTS[0]}; add the file")


def _from_shards(index: Path) -> dict[str, Stored]:
    """Returns the tensors of the files that an index lists; these files must be in its folder."""
    files = sorted(set(read_json(index, {"weight_map": {str: str}})["weight_map"].values()))
    for name in files:
        if name in ("", ".", "..") or set(name) & set("/\\\0"):
            raise damaged(index, f"it lists the file {name!r}, which is not in the same folder")
        if not (index.parent / name).is_file():
            raise FileNotFoundError(
                f"no {escaped(name)} in {index.parent}, which {index.name} lists; add the file"
            )
    tensors: dict[str, Stored] = {}
    for name in files:
        tensors |= read_tensors(index.parent / name)
    return tensors


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name
