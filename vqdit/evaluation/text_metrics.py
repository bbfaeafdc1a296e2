"""Metrics of a generator of texts: its predictions of real texts, and its samples.

They are measured for every target that is a text. Other columns of the real examples may be given
to the model.

* `bits_per_byte`: the process's bound on -log2 p(text) of real texts, divided by their bytes.
* `distinct`: distinct-1, 2 and 3 of generated texts, the proportions of different n-grams of words.
* `verbatim`: the proportion of generated texts, and of their windows, that occur in the training
  data.
* `exact_match`: the proportion of generated texts that equal the texts of the given examples.
* `entropy`: the entropy of the bytes of generated texts.
* `perplexity`: the perplexity of generated texts under another model, the judge.

Definitions are in `vqdit.evaluation.text_bound` and `vqdit.evaluation.text_statistics`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from vqdit.data import Source
from vqdit.data.sources import SPLITS
from vqdit.evaluation.intervals import rate
from vqdit.evaluation.text_bound import bits_per_byte, judged, perplexity, predicts_bytes
from vqdit.evaluation.text_data import corpus, rows, texts_of
from vqdit.evaluation.text_measurement import Measurement, Report, Settings
from vqdit.evaluation.text_statistics import by_length, distinct, entropies, entropy, verbatim
from vqdit.modalities import Label, Text

METRICS = ("bits_per_byte", "distinct", "verbatim", "exact_match", "entropy", "perplexity")
STATISTICS = ("distinct", "verbatim", "entropy")
"""Metrics of generated texts that need no network."""
NGRAMS = (1, 2, 3)


def text_targets(task: Any, given: Collection[str] = ()) -> list[str]:
    """Returns the targets of a task that are texts and are not given.

    Raises:
        ValueError: a given modality is unknown, or there is no such target.
    """
    for name in given:
        task.modality(name)
    found = [name for name in task.targets if isinstance(task.modality(name), Text)]
    if not found:
        raise ValueError(
            "metrics of text need a target that is a text, but this model generates "
            f"{', '.join(task.targets)}"
        )
    if set(found) <= set(given):
        raise ValueError(
            f"every text of this model is given ({', '.join(found)}), so there is no text to "
            "measure; give fewer columns"
        )
    return [name for name in found if name not in given]


def check_metrics(
    model: Any, metrics: Collection[str], given: Collection[str], judge: Any = None
) -> None:
    """Raises ValueError unless the metrics can be measured with this model and judge."""
    task, names = model.task, text_targets(model.task, given)
    if "bits_per_byte" in metrics and not any(predicts_bytes(task, name) for name in names):
        raise ValueError(
            f"bits_per_byte needs a model that predicts the bytes of a text, but {names[0]!r} "
            "has a lossy tokenizer; leave out this metric"
        )
    if "exact_match" in metrics and not _others(task, names[0]):
        raise ValueError(
            "exact_match needs another modality to give, but this model has only "
            f"{names[0]!r}; leave out this metric"
        )
    if "perplexity" in metrics:
        for name in names:
            judged(judge, name)


def measure_text(
    model: Any,
    source: Source,
    splits: Sequence[str],
    metrics: Collection[str],
    settings: Settings,
    *,
    judge: Any = None,
    report: Report | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures metrics of text; see the module's docstring.

    Args:
        model: a `vqdit.inference.generator.Generator`.
        source: data of the model.
        splits: splits whose examples are scored, given and compared with.
        metrics: some of `METRICS`; `perplexity` adds `entropy`.
        settings: settings of the metrics.
        judge: another `Generator`, for `perplexity`.
        report: function that is called with the progress.

    Returns:
        Results that can be written as JSON, by metric and name of the text.

    Raises:
        ValueError: a metric cannot be measured with the model, the judge, or the data.
    """
    check_metrics(model, metrics, settings.given, judge)
    if "perplexity" in metrics:
        metrics = {*metrics, "entropy"}
    measurement = Measurement(model, source, splits, settings, report)
    names = text_targets(model.task, settings.given)
    found: dict[str, dict[str, Any]] = {metric: {} for metric in METRICS if metric in metrics}
    for name in names:
        if "bits_per_byte" in metrics and predicts_bytes(model.task, name):
            found["bits_per_byte"][name] = bits_per_byte(measurement, name)
        if "exact_match" in metrics:
            found["exact_match"][name] = exact_match(measurement, name)
    statistics = [metric for metric in STATISTICS if metric in metrics]
    if not statistics:
        return found
    given, num = measurement.given, settings.samples
    held_out = {name: measurement.examples([name], given, num) for name in names}
    known = {name: held_out[names[0]].stored[name] for name in given}
    values = measurement.generate(names, known, num, "samples")
    for name in names:
        modality, stored = model.modality(name), held_out[name].stored[name]
        texts, real = _encoded(values[name]), texts_of(modality, stored)
        train = corpus(source, SPLITS[0], name, modality) if "verbatim" in metrics else b""
        for metric in statistics:
            found[metric][name] = _compared(metric, texts, real, train, settings.window)
        if "perplexity" in metrics:
            pair = values[name], modality.unpack(stored)
            found["perplexity"][name] = perplexity(measurement, judge, name, *pair)
    return found


def exact_match(measurement: Measurement, name: str) -> dict[str, Any]:
    """Returns the proportion of generated texts that equal the example's text, byte for byte.

    The model is given the columns `settings.given` or, if this is empty, all other columns. If
    these are only texts and labels, "one_of" is the proportion of texts that equal the text of any
    example with the same given values, such as another answer to the same question.
    """
    model, settings = measurement.model, measurement.settings
    given = settings.given or tuple(_others(model.task, name))
    given = tuple(dict.fromkeys((*given, *measurement.given)))
    found = measurement.examples([name], given, settings.samples)
    known = {column: found.stored[column] for column in given}
    texts = _encoded(
        measurement.generate([name], known, found.count, f"exact_match of {name}")[name]
    )
    modality = model.modality(name)
    pairs = zip(texts, texts_of(modality, found.stored[name]), strict=True)
    record = {**rate(np.asarray([text == own for text, own in pairs]))._asdict()}
    if all(isinstance(model.modality(column), Text | Label) for column in given):
        every = rows(measurement.source, SPLITS, (name, *given), None)
        recorded: dict[tuple[bytes, ...], set[bytes]] = {}
        for key, text in zip(
            _keys(every.stored, given), texts_of(modality, every.stored[name]), strict=True
        ):
            recorded.setdefault(key, set()).add(text)
        pairs = zip(texts, _keys(found.stored, given), strict=True)
        record["one_of"] = rate(
            np.asarray([text in recorded[key] for text, key in pairs])
        )._asdict()
    return record | {"given": [*given]}


def _compared(
    metric: str, texts: list[bytes], real: list[bytes], train: bytes, window: int
) -> dict[str, Any]:
    """Returns a statistic of generated and of real texts, in a form for JSON."""
    rows: dict[str, list[Any]]
    both = (texts, real)
    if metric == "distinct":
        rows = {str(n): [distinct(found, n) for found in both] for n in NGRAMS}
    elif metric == "verbatim":
        copied = [verbatim(found, train, window) for found in both]
        rows = {"texts": [one and one.texts for one in copied]}
        rows[f"windows of {window} bytes"] = [one and one.windows for one in copied]
    else:
        rows = {"all texts": [entropy(b"".join(found)) for found in both]}
        rows["each text"] = [entropies(found) for found in both]
        groups = [by_length(found) for found in both]
        for low, high in sorted({*groups[0], *groups[1]}):
            own = [entropies(group.get((low, high), [])) for group in groups]
            rows[f"each of {low} to {high} bytes"] = own
    found = {
        key: {"samples": _plain(pair[0]), "held_out": _plain(pair[1])} for key, pair in rows.items()
    }
    return {"samples": len(texts), "held_out": len(real), "values": found}


def _others(task: Any, name: str) -> list[str]:
    """Returns the names of all modalities of a task except `name`."""
    return [other for other in (*task.targets, *task.conditions) if other != name]


def _encoded(values: np.ndarray) -> list[bytes]:
    return [str(text).encode() for text in values]


def _keys(stored: Any, names: Sequence[str]) -> list[tuple[bytes, ...]]:
    """Returns the values of some columns in each row, as hashable keys."""
    columns = [[np.asarray(value).tobytes() for value in stored[name]] for name in names]
    return list(zip(*columns, strict=True))


def _plain(value: Any) -> Any:
    """Returns a number or a NamedTuple in a form for JSON."""
    return value._asdict() if hasattr(value, "_asdict") else value
