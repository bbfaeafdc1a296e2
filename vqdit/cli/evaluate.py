"""`vqdit evaluate --workdir=DIR --coherence`: measures whether what is generated agrees."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from vqdit.cli.options import BATCH, FOLDER, NUMBER, Seed, Workdir, integer, text
from vqdit.rules import SEVERAL

log = logging.getLogger(__name__)

REAL = 1000
"""Real examples that test the recognisers and images; more if `--num` is larger."""


def evaluate(
    *,
    workdir: Workdir,
    coherence: bool = False,
    scoring: bool = False,
    num: Annotated[int, integer(SEVERAL)] = 500,
    split: Annotated[str | None, text("{validation,test}")] = None,
    guidance: Annotated[float | None, NUMBER] = None,
    batch_size: Annotated[int, BATCH] = 64,
    seed: Seed = 0,
    out: Annotated[str, FOLDER] = "evaluation",
) -> int:
    """Measure how well modalities agree.

    Uses recognisers that are fitted on real training data. Data sets with recognisers: Digits,
    FashionMNIST, SpokenFashion.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        coherence: Measure whether modalities agree: each generated from each other one, and all
            generated together from nothing.
        scoring: Measure whether the best scored label and text of held-out images are correct.
        num: Samples per measurement.
        split: Held-out examples that are given. Default: both.
        guidance: Guidance scale; 1 disables guidance. Default: that of the config.
        batch_size: Samples per batch.
        seed: Seed of the noise.
        out: Folder of evaluation.json.
    """
    from vqdit.cli.given import load_generator
    from vqdit.evaluation.evaluate import HELD_OUT
    from vqdit.evaluation.recognizers import complete_source, recognizers_for
    from vqdit.files import write_json
    from vqdit.runs import workdir as runs

    if not coherence and not scoring:
        raise ValueError(
            "nothing to evaluate; add --coherence, which measures whether modalities agree, or "
            "--scoring, which classifies images by likelihood"
        )
    if split is not None and split not in HELD_OUT:
        raise ValueError(
            f"--split must be a held-out split ({' or '.join(HELD_OUT)}), got {split!r}; omit it "
            "to evaluate on both"
        )
    model = load_generator(workdir)
    run, folder = runs.find_run(Path(workdir)), Path(out)
    source = complete_source(runs.read_experiment(run).data.source)
    fit = recognizers_for(source)
    names = _modalities(model, fit, source)
    splits = (split,) if split else HELD_OUT
    settings = {"num": num, "guidance": guidance, "seed": seed, "batch_size": batch_size}
    runs.make_folder(folder, "--out")
    record = {
        "workdir": str(run),
        "step": model.step,
        "source": type(source).__name__,
        "splits": list(splits),
        **settings,
        "guidance": model.task.guidance if guidance is None else guidance,
    }
    fit = {name: fit[name] for name in names}
    record |= _measure(model, fit, source, splits, settings, coherence, scoring)
    write_json(folder / "evaluation.json", record)
    print(f"{run} at step {model.step}, {record['source']}: {num} samples a line\n")
    if coherence:
        print(table(record))
    for name, rate in record.get("scoring", {}).items():
        print(f"the best scored {name} of a held-out image is correct: {share(rate)}")
    print(f"\n{folder / 'evaluation.json'}")
    return 0


def _measure(
    model: Any,
    fit: Mapping[str, Any],
    source: Any,
    splits: tuple[str, ...],
    settings: dict[str, Any],
    coherence: bool,
    scoring: bool,
) -> dict[str, Any]:
    """Fits the recognisers, and measures the model with them."""
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


def _modalities(model: Any, fit: Mapping[str, Any], source: Any) -> list[str]:
    names = [*model.task.targets, *model.task.conditions]
    for name in names:
        if name not in fit:
            raise ValueError(
                f"no recogniser for {name!r} of {type(source).__name__}; it has those for "
                f"{', '.join(fit)}"
            )
    return names


def table(record: Mapping[str, Any]) -> str:
    """Returns what `measure_agreement` found as text: shares with their 95 % intervals."""

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
