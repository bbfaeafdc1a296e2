"""Import of diffusers folders with a `VQModel` or an `AutoencoderKL`.

`encode` of an imported AutoencoderKL returns the unscaled posterior mean. `scaling_factor` and
`shift_factor`, which belong to the diffusion model, are not imported, because vqdit measures the
statistics of latents itself.
"""

import json
from pathlib import Path
from typing import Any

from vqdit.models import VQGAN
from vqdit.pretrained.archive import Stored, read_tensors
from vqdit.pretrained.layout import Imported, Names, build, nearest

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
BLOCKS = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
"""Supported kinds of levels, and whether they have attention."""
CODEBOOK = "quantize.embedding.weight"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def is_diffusers(folder: Path) -> bool:
    """Returns whether the folder has a config.json that names a diffusers class."""
    try:
        return "_class_name" in json.loads((folder / "config.json").read_text())
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False


def convert(folder: Path, size: int) -> Imported:
    """Returns the tokenizer in a folder.

    Args:
        folder: folder with config.json and weights, as `save_pretrained` writes it.
        size: edge of the images in pixels.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `VQGAN` does not support the model.
    """
    config = json.loads((folder / "config.json").read_text())
    model = _model(config)
    tensors = {_renamed(name): tensor for name, tensor in weights(folder).items()}
    if config["_class_name"] == "AutoencoderKL":
        return build(model, NAMES, tensors, size=size, dim=config["latent_channels"])
    return build(model, NAMES, tensors, size=size, codebook=nearest(tensors, CODEBOOK))


def _model(config: dict[str, Any]) -> VQGAN:
    kind = config["_class_name"]
    if kind not in ("VQModel", "AutoencoderKL"):
        raise ValueError(
            f"a {kind} of diffusers cannot be imported; use a VQModel, an AutoencoderKL or a "
            "DiTTransformer2DModel"
        )
    is_kl = kind == "AutoencoderKL"
    if config.get("norm_type", "group") != "group":
        raise ValueError(
            f"a VQModel with norm_type={config['norm_type']!r} (as in MoVQ) cannot be imported; "
            "use one with norm_type='group'"
        )
    if config.get("act_fn", "silu") not in ("silu", "swish"):
        raise ValueError(
            f"act_fn={config['act_fn']!r} cannot be imported; use a model with act_fn='silu'"
        )
    convolutions = {config.get(f"use_{name}", True) for name in ("quant_conv", "post_quant_conv")}
    if len(convolutions) > 1:
        raise ValueError(
            "a model in which use_quant_conv and use_post_quant_conv differ cannot be imported; "
            "use one in which they are equal"
        )
    return VQGAN(
        channels=tuple(config["block_out_channels"]),
        blocks=config.get("layers_per_block", 1),
        attention=_attention(config),
        middle_attention=config.get("mid_block_add_attention", True),
        z_channels=config["latent_channels"],
        double_z=is_kl,
        quant_conv=convolutions.pop(),
        groups=config.get("norm_num_groups", 32),
    )


def _attention(config: dict[str, Any]) -> tuple[int, ...]:
    """Returns the levels with attention, which must be the same in encoder and decoder."""
    down = list(config["down_block_types"])
    up = [kind.replace("UpDecoder", "DownEncoder") for kind in reversed(config["up_block_types"])]
    for kind in (*down, *up):
        if kind not in BLOCKS:
            raise ValueError(
                f"a level of kind {kind} cannot be imported; only {', '.join(BLOCKS)} can"
            )
    if down != up or len(down) != len(config["block_out_channels"]):
        raise ValueError(
            "a model whose down_block_types, up_block_types and block_out_channels do not mirror "
            "one another cannot be imported; use one with a symmetric encoder and decoder"
        )
    return tuple(level for level, kind in enumerate(down) if BLOCKS[kind])


def weights(folder: Path) -> dict[str, Stored]:
    """Returns the tensors in a folder.

    Raises:
        FileNotFoundError: if the folder has no weights.
        ValueError: if it is unclear which of several files holds the weights.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_tensors(folder / name)
    for name in WEIGHTS:
        if (folder / f"{name}.index.json").is_file():
            return _from_shards(folder / f"{name}.index.json")
    found = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    if len(found) == 1:
        return read_tensors(found[0])
    if found:
        names = ", ".join(file.name for file in found)
        raise ValueError(
            f"{folder} has several weights, {names}; rename the one to import to {WEIGHTS[0]}"
        )
    raise FileNotFoundError(f"no weights in {folder}: it has no {WEIGHTS[0]}; add the file")


def _from_shards(index: Path) -> dict[str, Stored]:
    files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    missing = [name for name in files if not (index.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no {missing[0]} in {index.parent}, which {index.name} names; add the file"
        )
    tensors: dict[str, Stored] = {}
    for name in files:
        tensors |= read_tensors(index.parent / name)
    return tensors


def _renamed(name: str) -> str:
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name
