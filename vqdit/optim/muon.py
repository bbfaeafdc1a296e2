"""Muon: orthogonalised momentum for the matrices of transformer blocks.

The update of a matrix is the orthogonal factor of its momentum, which gives all singular directions
the same size. For the singular value decomposition M = U S V^T of the momentum, the update is U
V^T, computed by five Newton-Schulz iterations. Jordan et al., "Muon: An optimizer for hidden layers
in neural networks", 2024; the scale 0.2 sqrt(max(in, out)), with which learning rates of AdamW can
be used, is from Liu et al., "Muon is Scalable for LLM Training", arXiv:2502.16982, section 2.2.
"""

import jax
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from vqdit.optim.optimizers import AdamW, clip_norm, is_matrix

AXES_OF_KERNELS = {"blocks": 3, "last": 2}
"""Number of axes of the kernels below each name of a transformer's parameters.

The kernels of a stack are [depth, inputs, outputs]; the last block of an MM-DiT is not part of a
stack.
"""
AXES = MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
"""The axes of inputs and outputs of a kernel."""


class Muon(AdamW):
    """Muon for the kernels of transformer blocks, and AdamW for all other parameters.

    Both use the same learning rate, schedule and weight decay. For a small model, a step takes a
    few per cent more time than with AdamW.

    Attributes:
        momentum: decay of Muon's momentum (Nesterov's).
    """

    momentum: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("momentum in [0, 1)", 0.0 <= self.momentum < 1.0)

    def build(self, steps: int) -> optax.GradientTransformation:
        schedule = self.schedule(steps)
        matrices = optax.chain(
            scale_by_muon(beta=self.momentum, weight_dimension_numbers=_axes),
            optax.stateless(_scaled),
            optax.add_decayed_weights(self.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )
        others = optax.adamw(
            schedule, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, mask=is_matrix
        )
        clip = [clip_norm(self.clip)] if self.clip else []
        return optax.chain(*clip, optax.partition({"muon": matrices, "adamw": others}, _labels))


def _axes(kernels: optax.Params) -> optax.Params:
    return jax.tree.map(lambda _: AXES, kernels)


def _scaled(updates: optax.Updates, _: optax.Params | None = None) -> optax.Updates:
    """Scales orthogonal factors to the root mean square of AdamW's updates, about 0.2."""
    return jax.tree.map(lambda leaf: 0.2 * max(leaf.shape[-2:]) ** 0.5 * leaf, updates)


def _labels(params: optax.Params) -> optax.Params:
    """Returns "muon" for each kernel of a block, and "adamw" for the other parameters.

    Raises:
        ValueError: there are no kernels of blocks.
    """

    def label(path: tuple[object, ...], leaf: jax.Array) -> str:
        names = [getattr(key, "key", None) for key in path]
        axes = [AXES_OF_KERNELS[name] for name in names if name in AXES_OF_KERNELS]
        is_kernel = names[-1] == "kernel" and axes == [leaf.ndim]
        return "muon" if is_kernel else "adamw"

    found = jax.tree_util.tree_map_with_path(label, params)
    if "muon" not in jax.tree.leaves(found):
        raise ValueError(
            "Muon needs a model with transformer blocks, but this one has none; use AdamW"
        )
    return found
