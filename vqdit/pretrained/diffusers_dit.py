"""Imports and exports diffusers folders with a `DiTTransformer2DModel`.

The diffusers port differs from the original DiT in three ways: its time embedding divides by 127
instead of 128, the norm before each MLP has another epsilon, and every block has its own embedders
of time and label. The fields `time_shift`, `mlp_eps` and `embedders` of `DiT` represent these
differences. In the published folders, the embedders of all blocks are equal and are imported once;
after training with diffusers, they differ.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vqdit.files import write_json
from vqdit.models.dit import DiT
from vqdit.pretrained.diffusers import WEIGHTS, weights
from vqdit.pretrained.diffusers_config import CLASS, positive, same, whole
from vqdit.pretrained.mismatch import check_shapes, mismatch, tensor_of
from vqdit.pretrained.stored import Stored
from vqdit.pretrained.transformer import (
    DEPTH,
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

KIND = "DiTTransformer2DModel"
OLD_KIND = "Transformer2DModel"
"""The class name in earlier versions of diffusers, which occurs in the published folders."""
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
OWN_NAMES = NAMES._replace(
    time=(
        EMBEDDER + "timestep_embedder.linear_1",
        EMBEDDER + "timestep_embedder.linear_2",
    ),
    labels=EMBEDDER + "class_embedder.embedding_table",
)
"""Names in a network whose blocks have different embedders, as after training with diffusers."""
POSITIONS = "pos_embed.pos_embed"
POSITIONS_MOST = 2**26
"""Largest number of values of the position embeddings: 128 x 128 positions of width 4096."""
FIXED = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "norm_type": "ada_norm_zero",
}
"""Config values that must have these defaults; models with other values cannot be imported."""
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
    "embedders",
)
"""Fields of `DiT` that a folder can represent, or that do not change the result."""


def is_dit(config: dict[str, Any]) -> bool:
    """Returns whether a config of diffusers describes a DiT."""
    is_old = config[CLASS] == OLD_KIND and config.get("norm_type") == "ada_norm_zero"
    return is_old or config[CLASS] == KIND


def convert(folder: Path, config: dict[str, Any]) -> Pretrained:
    """Returns the network in a folder.

    Args:
        folder: folder with config.json and weights, as `save_pretrained` writes it.
        config: content of config.json.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if `DiT` does not support the network.
    """
    for name, value in FIXED.items():
        same(config, name, value)
    heads, channels = whole(config, "num_attention_heads", 16), whole(config, "in_channels", 4)
    size, patch = whole(config, "sample_size", 32), whole(config, "patch_size", 2)
    outputs = config.get("out_channels")
    depth = whole(config, "num_layers", 28, DEPTH)
    tensors, names = _embedders(weights(folder), depth)
    model = DiT(
        depth=depth,
        dim=heads * whole(config, "attention_head_dim", 72),
        heads=heads,
        patch=patch,
        time_shift=1,
        mlp_eps=positive(config, "norm_eps", 1e-5),
        embedders="shared" if names is NAMES else "per_block",
    )
    # Checked first, because otherwise positions of any size would be computed.
    patches, expected = f"{names.patch}.weight", (model.dim, channels, patch, patch)
    check_shapes({patches: expected}, {patches: tensor_of(tensors, patches)})
    side = size // patch
    if side**2 * model.dim > POSITIONS_MOST:
        raise ValueError(
            f"sample_size={size} needs {side}x{side}x{model.dim} values for its positions; at most "
            f"{POSITIONS_MOST:,} can be imported"
        )
    inputs = inputs_of(
        size,
        channels,
        channels if outputs is None else whole(config, "out_channels"),
        whole(config, "num_embeds_ada_norm", 1000),
    )
    if POSITIONS in tensors:
        check_positions(model, (side, side), tensors.pop(POSITIONS))
    process = DDPM(learned_sigma=inputs[IMAGE].output != inputs[IMAGE].width)
    return Pretrained(model, inputs, fill(model, inputs, names, tensors), process)


def _embedders(tensors: dict[str, Stored], depth: int) -> tuple[dict[str, Stored], Names]:
    """Returns the tensors and their names; keeps one copy of embedders that all blocks share."""
    first = [name.removeprefix(FIRST) for name in tensors if name.startswith(FIRST)]
    copies = {
        EMBEDDER.format(block=n) + part: FIRST + part for n in range(1, depth) for part in first
    }
    missing = [name for name in copies if name not in tensors]
    if missing:
        raise mismatch(missing=missing)
    for name, original in copies.items():
        if not np.array_equal(tensors[name].read(), tensors[original].read()):
            return tensors, OWN_NAMES
    return {name: tensor for name, tensor in tensors.items() if name not in copies}, NAMES


def write(found: Pretrained, folder: Path, *, option: str = "folder") -> Path:
    """Writes a folder that `DiTTransformer2DModel.from_pretrained` loads, with the same outputs.

    The timestep of the diffusers model is the value that the network embeds: 1000 t for `Flow`, the
    index of the step for `DDPM`.

    Args:
        found: the network, whose target must be called `image` and whose condition `label`.
        folder: a new or empty folder.
        option: name of the option that sets the folder, for error messages.

    Raises:
        ValueError: if diffusers does not support the network, or the folder already contains a
            model.
        OSError: if the folder cannot be written.
    """
    from safetensors.flax import save_file

    config = _config(found)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} already has a model; choose another {option}")
    folder.mkdir(parents=True, exist_ok=True)
    is_shared = found.model.embedders == "shared"
    tensors = spread(found.model, NAMES if is_shared else OWN_NAMES, found.params)
    for block in range(1, found.model.depth) if is_shared else []:
        copies = {
            name.replace(FIRST, EMBEDDER.format(block=block)): tensor
            for name, tensor in tensors.items()
            if name.startswith(FIRST)
        }
        tensors |= copies
    save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
    write_json(folder / "config.json", config)
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
        CLASS: KIND,
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
