"""Bits per byte under a model, of held-out texts or of texts that another model generated."""

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
    """Returns whether a model predicts the codes of a text itself, without a lossy tokenizer."""
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

    Bits per byte is the process's bound on -log2 p(text | given), summed over texts and divided by
    the number of their UTF-8 bytes, including end codes. Models with different units can therefore
    be compared. The bound on each text is estimated at random times, for which the estimate is
    unbiased (`ScoringTask.scoring_loss`).

    Args:
        model: a generator.
        name: name of the text.
        stored: at least two texts, in stored form.
        given: conditions in stored form, keyed by name; item i belongs to text i.
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

    "perplexity" is 2 to the power of the bits per byte of the generated texts, so it is per byte.
    Repetitive texts have a low perplexity, so compare it only together with the entropy.

    Args:
        measurement: the model that generated the texts, and the settings of the metrics.
        judge: the `Generator` that scores the texts.
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
                f"{modality.length} of the judge's {theirs!r}; name a judge for longer texts"
            )
        report = measurement.progress(f"perplexity of {kind} of {name}", len(texts))
        stored = modality.repack(texts)
        estimate = bound(judge, theirs, stored, {}, measurement.settings, report)
        found[kind] = estimate._asdict()
    return {**found, "perplexity": 2.0 ** found["samples"]["value"]}


def judged(judge: Any, name: str) -> tuple[str, Text]:
    """Returns name and modality of the judge's text that scores texts called `name`.

    Raises:
        ValueError: there is no judge, or it is unclear which of its texts to use.
    """
    if judge is None:
        raise ValueError(
            "perplexity needs a model that scores the texts; give its workdir with --judge=DIR"
        )
    names = [target for target in judge.task.targets if predicts_bytes(judge.task, target)]
    if name not in names and len(names) != 1:
        known = ", ".join(names) or "none whose bytes it predicts"
        raise ValueError(f"the judge has no text modality {name!r}; it has: {known}")
    chosen = name if name in names else names[0]
    return chosen, judge.modality(chosen)
