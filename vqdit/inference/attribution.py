"""Attribution by intervention: measures how each region of the given data supports a result.

The contribution of a region r of the given data is the change of the loss of the model's own
result when r is hidden,

    change(r) = L(result | given without r) - L(result | given),

with the same noise in both terms. L is the scoring loss: a bound on -log p in nats for discrete
processes, so a positive change is the support of r for the result, in nats. Zeiler & Fergus,
"Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, section 4.2, but with
likelihoods.

If two regions have the same information, hiding one of them changes little. Therefore the effect of
each region alone, with the rest of its modality hidden, is measured, too:

    alone(r) = L(result | given without r's modality) - L(result | given with only r of it),

Finally, `whole` is the change if the whole modality is hidden.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.inference.requests import Inputs
from vqdit.modalities import Modality
from vqdit.precision import in_32_bits
from vqdit.processes.base import X
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.request import Request
from vqdit.typing import Array, Bool, Float, Key, Named, Params

ROUNDS = 16
"""Default number of network evaluations per scoring loss."""
REGIONS = 64
"""Maximum number of regions of an example, if regions are cells of its token grid."""


class Attribution(NamedTuple):
    """Contributions of the regions of one given modality to one sample.

    Attributes:
        sample: index of the sample.
        source: name of the given modality.
        regions: names of the r regions of the modality.
        belongs: True at the positions of the token grid that belong to each region, bool [r, l].
        change: by generated modality, the increase of its scoring loss if each region is hidden,
            float32 [r]; in nats, or as squared error for latents.
        alone: by generated modality, the decrease of its scoring loss if only this region of the
            modality is shown instead of nothing, float32 [r].
        whole: by generated modality, the increase of its scoring loss if the whole given modality
            is hidden.
    """

    sample: int
    source: str
    regions: tuple[str, ...]
    belongs: np.ndarray
    change: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    whole: dict[str, float]


class _Hidden(NamedTuple):
    """Masks that hide parts of one given example; see `Attribution` for the fields."""

    sample: int
    source: str
    regions: tuple[str, ...]
    belongs: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """Masks bool [2 r + 1, l], True where hidden: one region, all but one region, the whole."""
        every = np.ones((1, self.belongs.shape[1]), bool)
        return np.concatenate([self.belongs, ~self.belongs, every])


@in_32_bits
def attribute(
    inputs: Inputs,
    params: Params,
    frozen: Frozen,
    x_0: Named[X],
    *,
    seed: int,
    batch_size: int,
    rounds: int,
) -> list[Attribution]:
    """Measures the scoring loss of results while each region of the given data is hidden.

    Args:
        inputs: inputs of the samples.
        params: parameters of the network.
        frozen: arrays of the tokenizers.
        x_0: generated tokens of every target for the first b samples, [b, l, ...].
        seed: seed of the samples; the noise of the scoring loss is derived from it, but differs.
        batch_size: number of scoring losses in a batch.
        rounds: number of network evaluations per scoring loss, at equally spaced times.

    Returns:
        One attribution per sample and given modality, including labels of conditions.
    """
    inputs = inputs._replace(branches=())
    task, count = inputs.task, len(next(iter(x_0.values())))
    request = inputs.request(np.arange(count), whole=True)
    known = [name for name in task.targets if name in inputs.stored]
    labels = [name for name, condition in task.conditions.items() if condition.classes]
    sources = (*known, *labels)
    grids = {name: task.space(name).grid if name in known else (1,) for name in sources}
    hidings = []
    for sample in range(count):
        for source, grid in grids.items():
            one = np.asarray(request.given[source][sample])
            real = np.ones(math.prod(grid), bool)
            if source in task.variable:
                one = inputs.stored[source][sample % len(inputs.stored[source])]
                tokens = -(-len(one) // task.space(source).positions_per_token)
                real = np.arange(math.prod(grid)) < tokens
            if source in known or one >= 0:  # a label of -1 means no label
                regions = _regions(task.modality(source), one, grid, real)
                hidings.append(_Hidden(sample, source, *regions))
    if not hidings:
        return []
    # First all samples without a mask, then all masks of all samples.
    sample = np.concatenate([np.arange(count), *([h.sample] * len(h.masks) for h in hidings)])
    ends = np.cumsum([count, *(len(h.masks) for h in hidings)])
    parts = [slice(*ends[number : number + 2]) for number in range(len(hidings))]
    hidden = {name: np.zeros((len(sample), math.prod(grid)), bool) for name, grid in grids.items()}
    for h, part in zip(hidings, parts, strict=True):
        hidden[h.source][part] = h.masks

    changes = {}
    for name in inputs.wanted:
        run = _compiled_loss(task, name, rounds)
        losses, size = np.zeros(len(sample), np.float32), min(batch_size, len(sample))
        for cases, request, keys in inputs.batches(sample, size, seed, whole=True):
            seen = {c: jnp.where(hidden[c][cases][:, 0], -1, request.given[c]) for c in labels}
            request = request._replace(given=request.given | seen)
            masks = Named({n: jnp.asarray(hidden[n][cases]) for n in known})
            shown = (keys, request, masks, x_0[name][sample[cases]])
            losses[cases] = run(params, frozen, *shown)
        changes[name] = losses - losses[sample]
    return [
        _attribution(h, {name: change[part] for name, change in changes.items()})
        for h, part in zip(hidings, parts, strict=True)
    ]


def _attribution(hidden: _Hidden, changes: dict[str, np.ndarray]) -> Attribution:
    """Returns the attribution, given the changes of the losses for each of `hidden.masks`."""
    count = len(hidden.regions)
    return Attribution(
        *hidden,
        change={name: change[:count] for name, change in changes.items()},
        alone={name: change[-1] - change[count:-1] for name, change in changes.items()},
        whole={name: float(change[-1]) for name, change in changes.items()},
    )


@functools.lru_cache(maxsize=32)
def _compiled_loss(task: DiffusionTask, name: str, rounds: int) -> Any:
    """Returns the compiled scoring loss of one modality with hidden positions."""

    def run(
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        request: Request,
        hidden: Named[Bool[Array, "b _"]],
        x_0: X,
    ) -> Float[Array, " b"]:
        return task.scoring_loss(
            params, frozen, keys, request, name, rounds=rounds, hidden=hidden, x_0=x_0
        )

    return jax.jit(run)


def _regions(
    modality: Modality, stored: np.ndarray, grid: tuple[int, ...], real: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the regions, and the mask of each region's positions, bool [r, l].

    Large grids are divided into blocks, and regions that are only padding are left out.

    Args:
        modality: the modality.
        stored: one stored example.
        grid: grid of its tokens.
        real: False at padding, bool [l].
    """
    most = max(1, round(REGIONS ** (1.0 / len(grid))))
    coarse = tuple(min(size, most) for size in grid)
    regions, masks = modality.regions(stored, coarse), []
    for _, belongs in regions:
        if belongs.size != math.prod(grid):  # cells of the coarse grid
            belongs = belongs.reshape(coarse)
            for axis, (size, cells) in enumerate(zip(grid, coarse, strict=True)):
                belongs = np.take(belongs, np.arange(size) * cells // size, axis=axis)
        masks.append(belongs.ravel() & real)
    belongs = np.asarray(masks, bool).reshape(len(masks), math.prod(grid))
    kept = [number for number, one in enumerate(belongs) if one.any()]
    return tuple(regions[number][0] for number in kept), belongs[kept]
