"""Attribution by intervention: what each part of the input is good for.

Each region r of what is given is hidden in turn, and the model is asked how well it still predicts
its own result,

    change(r) = L(result | given without r) - L(result | given),

with the same noise in both terms. Evidence is a bound on -log p in nats for discrete processes, so
a positive change says by how many nats r supported the result. Zeiler & Fergus, "Visualizing and
Understanding Convolutional Networks", arXiv:1311.2901, section 4.2, with likelihoods.

A region that says what others say too is not missed when it alone is hidden. So the opposite is
given beside it: what r tells alone, when the rest of its modality is hidden,

    alone(r) = L(result | given without its modality) - L(result | with r alone of it),

and `whole`, the change by hiding all of the modality at once.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.inference.generator import Generator
from vqdit.modalities import Modality
from vqdit.processes.base import X
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.request import Request
from vqdit.typing import Array, Bool, Float, Key, Named, Params

ROUNDS = 16
"""Network evaluations per scoring_loss, unless the caller says otherwise."""
REGIONS = 64
"""Regions of one example at most, as far as they are cells of its token grid."""


class Attribution(NamedTuple):
    """What the regions of one given modality are good for, in one sample.

    Attributes:
        sample: its index.
        source: the given modality.
        regions: their names.
        belongs: which positions of the token grid belong to each, bool [r, l].
        change: by name of what was generated, by how much the result is predicted worse without
            each region, float32 [r]: nats, or squared error where the process is continuous.
        alone: by how much it is predicted better with each region, and nothing else of the
            modality, than without all of it, float32 [r].
        whole: by how much it is predicted worse without all of it.
    """

    sample: int
    source: str
    regions: tuple[str, ...]
    belongs: np.ndarray
    change: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    whole: dict[str, float]


class _Hidden(NamedTuple):
    """What is hidden of one given example, in turn.

    Attributes:
        sample: its index.
        source: the modality.
        regions: names of the regions.
        belongs: which positions belong to each, bool [r, l].
    """

    sample: int
    source: str
    regions: tuple[str, ...]
    belongs: np.ndarray

    @property
    def masks(self) -> np.ndarray:
        """What is hidden: each region, all but each region, and all: bool [2 r + 1, l]."""
        every = np.ones((1, self.belongs.shape[1]), bool)
        return np.concatenate([self.belongs, ~self.belongs, every])


def attribute(
    generator: Generator,
    stored: Mapping[str, np.ndarray],
    x_0: Named[X],
    wanted: Sequence[str],
    *,
    seed: int,
    batch_size: int,
    rounds: int,
) -> list[Attribution]:
    """Hides every region of what is given, in turn, and asks for the scoring_loss of the results.

    Args:
        generator: the model.
        stored: what is given in stored form; sample i has item i mod F.
        x_0: the generated tokens of every target, [b, l, ...]: the first b samples.
        wanted: names of what was generated.
        seed: of the samples; the scoring_loss draws other noise.
        batch_size: evidences at a time.
        rounds: network evaluations per scoring_loss, at times in equal distance.

    Returns:
        One per sample and given modality, labels of conditions among them.
    """
    task, count = generator.task, len(next(iter(x_0.values())))
    request = generator.request(np.arange(count), stored, wanted)
    known = [name for name in task.targets if name in stored]
    labels = [name for name, condition in task.conditions.items() if condition.classes]
    sources = (*known, *labels)
    grids = {name: task.space(name).grid if name in known else (1,) for name in sources}
    hidings = []
    for sample in range(count):
        for source, grid in grids.items():
            one = np.asarray(request.given[source][sample])
            if source in known or one >= 0:  # a label of -1 is none
                hidings.append(_Hidden(sample, source, *_regions(task.modality(source), one, grid)))
    if not hidings:
        return []
    # First every sample with nothing hidden, then the regions of all.
    sample = np.concatenate([np.arange(count), *([h.sample] * len(h.masks) for h in hidings)])
    ends = np.cumsum([count, *(len(h.masks) for h in hidings)])
    parts = [slice(*ends[number : number + 2]) for number in range(len(hidings))]
    hidden = {name: np.zeros((len(sample), math.prod(grid)), bool) for name, grid in grids.items()}
    for h, part in zip(hidings, parts, strict=True):
        hidden[h.source][part] = h.masks

    changes = {}
    for name in wanted:
        run = _compiled_evidence(task, name, rounds)
        scores, size = np.zeros(len(sample), np.float32), min(batch_size, len(sample))
        for cases, request, keys in generator.batches(sample, size, stored, wanted, seed=seed):
            seen = {c: jnp.where(hidden[c][cases][:, 0], -1, request.given[c]) for c in labels}
            request = request._replace(given=request.given | seen)
            masks = Named({n: jnp.asarray(hidden[n][cases]) for n in known})
            inputs = (keys, request, masks, x_0[name][sample[cases]])
            scores[cases] = run(generator.params, generator.frozen, *inputs)
        changes[name] = scores - scores[sample]
    return [
        _attribution(h, {name: change[part] for name, change in changes.items()})
        for h, part in zip(hidings, parts, strict=True)
    ]


def _attribution(hidden: _Hidden, changes: dict[str, np.ndarray]) -> Attribution:
    """Sorts what changed by hiding each of `hidden.masks`."""
    count = len(hidden.regions)
    return Attribution(
        *hidden,
        change={name: change[:count] for name, change in changes.items()},
        alone={name: change[-1] - change[count:-1] for name, change in changes.items()},
        whole={name: float(change[-1]) for name, change in changes.items()},
    )


@functools.lru_cache(maxsize=32)
def _compiled_evidence(task: DiffusionTask, name: str, rounds: int) -> Any:
    """Returns the scoring_loss of the tokens of one modality, with some of what is known hidden."""

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
    modality: Modality, stored: np.ndarray, grid: tuple[int, ...]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns names and positions of regions, bool [r, l]; large grids are divided into blocks."""
    most = max(1, round(REGIONS ** (1.0 / len(grid))))
    coarse = tuple(min(size, most) for size in grid)
    regions, masks = modality.regions(stored, coarse), []
    for _, belongs in regions:
        if belongs.size != math.prod(grid):  # cells of the coarse grid
            belongs = belongs.reshape(coarse)
            for axis, (size, cells) in enumerate(zip(grid, coarse, strict=True)):
                belongs = np.take(belongs, np.arange(size) * cells // size, axis=axis)
        masks.append(belongs.ravel())
    belongs = np.asarray(masks, bool).reshape(len(masks), math.prod(grid))
    return tuple(name for name, _ in regions), belongs
