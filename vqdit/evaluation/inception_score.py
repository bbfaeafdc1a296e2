"""The Inception Score: how sure a classifier is of each sample, and how varied its answers are.

    IS = exp(E_x KL(p(y | x) || p(y)))

Salimans et al., "Improved Techniques for Training GANs", arXiv:1606.03498, section 4. The score is
between 1 and the number of classes. It needs no reference, so it does not detect that samples of a
class lack variety.
"""

import math

import numpy as np

from vqdit.evaluation.intervals import Estimate
from vqdit.evaluation.rows import check_finite
from vqdit.typing import Float


def inception_score(
    logits: Float[np.ndarray, "n k"], splits: int = 10, seed: int = 2020
) -> Estimate:
    """Returns the mean score of random parts of the samples, with its 95 % interval.

    Args:
        logits: logits of a classifier.
        splits: number of parts; 10 in the paper and in most reports.
        seed: seed of the order of the samples; the default is torch-fidelity's.

    Raises:
        ValueError: there are fewer than two samples per part, or a logit is not finite.
    """
    n = len(logits)
    if splits < 1 or n < 2 * splits:
        raise ValueError(
            f"an Inception Score of {splits} parts needs at least {2 * splits} samples, got {n}"
        )
    check_finite(logits)
    order = np.random.RandomState(seed).permutation(n)
    scores, spreads = [], []
    for part in range(splits):
        rows = order[part * n // splits : (part + 1) * n // splits]
        log_p = np.asarray(logits[rows], np.float64)
        log_p = log_p - log_p.max(axis=1, keepdims=True)
        log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        p = np.exp(log_p)
        marginal = np.log(np.maximum(p.mean(axis=0), np.finfo(float).tiny))
        divergence = (p * (log_p - marginal)).sum(axis=1)
        scores.append(math.exp(divergence.mean()))
        spreads.append(scores[-1] ** 2 * divergence.var(ddof=1) / len(rows))
    value, half = float(np.mean(scores)), 1.96 * math.sqrt(np.mean(spreads) / splits)
    return Estimate(value, max(1.0, value - half), value + half, n)
