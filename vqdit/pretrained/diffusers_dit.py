"""Import and export of diffusers folders with a `DiTTransformer2DModel`.

The diffusers port differs from the original DiT in three ways: its time embedding divides by 127
instead of 128, the norm before each MLP has another epsilon, and every block has its own copy of
the embedders of time and label. The fields `time_shift` and `mlp_eps` of `DiT` cover the first two
differences. Import requires that all copies of the embedders are equal.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.models.dit import DiT
from vqdit.pretrained.archive import Stored
from vqdit.pretrained.diffusers import WEIGHTS, weights
from vqdit.pretrained.layout import mismatch
from vqdit.pretrained.transformer import (
    IMAGE,
    LABEL,
    Names,
    Pretrained,
    check_positions,
    fill,
    inputs_of,
    spread,
)
from vqdit.processes import DDPM

CLASS = "DiTTransformer2DModel"
OLD_CLASS = "Transformer2DModel"
"""The class name in earlier versions of diffusers, which the published folders use."""
EMBEDDER = "transformer_blocks.{block}.norm1.emb."
FIRST = EMBEDDER.format(block=0)
NAMES = Names(
    patch="pos_embed.proj",
    time=(FIRST + "timestep_embedder.linear_1", FIRST + "timestep_embedder.linear_2"),
    labels=FIRST + "class_embedder.embedding_table",
    modulation="transformer_blocks.{block}.norm1.linear",
    qkv=(
        "transformer_blocks.{block}.attn1.to_q",
        "transformer_blocks.{block}.attn1.to_k",
        "transformer_blocks.{block}.attn1.to_v",
    ),
    out="transformer_blocks.{block}.attn1.to_out.0",
    mlp=("transformer_blocks.{block}.ff.net.0.proj", "transformer_blocks.{block}.ff.net.2"),
    head_modulation="proj_out_1",
    head="proj_out_2",
)
POSITIONS = "pos_embed.pos_embed"
FIXED = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "norm_type": "ada_norm_zero",
}
"""Config values that must have these defaults; models with other values cannot be imported."""
SIZES = {
    "in_channels": 4,
    "out_channels": None,
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "sample_size": 32,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
    "norm_eps": 1e-5,
}
"""Config values that describe the architecture, with their defaults."""
EXPRESSED = (
    "depth",
    "dim",
    "heads",
    "patch",
    "dtype",
    "remat",
    "attention",
    "mlp_eps",
    "time_shift",
)
"""Fields of `DiT` that a folder can express, or that do not change the result."""


def is_dit(folder: Path) -> bool:
    """Returns whether a diffusers folder holds a DiT."""
    config = json.loads((folder / "config.json").read_text())
    is_old = config.get("_class_name") == OLD_CLASS and config.get("norm_type") == "ada_norm_zero"
    return is_old or config.get("_class_name") == CLASS


def convert(folder: Path) -> Pretrained:
    """Returns the network in a folder.

    Args:
        folder: folder with config.json and weights, as `save_pretrained` writes it.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `DiT` does not support the network.
    """
    config = json.loads((folder / "config.json").read_text())
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(f"{name}={config[name]!r} cannot be imported; only {value!r} can")
    sizes = SIZES | {name: config[name] for name in SIZES if name in config}
    model = DiT(
        depth=sizes["num_layers"],
        dim=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        heads=sizes["num_attention_heads"],
        patch=sizes["patch_size"],
        time_shift=1,
        mlp_eps=sizes["norm_eps"],
    )
    inputs = inputs_of(
        sizes["sample_size"],
        sizes["in_channels"],
        sizes["out_channels"] or sizes["in_channels"],
        sizes["num_embeds_ada_norm"],
    )
    tensors = _without_copies(weights(folder), model.depth)
    side = sizes["sample_size"] // model.patch
    if POSITIONS in tensors:
        check_positions(model, (side, side), tensors.pop(POSITIONS))
    process = DDPM(learned_sigma=inputs[IMAGE].output != inputs[IMAGE].width)
    return Pretrained(model, inputs, fill(model, inputs, NAMES, tensors), process)


def _without_copies(tensors: Mapping[str, Stored], depth: int) -> dict[str, Stored]:
    """Returns the tensors without the embedders of later blocks, which must equal the first."""
    first = [name.removeprefix(FIRST) for name in tensors if name.startswith(FIRST)]
    copies = {
        EMBEDDER.format(block=n) + part: FIRST + part for n in range(1, depth) for part in first
    }
    missing = [name for name in copies if name not in tensors]
    if missing:
        raise mismatch(missing=missing)
    for name, original in copies.items():
        if not np.array_equal(tensors[name].read(), tensors[original].read()):
            raise ValueError(
                f"{name} differs from {original}, but all blocks must embed time and label in the "
                "same way; this model cannot be imported"
            )
    return {name: tensor for name, tensor in tensors.items() if name not in copies}


def write(found: Pretrained, folder: Path, *, option: str = "folder") -> Path:
    """Writes a folder that `DiTTransformer2DModel.from_pretrained` loads, with the same outputs.

    The timestep of the diffusers model is the value that the network embeds: 1000 t for `Flow`, the
    index of the step for `DDPM`.

    Args:
        found: the network, whose target must be called `image` and whose condition `label`.
        folder: a new or empty folder.
        option: name of the caller's option that sets the folder, for error messages.

    Raises:
        ValueError: if diffusers does not support the network, or the folder already contains a
            model.
        OSError: if the folder cannot be written.
    """
    from safetensors.flax import save_file

    config = _config(found)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} already holds a model; choose another {option}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = spread(found.model, NAMES, found.params)
    for block in range(1, found.model.depth):
        copies = {
            name.replace(FIRST, EMBEDDER.format(block=block)): tensor
            for name, tensor in tensors.items()
            if name.startswith(FIRST)
        }
        tensors |= copies
    save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return folder


def _config(found: Pretrained) -> dict[str, Any]:
    model, (image, label) = found.model, (found.inputs[IMAGE], found.inputs[LABEL])
    plain = DiT(**{name: getattr(model, name) for name in EXPRESSED})
    for field in dataclasses.fields(DiT):
        value, other = getattr(model, field.name), getattr(plain, field.name)
        if value != other:
            raise ValueError(
                f"a DiT with {field.name}={value!r} cannot be exported: diffusers supports only "
                f"{other!r}; train one with --task.model.{field.name}={other}"
            )
    if not image.width or len(set(image.grid)) != 1 or len(image.grid) != 2:
        grid = "x".join(map(str, image.grid))
        raise ValueError(
            f"a DiT over {'latents' if image.width else 'codes'} of {grid} cannot be exported; "
            "the DiT of diffusers needs square latents"
        )
    if label.route != "adaln":
        raise ValueError(
            f"a DiT with a condition of route={label.route!r} cannot be exported; the DiT of "
            "diffusers needs a label (route='adaln')"
        )
    if model.time_shift != 1:
        raise ValueError(
            f"a DiT with time_shift={model.time_shift} cannot be exported, because diffusers uses "
            "other frequencies in its time embedding; train with --task.model.time_shift=1"
        )
    return {
        "_class_name": CLASS,
        **FIXED,
        "in_channels": image.width,
        "out_channels": image.output,
        "num_layers": model.depth,
        "num_attention_heads": model.heads,
        "attention_head_dim": model.dim // model.heads,
        "sample_size": image.grid[0],
        "patch_size": model.patch,
        "num_embeds_ada_norm": label.codes,
        "norm_eps": model.mlp_eps,
    }
