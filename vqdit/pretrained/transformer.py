"""Names of the layers of a DiT in other projects, and import and export of their parameters.

vqdit stacks the parameters of all blocks along the first axis, stores matrices as [inputs, outputs]
and embeds patches by a matrix. Torch projects have separate tensors for each block, store matrices
as [outputs, inputs] and embed patches by a convolution.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.models.dit import DiT, Tokens
from vqdit.nn.embeddings import positions
from vqdit.precision import in_32_bits
from vqdit.pretrained.layout import check_shapes
from vqdit.pretrained.stored import Stored
from vqdit.processes import Process
from vqdit.runs.array_trees import flatten
from vqdit.typing import Array, Float, Int, Named, Params

IMAGE, LABEL = "image", "label"
"""Names of the two modalities of an imported DiT."""
CLOSE = 2**-8
"""Largest difference between stored and computed positions, which allows rounding to bfloat16."""
DEPTH = 256
"""Largest number of blocks that can be imported."""


class Pretrained(NamedTuple):
    """An imported DiT with its parameters.

    Attributes:
        model: the network.
        inputs: description of the modalities: latents called `image`, and a label called `label`.
        params: parameters of the network.
        process: diffusion process that the network was trained for.
    """

    model: DiT
    inputs: Named[Tokens]
    params: Params
    process: Process


class Names(NamedTuple):
    """Names of the layers in a project; names in a block contain {block}, the block's number.

    Time and labels may be embedded once or in each block.

    Attributes:
        patch: convolution that embeds patches.
        time: the two layers of the MLP that embeds the time.
        labels: embedding of the labels, whose last row is "no label".
        modulation: layer of a block that maps the condition to shifts, scales and gates.
        qkv: one layer for queries, keys and values, or three layers.
        out: output layer of attention.
        mlp: the two layers of a block's MLP.
        head_modulation: layer of the head that maps the condition to shift and scale.
        head: output layer of the network.
    """

    patch: str
    time: tuple[str, str]
    labels: str
    modulation: str
    qkv: tuple[str, ...]
    out: str
    mlp: tuple[str, str]
    head_modulation: str
    head: str

    def of(self, path: str) -> list[str]:
        """Returns the names of the tensors that form a parameter, given its path in `DiT`."""
        layers = {
            f"{IMAGE}_patch": (self.patch,),
            f"{IMAGE}_time/Dense_0": self.time[:1],
            f"{IMAGE}_time/Dense_1": self.time[1:],
            f"{LABEL}_embed": (self.labels,),
            "blocks/modulation": (self.modulation,),
            "blocks/qkv": self.qkv,
            "blocks/out": (self.out,),
            "blocks/mlp_in": self.mlp[:1],
            "blocks/mlp_out": self.mlp[1:],
            f"{IMAGE}_modulation": (self.head_modulation,),
            f"{IMAGE}_head": (self.head,),
        }
        layer, _, leaf = path.rpartition("/")
        return [f"{name}.{'bias' if leaf == 'bias' else 'weight'}" for name in layers[layer]]

    def is_stacked(self, path: str) -> bool:
        """Returns whether a parameter of `DiT` has one part per block along its first axis."""
        return "{block}" in self.of(path)[0]


class Denoiser:
    """An imported DiT with a compiled forward pass.

    Attributes:
        model: the network.
        inputs: description of the modalities `image` and `label`.
        params: parameters of the network.
        process: diffusion process that the network was trained for.
    """

    def __init__(self, found: Pretrained) -> None:
        self.model, self.inputs, self.params, self.process = found
        self._apply = jax.jit(self._predict)

    @in_32_bits
    def apply(self, x: Any, t: Any, labels: Any) -> Float[Array, "b h w _"]:
        """Returns the prediction of the network.

        Args:
            x: noisy latents, float32 [b, h, w, c], with the size of the training data.
            t: timestep in the model's own convention, a scalar or [b]: 0 to 999 for DiT, 0 (noise)
                to 1 (data) for SiT.
            labels: classes, integers [b]; -1 or the number of classes means no label.

        Raises:
            ValueError: if a shape, a data type or a label is invalid for the model.
        """
        x, t, labels = np.asarray(x), np.asarray(t, np.float32), np.asarray(labels)
        image, classes = self.inputs[IMAGE], self.inputs[LABEL].codes
        shape = (*image.grid, image.width)
        if x.shape[1:] != shape or x.dtype != np.float32:
            raise ValueError(
                f"apply takes float32 latents [b, {', '.join(map(str, shape))}], "
                f"got {x.dtype} {list(x.shape)}"
            )
        if t.shape not in ((), (len(x),)):
            raise ValueError(
                f"apply takes t as a scalar or of shape [{len(x)}], got shape {list(t.shape)}"
            )
        if labels.shape != (len(x),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"apply takes {len(x)} integer labels, got {labels.dtype} {list(labels.shape)}"
            )
        wrong = labels[(labels < -1) | (labels > classes)]
        if len(wrong):
            raise ValueError(
                f"label {wrong[0]} is out of range; use 0 to {classes - 1}, or -1 for no label"
            )
        labels = np.where(labels == classes, -1, labels).astype(np.int32)
        return self._apply(self.params, x, np.broadcast_to(t, (len(x),)), labels)

    def _predict(
        self,
        params: Params,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        labels: Int[Array, " b"],
    ) -> Float[Array, "b h w _"]:
        seen = Named({IMAGE: x.reshape(len(x), -1, x.shape[-1]), LABEL: labels[:, None, None]})
        times = Named({IMAGE: t[:, None], LABEL: jnp.zeros((len(x), 1))})
        out = self.model.apply(params, self.inputs, seen, times)[IMAGE]
        return out.reshape(*x.shape[:-1], -1)


def inputs_of(size: int, channels: int, outputs: int, classes: int) -> Named[Tokens]:
    """Returns the inputs of a class-conditional DiT: square latents and a label.

    Args:
        size: edge of the latents.
        channels: channels of the latents.
        outputs: channels of the prediction.
        classes: number of labels, without "no label".
    """
    return Named(
        {
            IMAGE: Tokens(grid=(size, size), width=channels, output=outputs),
            LABEL: Tokens(route="adaln", grid=(1,), codes=classes),
        }
    )


def fill(model: DiT, inputs: Named[Tokens], names: Names, tensors: Mapping[str, Stored]) -> Params:
    """Returns the parameters of a DiT from the tensors of a checkpoint.

    Raises:
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
    """
    abstract = jax.eval_shape(lambda: model.init(jax.random.key(0), inputs))
    wanted = jax.eval_shape(lambda params: spread(model, names, params), abstract)
    check_shapes({name: leaf.shape for name, leaf in wanted.items()}, tensors)
    filled = []
    for path, leaf in flatten(abstract).items():
        found = np.empty(leaf.shape, np.float32)
        is_stacked = names.is_stacked(path)
        for number in range(model.depth) if is_stacked else [0]:
            parts = [tensors[name.format(block=number)].read() for name in names.of(path)]
            whole = np.concatenate([part.astype(np.float32) for part in parts])
            into = found[number] if is_stacked else found
            into[...] = _ours(whole, path).reshape(into.shape)
        filled.append(jnp.asarray(found))
    return jax.tree.unflatten(jax.tree.structure(abstract), filled)


def spread(model: DiT, names: Names, params: Params) -> dict[str, Array]:
    """Converts the parameters of a DiT to the tensors of another project; inverts `fill`."""
    tensors = {}
    for path, leaf in flatten(params).items():
        found = names.of(path)
        for number, value in enumerate(leaf if names.is_stacked(path) else [leaf]):
            parts = jnp.split(_theirs(value, path, model.patch), len(found))
            for name, part in zip(found, parts, strict=True):
                tensors[name.format(block=number)] = part
    return tensors


def check_positions(model: DiT, grid: tuple[int, int], stored: Stored) -> None:
    """Raises ValueError unless the positions in a checkpoint equal the fixed positions of `DiT`."""
    expected = positions(grid, model.dim)
    found = np.zeros(0) if stored.shape[1:] != expected.shape else stored.read()[0]
    if not found.size or np.abs(found.astype(np.float32) - expected).max() > CLOSE:
        raise ValueError(
            f"the positions in the checkpoint (pos_embed {list(stored.shape)}) are not the sines "
            f"and cosines of a {grid[0]}x{grid[1]} grid; learned positions cannot be imported"
        )


def _ours(array: np.ndarray, path: str) -> np.ndarray:
    if path == f"{IMAGE}_patch/kernel":
        return array.transpose(2, 3, 1, 0)
    return array.T if path.endswith("kernel") else array


def _theirs(array: Array, path: str, patch: int) -> Array:
    if path == f"{IMAGE}_patch/kernel":
        return array.reshape(patch, patch, -1, array.shape[-1]).transpose(3, 2, 0, 1)
    if path == f"{LABEL}_embed/table":
        return array[0]
    return array.T if path.endswith("kernel") else array
