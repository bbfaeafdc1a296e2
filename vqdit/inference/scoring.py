"""Scores of candidates: how well a network predicts each candidate from given values.

There are two measures, in which p is estimated by the scoring loss of the network:

* *likelihood*, log p(candidate | given): finds the label or text that describes the given values;
* *information*, log p(candidate | given) - log p(candidate): finds the picture or sound that
  belongs to the given values. The likelihood of pictures depends mostly on their complexity: a
  plain picture is more likely than a detailed one for any given values.

If exactly one of k candidates belongs to the given values, and all are equally probable a priori,
the posterior probability of a candidate is the softmax of the information over the candidates.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any, Literal

import jax
import numpy as np

from vqdit import parallel
from vqdit.inference.requests import Inputs, with_candidates
from vqdit.ragged import is_ragged, lengths
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.typing import Float, Params

Measure = Literal["likelihood", "information"]


def chosen_measure(
    task: DiffusionTask, name: str, given: Collection[str], measure: Measure | None
) -> Measure:
    """Returns the measure of candidates of a modality; None takes the default.

    The default is information for modalities with a tokenizer, such as pictures and sounds, and
    likelihood for labels and texts, or if nothing is given.

    Raises:
        ValueError: the measure is unknown, or the information cannot be computed.
    """
    if measure not in (None, "likelihood", "information"):
        raise ValueError(f"measure must be likelihood or information, got {measure!r}")
    if measure is None:
        measure = "information" if given and name in task.tokenizers else "likelihood"
    if measure == "information" and not given:
        raise ValueError(
            "the measure information needs given values; measure the likelihood instead"
        )
    for one in given if measure == "information" else ():
        if one in task.conditions and task.conditions[one].drop == 0.0:
            raise ValueError(
                f"the measure information needs log p({name}) without {one!r}, but training "
                f"with conditions.{one}.drop=0 never hid this condition; measure the "
                "likelihood instead"
            )
    return measure


def score_candidates(
    inputs: Inputs,
    params: Params,
    frozen: Frozen,
    candidates: np.ndarray,
    *,
    measure: Measure,
    rounds: int,
    seed: int,
    batch_size: int,
) -> Float[np.ndarray, "n k"]:
    """Scores each of k candidates for each of n given items: [n, k]; higher is better.

    Args:
        inputs: given values, one item or n items of each modality; `wanted` is the candidates'
            modality.
        params: parameters of the network.
        frozen: arrays of the tokenizers.
        candidates: stored examples.
        measure: likelihood or information.
        rounds: number of network evaluations per estimate of p.
        seed: seed of the noise, which is the same for all candidates of one given item.
        batch_size: number of scores in a batch.

    Raises:
        ValueError: two given modalities have different numbers of items.
    """
    items = max((len(value) for value in inputs.stored.values()), default=1)
    for known, value in inputs.stored.items():
        if len(value) not in (1, items):
            raise ValueError(
                f"{known} has {len(value)} given items, but another modality has {items}; "
                "give equal numbers"
            )
    item, candidate = (axis.ravel() for axis in np.indices((items, len(candidates))))
    scores = np.zeros(len(item), np.float32)
    terms = [(1.0, inputs)]
    if measure == "information":
        terms.append((-1.0, inputs._replace(stored={})))
    how: dict[str, Any] = {"rounds": rounds, "seed": seed, "batch_size": batch_size}
    for sign, term in terms:
        scores -= sign * scoring_losses(term, params, frozen, candidates[candidate], item, **how)
    return scores.reshape(items, len(candidates))


def scoring_losses(
    inputs: Inputs,
    params: Params,
    frozen: Frozen,
    scored: np.ndarray,
    item: np.ndarray,
    *,
    rounds: int,
    seed: int,
    batch_size: int,
    random_times: bool = False,
    report: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " n"]:
    """Returns the scoring loss of each of n examples; see `ScoringTask.scoring_loss`.

    Args:
        inputs: given values; `wanted` is the modality of the examples. Conditions that are not
            given have no value.
        params: parameters of the network.
        frozen: arrays of the tokenizers.
        scored: stored examples.
        item: index of the given item for each example, int [n]. Examples with equal indices have
            equal noise.
        rounds: number of network evaluations per example.
        seed: seed of the noise.
        batch_size: number of examples in a batch.
        random_times: as for `ScoringTask.scoring_loss`.
        report: called after every batch with the number of examples that are finished.
    """
    (name,) = inputs.wanted
    mesh = parallel.of_process()
    run = _compiled(inputs.task, name, rounds, random_times, mesh)
    arrays = parallel.put_replicated((params, frozen), mesh)
    losses = np.zeros(len(item), np.float32)
    longest = int(lengths(scored).max()) if is_ragged(scored) else 0
    size = parallel.divisible(min(batch_size, len(item)), mesh)
    for rows, request, keys in inputs.without_default_labels().batches(item, size, seed):
        request = with_candidates(inputs.task, request, name, scored[rows], longest)
        loss = run(*arrays, *parallel.put_examples((keys, request), size, mesh))
        count = min(size, len(item) - rows[0])  # the others pad the last batch
        losses[rows[:count]] = np.asarray(loss)[:count]
        if report is not None:
            report(int(rows[0] + count))
    return losses


@functools.lru_cache(maxsize=8)
def _compiled(
    task: DiffusionTask, name: str, rounds: int, random_times: bool, mesh: jax.sharding.Mesh
) -> Any:
    fixed = {"name": name, "rounds": rounds, "random_times": random_times}
    scoring_loss = functools.partial(task.scoring_loss, **fixed)
    return parallel.compile_on(scoring_loss, mesh)
