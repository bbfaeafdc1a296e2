"""Agreement of modalities for `vqdit evaluate`: fits recognisers, measures, shows a table."""

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

REAL = 1000
"""Number of held-out examples for recognisers and image metrics; more if `--num` is larger."""


def measure(
    model: Any,
    fit: Mapping[str, Any],
    source: Any,
    splits: tuple[str, ...],
    settings: dict[str, Any],
    coherence: bool,
    scoring: bool,
) -> dict[str, Any]:
    """Fits the recognisers, and evaluates the model with them."""
    from vqdit.evaluation.evaluate import draw, measure_agreement, score_images
    from vqdit.evaluation.image_scores import MAX_FITTED

    def real(splits: tuple[str, ...], count: int) -> dict[str, Any]:
        stored = draw(source, splits, count)
        values = {name: model.modality(name).unpack(stored[name]) for name in fit}
        return {**values, "label": stored["label"]}

    train, held_out = real(("train",), MAX_FITTED), real(splits, max(REAL, settings["num"]))
    fitted = {name: fit_one(train) for name, fit_one in fit.items()}
    log.info("fitted recognisers of %s", ", ".join(fit))
    found: dict[str, Any] = {}
    if coherence:
        found |= measure_agreement(model, fitted, train, held_out, **settings)
    if scoring:
        drawn = {name: settings[name] for name in ("seed", "batch_size")}
        found["scoring"] = score_images(model, fitted, train, held_out, **drawn)
    return found


def modalities(model: Any, source: Any) -> dict[str, Any]:
    """Returns the functions that fit the recognisers of all modalities of a model."""
    from vqdit.evaluation.recognizers import recognizers_for

    fit = recognizers_for(source)
    names = [*model.task.targets, *model.task.conditions]
    for name in names:
        if name not in fit:
            raise ValueError(
                f"{type(source).__name__} has no recogniser for {name!r}; it has recognisers for "
                f"{', '.join(fit)}"
            )
    return {name: fit[name] for name in names}


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
