"""Metrics of a set of samples against a reference, by their features."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vqdit.evaluation.extraction import Features
from vqdit.evaluation.frechet import Gaussian, frechet_estimate
from vqdit.evaluation.inception_score import inception_score
from vqdit.evaluation.intervals import Estimate
from vqdit.evaluation.memorisation import copies
from vqdit.evaluation.mmd import SCALE, SIGMA, SUBSET_SIZE, SUBSETS, gaussian_mmd, kid
from vqdit.evaluation.neighbours import K, manifolds

MANIFOLDS = ("precision", "recall", "density", "coverage")
METRICS = {
    "fid": "Frechet distance in the features of Inception",
    "sfid": "Frechet distance in the spatial features of Inception",
    "fd": "Frechet distance in any features",
    "kid": "kernel distance: MMD^2 with a polynomial kernel",
    "mmd": "MMD^2 with a Gaussian kernel, times 1000",
    "precision": "fraction of samples near the reference",
    "recall": "fraction of the reference near samples",
    "density": "mean number of reference balls with a sample, over k",
    "coverage": "fraction of reference balls with a sample",
    "is": "Inception Score",
    "copies": "fraction of samples nearer to the reference than 99 % of held-out pictures",
}
"""Names of the metrics, and what they are."""
BETTER = dict.fromkeys(("fid", "sfid", "fd", "kid", "mmd", "copies"), "lower")
"""Direction of improvement; higher for all other metrics."""
FRECHET = ("fid", "sfid", "fd")
"""Names of the metrics that need only statistics of the reference."""
PAIRS = 16
"""Number of pairs of a sample and its nearest training example that are listed."""


class Statistics(NamedTuple):
    """Means and covariances of the features of a reference.

    Attributes:
        features: those of the features that `fid` and `fd` compare.
        spatial: those of the spatial features that `sfid` compares.
    """

    features: Gaussian | None = None
    spatial: Gaussian | None = None

    def of(self, name: str) -> Gaussian | None:
        """Returns the statistics that a metric compares, if there are any."""
        return {"fid": self.features, "fd": self.features, "sfid": self.spatial}.get(name)


class Settings(NamedTuple):
    """Numbers that metrics depend on, and which reports state.

    Attributes:
        subsets: number of random subsets of KID.
        subset_size: examples of each set in a subset; fewer if a set has fewer.
        k: number of the nearest neighbour whose distance is the radius of a ball, for precision,
            recall, density and coverage.
        sigma: bandwidth of the Gaussian kernel.
        splits: parts of the Inception Score; fewer if there are fewer than 20 samples.
        seed: seed of subsets and parts.
    """

    subsets: int = SUBSETS
    subset_size: int = SUBSET_SIZE
    k: int = K
    sigma: float = SIGMA
    splits: int = 10
    seed: int = 2020


def measure_sets(
    metrics: Sequence[str],
    samples: Features,
    reference: Features | None,
    statistics: Statistics = Statistics(),  # noqa: B008
    settings: Settings = Settings(),  # noqa: B008
    report: Callable[[str], None] = lambda name: None,
    held_out: Features | None = None,
) -> dict[str, dict[str, Any]]:
    """Returns the value, the 95 % interval and the settings of each metric.

    Args:
        metrics: names of `METRICS`.
        samples: features of the samples.
        reference: features of the reference; None if there are only statistics.
        statistics: statistics of the reference, which Frechet distances use if given.
        settings: numbers that the metrics depend on.
        report: called with the name of each metric before it is measured.
        held_out: features of examples that were not used in training, which "copies" needs; the
            reference must then be the training set.

    Raises:
        ValueError: there are too few examples, or the features are from different networks.
    """
    found: dict[str, dict[str, Any]] = {}
    x = samples.values
    for name in metrics:
        report(name)
        if name in found:
            continue
        if name == "is":
            if samples.logits is None:
                raise ValueError(
                    "the metric 'is' (Inception Score) needs features with a classifier's logits"
                )
            logits, seed = samples.logits, settings.seed
            score = inception_score(logits, settings.splits, seed)
            found[name] = _record(score, splits=settings.splits, classes=logits.shape[1])
        elif name in FRECHET and (gaussian := statistics.of(name)) is not None:
            own = _features(samples, name)
            found[name] = _record(frechet_estimate(own, gaussian), reference="statistics")
        elif reference is None:
            raise ValueError(
                f"the metric {name} needs the pictures of the reference, not only statistics"
            )
        elif name in FRECHET:
            both = _features(samples, name), _features(reference, name)
            found[name] = _record(frechet_estimate(*both))
        elif name == "kid":
            size = min(settings.subset_size, len(x), len(reference.values))
            value = kid(x, reference.values, settings.subsets, size, settings.seed)
            found[name] = _record(value, subsets=settings.subsets, subset_size=size)
        elif name == "mmd":
            value = gaussian_mmd(x, reference.values, settings.sigma)
            found[name] = _record(value, sigma=settings.sigma, scale=SCALE)
        elif name == "copies":
            if held_out is None:
                raise ValueError(
                    "the metric copies needs features of held-out pictures; pass held_out"
                )
            near = copies(x, reference.values, held_out.values)
            found[name] = _record(
                near.share,
                held_out=near.of_held_out.count,
                of_held_out=near.of_held_out.value,
                limit=near.limit,
            )
            found[name]["pairs"] = [
                {"sample": int(n), "nearest": int(near.nearest[n]), "distance": near.distances[n]}
                for n in near.closest(PAIRS)
            ]
        else:
            every = manifolds(x, reference.values, settings.k)
            found |= {n: _record(every[n], k=settings.k) for n in MANIFOLDS if n in metrics}
    return {name: found[name] for name in metrics}


def _features(of: Features, name: str) -> np.ndarray:
    """Returns the features whose distributions a Frechet distance compares."""
    if name != "sfid":
        return of.values
    if of.spatial is None:
        raise ValueError("sfid needs the spatial features of Inception")
    return of.spatial


def _record(estimate: Estimate, **settings: Any) -> dict[str, Any]:
    return {**estimate._asdict(), "settings": settings}
