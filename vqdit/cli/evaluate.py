"""`vqdit evaluate --workdir=DIR --coherence`: measures whether what is generated agrees."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqdit.cli.options import COUNT, SEED, Integer, parse, with_help
from vqdit.cli.sample import load_generator

if TYPE_CHECKING:
    from vqdit.data import Source
    from vqdit.evaluation.recognizers import Values

log = logging.getLogger(__name__)

USAGE = """usage: vqdit evaluate --workdir=DIR --coherence [OPTIONS]

Measures a trained model with recognisers that were fitted on real training data.

  --workdir=DIR       of the run, or of a config with several: its last one
  --coherence         whether modalities agree: every one from every other, and all from nothing
  --scoring           whether the best fitting label and text of held-out images are the right ones
  --num=N             samples for each of them (default: 500)
  --split=NAME        held-out examples that are given: validation or test (default: both)
  --guidance=W        towards what is given; 1 is none (default: the config's)
  --batch-size=B      samples at a time (default: 64)
  --seed=S            of the noise (default: 0)
  --out=DIR           where evaluation.json is written (default: evaluation)

Data sets with recognisers: Digits, FashionMNIST, SpokenFashion."""
OPTIONS = {
    "workdir": str,
    "coherence": bool,
    "scoring": bool,
    "num": Integer("at least 2", 2),
    "split": str,
    "guidance": float,
    "batch-size": COUNT,
    "seed": SEED,
    "out": str,
}
REAL = 1000
"""Recognisers, and pictures, are judged by so many real examples, or by `--num` if that is more."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, required=("workdir",))
    from vqdit.evaluation.evaluate import HELD_OUT, draw, measure_agreement, score_images
    from vqdit.evaluation.image_scores import MAX_FITTED
    from vqdit.evaluation.recognizers import complete_source, recognizers_for
    from vqdit.inference.generator import BATCH
    from vqdit.runs import workdir

    _check(options, HELD_OUT)
    model = load_generator(options["workdir"])
    run = workdir.find_run(Path(options["workdir"]))
    source = complete_source(workdir.read_experiment(run).data.source)
    fit = recognizers_for(source)
    names = _modalities(model, fit, source)
    splits = (options["split"],) if "split" in options else HELD_OUT
    settings = {
        "num": options.get("num", 500),
        "guidance": options.get("guidance"),
        "seed": options.get("seed", 0),
        "batch_size": options.get("batch-size", BATCH),
    }
    out = Path(options.get("out", "evaluation"))
    workdir.make_folder(out, "--out")

    def real(splits: tuple[str, ...], count: int) -> "Values":
        stored = draw(source, splits, count)
        values = {name: model.modality(name).unpack(stored[name]) for name in names}
        return {**values, "label": stored["label"]}

    train, held_out = real(("train",), MAX_FITTED), real(splits, max(REAL, settings["num"]))
    recognizers = {name: fit[name](train) for name in names}
    log.info("fitted recognisers of %s", ", ".join(names))
    record = {
        "workdir": str(run),
        "step": model.step,
        "source": type(source).__name__,
        "splits": list(splits),
        **settings,
        "guidance": options.get("guidance", model.task.guidance),
    }
    if "coherence" in options:
        record |= measure_agreement(model, recognizers, train, held_out, **settings)
    if "scoring" in options:
        options_of_score = {name: settings[name] for name in ("seed", "batch_size")}
        record["scoring"] = score_images(model, recognizers, train, held_out, **options_of_score)
    (out / "evaluation.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{run} at step {model.step}, {record['source']}: {settings['num']} samples a line\n")
    if "coherence" in options:
        print(table(record))
    for name, rate in record.get("scoring", {}).items():
        print(f"the {name} that fits a held-out image best is right: {share(rate)}")
    print(f"\n{out / 'evaluation.json'}")
    return 0


def _check(options: dict[str, Any], held_out: tuple[str, ...]) -> None:
    if "coherence" not in options and "scoring" not in options:
        raise ValueError(
            "nothing to evaluate; add --coherence, which measures whether modalities agree, or "
            "--scoring, which classifies images by likelihood"
        )
    if options.get("split", "test") not in held_out:
        raise ValueError(
            f"--split must be {' or '.join(held_out)}, which the model has not seen, got "
            f"{options['split']!r}; without --split it is both"
        )


def _modalities(model: Any, fit: Mapping[str, Any], source: "Source") -> list[str]:
    names = [*model.task.targets, *model.task.conditions]
    for name in names:
        if name not in fit:
            raise ValueError(
                f"no recogniser for {name!r} of {type(source).__name__}; it has those for "
                f"{', '.join(fit)}"
            )
    return names


def table(record: Mapping[str, Any]) -> str:
    """Returns what `measure` found as text: shares with their 95 % intervals."""

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
