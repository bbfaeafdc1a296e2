"""Bits per byte: how well a model predicts texts, held-out ones or those of another model."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vqdit.evaluation.intervals import Estimate, ratio
from vqdit.evaluation.text_data import sizes_of
from vqdit.evaluation.text_measurement import Measurement, Settings
from vqdit.inference.requests import Inputs
from vqdit.inference.scoring import scoring_losses
from vqdit.modalities import Text
from vqdit.modalities.text import STRANGE


def predicts_bytes(task: Any, name: str) -> bool:
    """Returns whether the codes of a text are what a model predicts, so that nothing is lost."""
    return isinstance(task.modality(name), Text) and name not in task.tokenizers


def bits_per_byte(measurement: Measurement, name: str) -> dict[str, Any]:
    """Returns the bits per byte of the real texts called `name`; see `bound`."""
    model, settings, given = measurement.model, measurement.settings, measurement.given
    found = measurement.examples([name], given, settings.num)
    stored, known = found.stored[name], {column: found.stored[column] for column in given}
    report = measurement.progress(f"bits_per_byte of {name}", found.count)
    estimate = bound(model, name, stored, known, settings, report)
    size = int(sizes_of(model.modality(name), stored).sum())
    return {**estimate._asdict(), "bytes": size, "given": [*given]}


def bound(
    model: Any,
    name: str,
    stored: np.ndarray,
    given: Mapping[str, np.ndarray],
    settings: Settings,
    report: Callable[[int], None] | None = None,
) -> Estimate:
    """Returns the bits per byte of stored texts under a model, with a 95 % interval over texts.

    This is the bound of the process on -log2 p(text | given), summed over texts, over the number of
    their bytes in UTF-8, end codes included, so that models over other units can be compared. The
    bound on each text is estimated at random times, with which the mean of the estimate is the
    bound itself (`ScoringTask.scoring_loss`).

    Args:
        model: a generator.
        name: name of the text.
        stored: two texts or more, in stored form.
        given: what is given, in stored form by name; item i belongs to text i.
        settings: rounds, seed and batch size.
        report: called with the number of texts that are finished.
    """
    losses = scoring_losses(
        Inputs(model.task, given, [name]),
        model.params,
        model.frozen,
        stored,
        np.arange(len(stored)),
        rounds=settings.rounds,
        seed=settings.seed,
        batch_size=settings.batch_size,
        random_times=True,
        report=report,
    )
    return ratio(losses / math.log(2), sizes_of(model.modality(name), stored))


def perplexity(
    measurement: Measurement, judge: Any, name: str, samples: np.ndarray, real: np.ndarray
) -> dict[str, Any]:
    """Returns the bits per byte of generated and of real texts under another model, the judge.

    "perplexity" is 2 to the power of the bits per byte of the generated texts, thus per byte. Texts
    that repeat themselves have a low one: it says nothing without their entropy.

    Args:
        measurement: the model that generated the texts, and how metrics are measured.
        judge: the generator that scores them.
        name: name of the text.
        samples: generated texts, as values.
        real: real texts, as values.
    """
    theirs, modality = judged(judge, name)
    found: dict[str, Any] = {}
    for kind, texts in (("samples", samples), ("held_out", real)):
        longest = max(len(modality.units.encode_invalid(str(text), STRANGE)) for text in texts)
        if longest > modality.length:
            raise ValueError(
                f"a text of {longest} {type(modality.units).__name__} is longer than the "
                f"{modality.length} that the judge's {theirs!r} holds; name a judge of longer texts"
            )
        report = measurement.progress(f"perplexity of {kind} of {name}", len(texts))
        stored = modality.repack(texts)
        estimate = bound(judge, theirs, stored, {}, measurement.settings, report)
        found[kind] = estimate._asdict()
    return {**found, "perplexity": 2.0 ** found["samples"]["value"]}


def judged(judge: Any, name: str) -> tuple[str, Text]:
    """Returns name and modality of the text by which a judge scores texts called `name`.

    Raises:
        ValueError: there is no judge, or its text cannot be told.
    """
    if judge is None:
        raise ValueError(
            "perplexity needs the model under which it is measured; name its workdir by --judge=DIR"
        )
    names = [target for target in judge.task.targets if predicts_bytes(judge.task, target)]
    if name not in names and len(names) != 1:
        known = ", ".join(names) or "none whose bytes it predicts"
        raise ValueError(f"the judge has no text {name!r}; its texts are: {known}")
    chosen = name if name in names else names[0]
    return chosen, judge.modality(chosen)
