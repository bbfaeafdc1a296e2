"""`vqdit evaluate --workdir=DIR`: measures agreement of modalities, and metrics of text."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from vqdit.cli.options import (
    BATCH,
    COUNT,
    FOLDER,
    NUMBER,
    ROUNDS,
    RUN,
    Repeated,
    Seed,
    Workdir,
    integer,
    near,
    text,
)
from vqdit.rules import SEVERAL

log = logging.getLogger(__name__)

REAL = 1000
"""Number of held-out examples for recognisers and image metrics; more if `--num` is larger."""
NUM = 500
"""Number of samples for each measurement of agreement."""


def evaluate(
    *,
    workdir: Workdir,
    coherence: bool = False,
    scoring: bool = False,
    metrics: Annotated[str | None, text("NAME,NAME")] = None,
    given: Repeated = [],  # noqa: B006
    judge: Annotated[str | None, RUN] = None,
    num: Annotated[int | None, integer(SEVERAL)] = None,
    rounds: Annotated[int, ROUNDS] = 32,
    window: Annotated[int, COUNT] = 50,
    split: Annotated[str | None, text("{train,validation,test}")] = None,
    guidance: Annotated[float | None, NUMBER] = None,
    batch_size: Annotated[int, BATCH] = 64,
    seed: Seed = 0,
    out: Annotated[str, FOLDER] = "evaluation",
) -> int:
    """Measure agreement between modalities, and metrics of texts and sounds.

    Agreement (coherence, scoring) uses recognisers that are fitted on real training data. Data sets
    with recognisers: Digits, FashionMNIST, SpokenFashion. Metrics are for targets that are texts
    or sounds, of any data set.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        coherence: Measure whether modalities agree, both when each is generated from each of the
            others, and when all are generated together, unconditionally.
        scoring: Measure whether the labels and texts with the best scores for held-out images are
            correct.
        metrics: Metrics of text: bits_per_byte (how well held-out texts are predicted), distinct,
            verbatim, entropy (of generated and of held-out texts), exact_match (of texts generated
            from the other columns of held-out examples), perplexity (under --judge).
            Metrics of sounds that are generated from a text: phrase_accuracy (an independent speech
            recogniser finds the phrase, among all phrases), note_f1 (the notes of Chorales are
            found).
        given: NAME, a column of the held-out examples that is given to the model in all metrics.
            Default: none; for exact_match, all other columns.
        judge: Workdir of the model that measures the perplexity of generated texts.
        num: Number of samples per measurement. Default: 500; all held-out examples for
            bits_per_byte.
        rounds: Network evaluations for the likelihood of an example.
        window: Length of the windows of verbatim, in bytes.
        split: Split whose examples are given and scored. Default: validation and test. Metrics can
            also be measured on train.
        guidance: Guidance scale; 1 disables guidance. Default: as in the config.
        batch_size: Samples per batch.
        seed: Seed of the noise.
        out: Folder of evaluation.json.
    """
    from vqdit.cli.given import load_generator
    from vqdit.cli.report.text_metrics import Countdown, text_table
    from vqdit.evaluation import sound_metrics
    from vqdit.evaluation.evaluate import HELD_OUT
    from vqdit.evaluation.recognizers import complete_source
    from vqdit.evaluation.text_measurement import Settings
    from vqdit.evaluation.text_metrics import check_metrics, measure_text
    from vqdit.files import write_json
    from vqdit.runs import workdir as runs

    names = read_metrics(metrics, judge)
    is_agreement = coherence or scoring
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
            "--given is an option for --metrics; --coherence gives each modality in turn"
        )
    model = load_generator(workdir)
    weigher = load_generator(judge) if judge else None
    run, folder = runs.find_run(Path(workdir)), Path(out)
    source = complete_source(runs.read_experiment(run).data.source)
    splits = (split,) if split else HELD_OUT
    heard = [name for name in names if name in sound_metrics.METRICS]
    names = [name for name in names if name not in heard]
    if names:
        check_metrics(model, names, given, weigher)
    if heard:
        sound_metrics.columns_of(model.task, heard, given)
    recognized = _modalities(model, source) if is_agreement else {}
    record: dict[str, Any] = {
        "workdir": str(run),
        "step": model.step,
        "source": type(source).__name__,
        "splits": list(splits),
        "num": NUM if num is None and is_agreement else num,
        "guidance": model.task.guidance if guidance is None else guidance,
        "seed": seed,
        "batch_size": batch_size,
    }
    runs.make_folder(folder, "--out")
    shown = f"{run} at step {model.step}, {record['source']}"
    if is_agreement:
        settings = {"num": record["num"], "guidance": guidance, "seed": seed}
        settings["batch_size"] = batch_size
        record |= _measure(model, recognized, source, splits, settings, coherence, scoring)
        print(f"{shown}: {record['num']} samples per line\n")
    if coherence:
        print(table(record))
    for name, rate in record.get("scoring", {}).items():
        print(f"the best scored {name} of a held-out image is correct: {share(rate)}")
    how = Settings(tuple(given), num, rounds, guidance, window, seed, batch_size)
    if heard:
        with Countdown() as countdown:
            sounds = sound_metrics.measure_sounds(
                model, source, splits, heard, how, countdown.update
            )
        record |= {"sounds": sounds, "given": given}
        print(f"{shown}, {' and '.join(splits)}\n\n{sound_metrics.sound_table(sounds)}")
    if names:
        with Countdown() as countdown:
            found = measure_text(
                model, source, splits, names, how, judge=weigher, report=countdown.update
            )
        record |= {"metrics": found, "rounds": rounds, "given": given, "judge": judge}
        print(f"{shown}, {' and '.join(splits)}\n\n{text_table(found, judge or '')}")
    write_json(folder / "evaluation.json", record)
    print(f"\n{folder / 'evaluation.json'}")
    return 0


def read_metrics(metrics: str | None, judge: str | None) -> list[str]:
    """Returns the names of metrics of text and of sounds.

    Raises:
        ValueError: a name is unknown, or only one of the judge and its metric is given.
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


def _measure(
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


def _modalities(model: Any, source: Any) -> dict[str, Any]:
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
