"""Scores of candidates: how well a network predicts each from what is given."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel
from vqdit.inference.requests import Inputs
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.typing import Float, Params


def score_candidates(
    inputs: Inputs,
    params: Params,
    frozen: Frozen,
    candidates: np.ndarray,
    *,
    rounds: int,
    seed: int,
    batch_size: int,
) -> Float[np.ndarray, "n k"]:
    """Scores each of k candidates against each of n given items; higher is better.

    Args:
        inputs: what is given, one item or n of each modality; `wanted` names the candidates.
        params: parameters of the network.
        frozen: arrays of the tokenizers.
        candidates: stored examples.
        rounds: network evaluations per score.
        seed: seed of the noise, which is the same for all candidates of one given item.
        batch_size: scores at a time.

    Raises:
        ValueError: two given modalities have different numbers of items.
    """
    (name,) = inputs.wanted
    count = max((len(value) for value in inputs.stored.values()), default=1)
    for known, value in inputs.stored.items():
        if len(value) not in (1, count):
            raise ValueError(f"{known} has {len(value)} items, another modality {count}")
    mesh = parallel.of_process()
    run = _compiled(inputs.task, name, rounds, mesh)
    arrays = parallel.put_replicated((params, frozen), mesh)
    item, candidate = (axis.ravel() for axis in np.indices((count, len(candidates))))
    scores = np.zeros(len(item), np.float32)
    size = parallel.divisible(min(batch_size, len(item)), mesh)
    for rows, request, keys in inputs.without_default_labels().batches(item, size, seed):
        scored = {name: jnp.asarray(candidates[candidate[rows]])}
        request = request._replace(given=request.given | scored)
        loss = run(*arrays, *parallel.put_examples((keys, request), size, mesh))
        scores[rows] = -np.asarray(loss)
    return scores.reshape(count, len(candidates))


@functools.lru_cache(maxsize=8)
def _compiled(task: DiffusionTask, name: str, rounds: int, mesh: jax.sharding.Mesh) -> Any:
    scoring_loss = functools.partial(task.scoring_loss, name=name, rounds=rounds)
    return parallel.compile_on(scoring_loss, mesh)
