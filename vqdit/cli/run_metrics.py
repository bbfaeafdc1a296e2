"""Metrics of a run for `vqdit evaluate`: agreement of modalities, metrics of texts and sounds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdit.cli.options import near

NUM = 500
"""Default number of samples for each measurement of agreement."""


def run(
    *,
    workdir: str | None,
    coherence: bool,
    scoring: bool,
    metrics: str | None,
    given: Sequence[str],
    judge: str | None,
    num: int | None,
    rounds: int,
    window: int,
    split: str | None,
    guidance: float | None,
    batch_size: int,
    seed: int,
    out: str,
) -> int:
    """Runs `vqdit evaluate` for a run; the arguments are its options.

    Raises:
        ValueError: an option is missing or does not suit the others.
    """
    from vqdit.cli import agreement
    from vqdit.cli.given import load_generator
    from vqdit.evaluation import sound_metrics
    from vqdit.evaluation.evaluate import HELD_OUT
    from vqdit.evaluation.general_recognizers import fitting
    from vqdit.evaluation.recognizers import complete_source
    from vqdit.evaluation.text_measurement import Settings
    from vqdit.evaluation.text_metrics import check_metrics
    from vqdit.files import write_json
    from vqdit.runs import workdir as runs

    if workdir is None:
        raise ValueError("--workdir is missing; give --workdir=DIR; see --help")
    names, is_agreement = read_metrics(metrics, judge), coherence or scoring
    _check_options(names, is_agreement, split, given)
    model = load_generator(workdir)
    weigher = load_generator(judge) if judge else None
    place, folder = runs.find_run(Path(workdir)), Path(out)
    source = complete_source(runs.read_experiment(place).data.source)
    splits = (split,) if split else HELD_OUT
    of_sounds = [name for name in names if name in sound_metrics.METRICS]
    of_texts = [name for name in names if name not in of_sounds]
    if of_texts:
        check_metrics(model, of_texts, given, weigher)
    if of_sounds:
        sound_metrics.columns_of(model.task, of_sounds, given)
    recognizers = fitting(model, source) if is_agreement else None
    record: dict[str, Any] = {
        "workdir": str(place),
        "step": model.step,
        "source": type(source).__name__,
        "splits": list(splits),
        "num": NUM if num is None and is_agreement else num,
        "guidance": model.task.guidance if guidance is None else guidance,
        "seed": seed,
        "batch_size": batch_size,
    }
    runs.make_folder(folder, "--out")
    shown = f"{place} at step {model.step}, {record['source']}"
    if is_agreement:
        settings = {"num": record["num"], "guidance": guidance, "seed": seed}
        settings["batch_size"] = batch_size
        record |= agreement.measure(
            model, recognizers, source, splits, settings, coherence, scoring
        )
        print(f"{shown}: {record['num']} samples per line\n")
    if coherence:
        print(agreement.table(record))
    for name, rate in record.get("scoring", {}).items():
        print(f"the best scored {name} of a held-out image is correct: {agreement.share(rate)}")
    shown = f"{shown}, {' and '.join(splits)}"
    how = Settings(tuple(given), num, rounds, guidance, window, seed, batch_size)
    if of_sounds:
        sounds = _of_sounds(model, source, splits, of_sounds, how, shown)
        record |= {"sounds": sounds, "given": given}
    if of_texts:
        found = _of_texts(model, source, splits, of_texts, how, shown, weigher, judge)
        record |= {"metrics": found, "rounds": rounds, "given": given, "judge": judge}
    write_json(folder / "evaluation.json", record)
    print(f"\n{folder / 'evaluation.json'}")
    return 0


def _of_sounds(
    model: Any, source: Any, splits: Sequence[str], names: Sequence[str], how: Any, title: str
) -> dict[str, Any]:
    """Measures and prints metrics of generated sounds."""
    from vqdit.cli.report.text_metrics import Countdown
    from vqdit.evaluation.sound_metrics import measure_sounds, sound_table

    with Countdown() as countdown:
        found = measure_sounds(model, source, splits, names, how, countdown.update)
    print(f"{title}\n\n{sound_table(found)}")
    return found


def _of_texts(
    model: Any,
    source: Any,
    splits: Sequence[str],
    names: Sequence[str],
    how: Any,
    title: str,
    weigher: Any,
    judge: str | None,
) -> dict[str, Any]:
    """Measures and prints metrics of texts."""
    from vqdit.cli.report.text_metrics import Countdown, text_table
    from vqdit.evaluation.text_metrics import measure_text

    with Countdown() as countdown:
        found = measure_text(
            model, source, splits, names, how, judge=weigher, report=countdown.update
        )
    print(f"{title}\n\n{text_table(found, judge or '')}")
    return found


def _check_options(
    names: Sequence[str], is_agreement: bool, split: str | None, given: Sequence[str]
) -> None:
    """Raises ValueError if an option does not apply to the metrics that are measured."""
    from vqdit.evaluation.evaluate import HELD_OUT

    if not is_agreement and not names:
        raise ValueError(
            "nothing to evaluate; add --coherence (agreement of modalities), --scoring "
            "(classification of images by likelihood), or --metrics=bits_per_byte (prediction of "
            "texts)"
        )
    if split is not None and is_agreement and split not in HELD_OUT:
        raise ValueError(
            f"--split must be a held-out split ({' or '.join(HELD_OUT)}), got {split!r}; omit it "
            "to evaluate on both"
        )
    if split not in (None, "train", *HELD_OUT):
        raise ValueError(f"--split must be one of train, validation, test, got {split!r}")
    if given and not names:
        raise ValueError(
            "--given is an option for --metrics; omit it, as --coherence gives each modality "
            "in turn"
        )


def read_metrics(metrics: str | None, judge: str | None) -> list[str]:
    """Returns the names in a list of metrics, which are metrics of texts or of sounds.

    Raises:
        ValueError: a name is unknown, perplexity is named without a judge, or a judge is given
            without perplexity.
    """
    from vqdit.evaluation import sound_metrics
    from vqdit.evaluation.text_metrics import METRICS

    known = (*METRICS, *sound_metrics.METRICS)
    names = [name.strip() for name in metrics.split(",")] if metrics else []
    for name in names:
        if name in ("coherence", "scoring"):
            raise ValueError(f"{name} is not a metric of text; measure it with --{name}")
        if name not in known:
            hint = near(name, known) or f"; one of: {', '.join(known)}"
            raise ValueError(f"unknown metric {name!r}{hint}")
    if "perplexity" in names and not judge:
        raise ValueError(
            "perplexity needs a model that scores the texts; name its workdir with --judge=DIR"
        )
    if judge and "perplexity" not in names:
        raise ValueError("--judge is an option for the metric perplexity; add --metrics=perplexity")
    return names
