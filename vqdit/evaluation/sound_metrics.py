"""Metrics of sounds that are generated from texts, and of real sounds for comparison.

* `phrase_accuracy`: the fraction of sounds in which an independent speech recogniser finds the
  given phrase, choosing among all phrases of the data (`PhraseRecognizer`).
* `note_f1`: the F1 score of the notes that `vqdit.evaluation.notes` transcribes from the sound,
  compared with the notes of the given score; only for `Chorales`.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from vqdit.data import Chorales, Source
from vqdit.data.chorales import notes_of
from vqdit.data.sources import SPLITS
from vqdit.evaluation.intervals import rate
from vqdit.evaluation.notes import f1, score_notes, transcribe
from vqdit.evaluation.phrases import PhraseRecognizer
from vqdit.evaluation.recognizers import complete_source
from vqdit.evaluation.text_data import rows
from vqdit.evaluation.text_measurement import Measurement, Report, Settings
from vqdit.modalities import Audio, Text

METRICS = ("phrase_accuracy", "note_f1")


def columns_of(task: Any, metrics: Collection[str], given: Collection[str]) -> tuple[str, str]:
    """Returns the target that is a sound, and the text that describes the sound.

    Raises:
        ValueError: the task has no such target or text.
    """
    names = [*task.targets, *task.conditions]
    sounds = [name for name in task.targets if isinstance(task.modality(name), Audio)]
    texts = [name for name in names if isinstance(task.modality(name), Text)]
    sounds = [name for name in sounds if name not in given]
    if not sounds or not texts:
        raise ValueError(
            f"the metric {next(iter(metrics))} needs a target that is a sound, and a given "
            f"text; this model has {', '.join(names)}"
        )
    chosen = [name for name in texts if name in given] or texts
    return sounds[0], chosen[0]


def measure_sounds(
    model: Any,
    source: Source,
    splits: Sequence[str],
    metrics: Collection[str],
    settings: Settings,
    report: Report | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures metrics of sounds; see the module.

    Args:
        model: a `vqdit.inference.generator.Generator`.
        source: data of the model.
        splits: splits whose texts are given.
        metrics: some of `METRICS`.
        settings: settings of the measurement; `given` names further columns that are given.
        report: function that is called with the progress.

    Returns:
        Results that can be written as JSON, by metric and name of the sound.

    Raises:
        ValueError: a metric cannot be measured with the model or the data.
    """
    name, text = columns_of(model.task, metrics, settings.given)
    if "note_f1" in metrics:
        _scores(source)
    given = tuple(dict.fromkeys((text, *settings.given)))
    measurement = Measurement(model, source, splits, settings, report)
    found = measurement.examples([name], given, settings.samples)
    known = {column: found.stored[column] for column in given}
    sounds = measurement.generate([name], known, found.count, f"sounds of {text}")[name]
    audio, texts = model.modality(name), _texts(model.modality(text), found.stored[text])
    record: dict[str, dict[str, Any]] = {}
    if "phrase_accuracy" in metrics:
        every = rows(source, SPLITS, (text,), None)
        phrases = list(dict.fromkeys(_texts(model.modality(text), every.stored[text])))
        pair = sounds, found.stored[name]
        record["phrase_accuracy"] = {name: phrase_accuracy(phrases, texts, audio.rate, pair)}
    if "note_f1" in metrics:
        beat = _scores(source).beat
        scores = [score_notes(notes_of(one), beat) for one in texts]
        values = {
            kind: [
                f1(transcribe(sound, audio.rate), notes)
                for sound, notes in zip(column, scores, strict=True)
            ]
            for kind, column in (("value", sounds), ("real", found.stored[name]))
        }
        means = {kind: float(np.mean(each)) for kind, each in values.items()}
        record["note_f1"] = {name: {**means, "count": found.count}}
    return record


def phrase_accuracy(
    phrases: Sequence[str], texts: Sequence[str], rate_of: int, pair: tuple[Any, Any]
) -> dict[str, Any]:
    """Returns the fractions of generated and of real sounds that are recognised as their texts.

    Args:
        phrases: all phrases among which the recogniser chooses.
        texts: the text of each sound.
        rate_of: sampling rate of the sounds in Hz.
        pair: generated and real sounds.
    """
    recognizer = PhraseRecognizer(phrases, rate_of)
    wanted = np.asarray([recognizer.class_of(text) for text in texts])
    kept = np.flatnonzero(wanted >= 0)
    right = [recognizer.predict([column[row] for row in kept]) == wanted[kept] for column in pair]
    generated, real = (rate(one)._asdict() for one in right)
    return {
        **generated, "real": real, "phrases": len(recognizer.classes),
        "left_out": len(wanted) - len(kept),
    }  # fmt: skip


def sound_table(found: dict[str, dict[str, Any]]) -> str:
    """Returns the results of `measure_sounds` as lines of text."""
    lines = []
    for metric, values in found.items():
        for name, value in values.items():
            real = value["real"]["value"] if metric == "phrase_accuracy" else value["real"]
            among = f", among {value['phrases']} phrases" if "phrases" in value else ""
            lines.append(
                f"{metric} of {name}: {value['value']:.3f} generated, {real:.3f} real "
                f"({value['count']} sounds{among})"
            )
    return "\n".join(lines)


def _texts(modality: Any, stored: Any) -> list[str]:
    return [str(text) for text in modality.unpack(stored)]


def _scores(source: Source) -> Chorales:
    source = complete_source(source)
    if not isinstance(source, Chorales):
        raise ValueError(
            "the metric note_f1 needs the notes of the data Chorales, got the data "
            f"{type(source).__name__}"
        )
    return source
