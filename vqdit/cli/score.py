"""`vqdit score --workdir=DIR`: which candidate fits what is given best, by likelihood."""

import json
from pathlib import Path
from typing import Any

from vqdit.cli.options import COUNT, SEED, parse, with_help
from vqdit.cli.sample import load_generator, read_given

USAGE = """usage: vqdit score --workdir=DIR [--given NAME=VALUE] --candidates NAME=VALUE [OPTIONS]

Says which candidate fits each given item best: retrieval, or classification without classifier.

  --workdir=DIR             of the run, or of a config with several: its last one
  --given NAME=VALUE        what is known, as for sample: image=FILE.png, image=FOLDER, text=seven;
                            without it, how likely the candidates are by themselves
  --candidates NAME=VALUE   what to compare, any number of times, all of one other modality:
                            text=one, text=LINES.txt, label=0,1,2, image=FOLDER
  --rounds=N                network evaluations per score; more is more exact (default: 32)
  --batch-size=B            scores at a time (default: 64)
  --seed=S                  of the noise, which is the same for all candidates (default: 0)
  --out=FILE                where the scores are written (default: scores.json)

A score is a lower bound on log p(candidate | given) in nats; the probability is its share among the
candidates. For latents (a continuous process) it is minus the error of denoising, and there is no
probability."""
OPTIONS = {
    "workdir": str,
    "given": str,
    "candidates": str,
    "rounds": COUNT,
    "batch-size": COUNT,
    "seed": SEED,
    "out": str,
}


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    required = ("workdir", "candidates")
    options = parse(argv, OPTIONS, repeated=("given", "candidates"), required=required)

    import numpy as np

    from vqdit.inference.generator import BATCH
    from vqdit.runs.workdir import make_folder

    out = Path(options.get("out", "scores.json"))
    model = load_generator(options["workdir"])
    given = read_given(model, options.get("given", []))
    candidates = read_given(model, options["candidates"], "--candidates")
    if len(candidates) == 1:
        model.prepare(given, list(candidates), {}, None)
    make_folder(out.parent, "--out")
    scores = model.score(
        given,
        candidates,
        rounds=options.get("rounds", 32),
        seed=options.get("seed", 0),
        batch_size=options.get("batch-size", BATCH),
    )
    ((name, values),) = candidates.items()
    is_bound = model.task.targets[name].process.is_discrete
    kind = "lower bound on log-likelihood, nats" if is_bound else "minus denoising error"
    names = _shown(name, values)
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    probability = shifted / shifted.sum(axis=1, keepdims=True)
    record: dict[str, Any] = {
        "workdir": options["workdir"],
        "step": model.step,
        "given": options.get("given", []),
        "candidates": names,
        "score": kind,
        "scores": scores.tolist(),
        "best": [names[row] for row in scores.argmax(axis=1)],
    }
    if is_bound:
        record["probabilities"] = probability.tolist()
    out.write_text(json.dumps(record, indent=2) + "\n")
    for number, row in enumerate(scores):
        best = sorted(range(len(row)), key=lambda column: -row[column])[:3]
        ranking = "  ".join(
            f"{names[column]} {probability[number, column]:.1%} ({row[column]:.3g})"
            if is_bound
            else f"{names[column]} ({row[column]:.3g})"
            for column in best
        )
        print(f"given {number}: {ranking}")
    print(f"{kind}: {out}")
    return 0


def _shown(name: str, values: Any) -> list[str]:
    """How to speak of candidates: texts and labels as they are, others by their number."""
    return [str(value) if value.ndim == 0 else f"{name} {n}" for n, value in enumerate(values)]
