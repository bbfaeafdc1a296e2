"""Agreement of modalities for `vqdit evaluate`: fits recognisers, measures, shows a table."""

import logging
import math
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

REAL = 1000
"""Number of held-out examples for recognisers and image metrics; more if `--num` is larger."""
LEAST = 6
"""Least number of labelled examples of training and of held-out data, for coverage of images."""
MEMORY = 2**30
"""Bytes that the examples for recognisers may need, if there are more than `REAL`."""


def measure(
    model: Any,
    fitting: Any,
    source: Any,
    splits: tuple[str, ...],
    settings: dict[str, Any],
    coherence: bool,
    scoring: bool,
) -> dict[str, Any]:
    """Fits the recognisers on the training split, and evaluates the model with them.

    Args:
        model: the `Generator`.
        fitting: how to fit the recognisers, from `general_recognizers.fitting`.
        source: the data source of the run.
        splits: held-out splits whose examples are given and scored.
        settings: keyword arguments of `measure_agreement`.
        coherence: whether to measure the agreement of modalities.
        scoring: whether to measure the classification of images by likelihood.

    Raises:
        ValueError: there are too few labelled examples.
    """
    import numpy as np

    from vqdit.evaluation.evaluate import draw, measure_agreement, score_images
    from vqdit.evaluation.general_recognizers import labelled
    from vqdit.evaluation.image_scores import MAX_FITTED
    from vqdit.evaluation.recognizers import CLASSES

    features = source.features().values()
    size = sum(math.prod(feature.shape) * feature.stored.itemsize for feature in features)
    most = max(REAL, MEMORY // size)

    def real(splits: tuple[str, ...], count: int) -> dict[str, Any]:
        values = labelled(draw(source, splits, count), fitting, model)
        found, kinds = len(values[CLASSES]), len(np.unique(values[CLASSES]))
        if kinds < 2 or found < LEAST:
            raise ValueError(
                f"coherence and scoring need at least {LEAST} labelled examples of two "
                f"classes in {' and '.join(splits)}, got {found} examples of {kinds} classes"
            )
        return values

    train = real(("train",), min(most, MAX_FITTED))
    held_out = real(splits, min(most, max(REAL, settings["num"])))
    fitted = {name: fit_one(train) for name, fit_one in fitting.fit.items()}
    log.info("fitted recognisers of %s", ", ".join(fitted))
    found: dict[str, Any] = {}
    if coherence:
        found |= measure_agreement(model, fitted, train, held_out, **settings)
    if scoring:
        drawn = {name: settings[name] for name in ("seed", "batch_size")}
        found["scoring"] = score_images(model, fitted, train, held_out, **drawn)
    return found


def table(record: Mapping[str, Any]) -> str:
    """Returns the results of `measure_agreement` as text: rates with their 95 % intervals."""

    def line(*cells: str) -> str:
        return f"{cells[0]:16} {cells[1]:22} {cells[2]:22} {cells[3]}".rstrip()

    real, joint = record["recognisers"], record["joint"]
    lines = [line("given>generated", "coherent", "recognised", "the recogniser on real data")]
    for pair, rates in record["pairs"].items():
        judge = real[pair.partition(">")[2]]
        lines.append(line(pair, share(rates["coherent"]), share(rates["recognised"]), share(judge)))
    for name, rate in joint["recognised"].items():
        lines.append(line(f">{name}", "", share(rate), share(real[name])))
    lines.append("")
    if "agree" in joint:
        names = ", ".join(joint["recognised"])
        lines.append(f"given nothing, {names} agree: {share(joint['agree'])}")
    if "text" in joint["recognised"]:
        lines.append(f"given nothing, valid texts: {share(joint['recognised']['text'])}")
    if "images" in record:
        images = record["images"]
        beside = f"(by {images['count']} training images: "
        if "coverage" in images:
            found = images["coverage"]
            lines.append(
                f"coverage of held-out images by {found['of']}: {found['samples']:.3f} "
                f"{beside}{found['training']:.3f})"
            )
        found = images["frechet"]
        lines.append(
            f"Frechet distance of images, given nothing, in a classifier's features: "
            f"{found['samples']:.3g} {beside}{found['training']:.3g})"
        )
    return "\n".join(lines)


def share(rate: Mapping[str, Any]) -> str:
    """Returns a rate with its interval, as text."""
    return f"{rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}]"
