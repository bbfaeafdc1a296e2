"""`vqdit score --workdir=DIR`: ranks candidates by their likelihood."""

from pathlib import Path
from typing import Annotated, Any, Literal

from vqdit.cli.options import BATCH, FILE, ROUNDS, Repeated, Seed, Workdir, choice

KINDS = {
    ("likelihood", True): "lower bound on log p(candidate | given), nats",
    ("likelihood", False): "minus denoising error",
    ("information", True): "log p(candidate | given) - log p(candidate), nats",
    ("information", False): "denoising error without the given values, minus with them",
}
"""Descriptions of scores, by measure and by whether they bound log p."""


def score(
    *,
    workdir: Workdir,
    candidates: Repeated,
    given: Repeated = [],  # noqa: B006
    measure: Annotated[
        Literal["likelihood", "information"] | None, choice("likelihood", "information")
    ] = None,
    rounds: Annotated[int, ROUNDS] = 32,
    batch_size: Annotated[int, BATCH] = 64,
    seed: Seed = 0,
    out: Annotated[str, FILE] = "scores.json",
) -> int:
    """Rank candidates by how well they match the given values.

    This is retrieval, or classification without a classifier. Labels and texts are compared by
    their likelihood log p(candidate | given). Pictures and sounds are compared by information, log
    p(candidate | given) - log p(candidate); by likelihood, the picture with the highest
    unconditional likelihood would win. Estimates of log p are lower bounds in nats. Probabilities
    of candidates are normalised over all distinct candidates. For latents (a continuous process),
    the negative denoising error replaces log p, and there are no probabilities.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        candidates: NAME=VALUE, all of one modality: text=one, text=LINES.txt, label=0,1,2,
            image=FOLDER.
        given: NAME=VALUE, a known modality, as for sample: image=FILE.png, image=FOLDER,
            text=seven. Without it, candidates are ranked by their unconditional likelihood.
        measure: Quantity by which candidates are compared. Default: information for pictures and
            sounds; likelihood for labels and texts, and if --given is missing.
        rounds: Number of network evaluations per estimate of log p; more are more accurate.
        batch_size: Scores per batch.
        seed: Seed of the noise, which is the same for all candidates.
        out: JSON file of the scores.
    """
    if not candidates:
        raise ValueError("--candidates is missing; give --candidates=NAME=VALUES; see --help")

    import numpy as np

    from vqdit.cli.given import load_generator, read_values
    from vqdit.escapes import escaped
    from vqdit.files import write_json
    from vqdit.inference.scoring import chosen_measure
    from vqdit.runs.workdir import make_folder

    file = Path(out)
    if file.is_dir():
        raise ValueError(f"--out={out} is a folder; give the path of a file")
    model = load_generator(workdir)
    known = read_values(model, given)
    choices = read_values(model, candidates, "--candidates")
    if len(choices) != 1:
        raise ValueError(f"--candidates takes values of one modality, got {', '.join(choices)}")
    ((name, values),) = choices.items()
    model.prepare(known, name, None, None)
    chosen = chosen_measure(model.task, name, known, measure)
    make_folder(file.parent, "--out")
    how: dict[str, Any] = {"rounds": rounds, "seed": seed, "batch_size": batch_size}
    scores = model.score(known, choices, measure=chosen, **how)
    is_bound = model.task.targets[name].process.is_discrete
    kind = KINDS[chosen, is_bound]
    names = model.modality(name).captions(values) or [f"{name} {n}" for n in range(len(values))]
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    distinct = first_of_equal(model.pack(name, values))
    probability = shifted / shifted[:, distinct].sum(axis=1, keepdims=True)
    record: dict[str, Any] = {
        "workdir": workdir,
        "step": model.step,
        "given": given,
        **how,
        "candidates": names,
        "measure": chosen,
        "score": kind,
        "scores": scores.tolist(),
        "best": [names[row] for row in scores.argmax(axis=1)],
    }
    if is_bound:
        record["probabilities"] = probability.tolist()
    write_json(file, record)
    for number, row in enumerate(scores):
        ranking = "  ".join(
            f"{escaped(names[column])} {probability[number, column]:.1%} ({row[column]:.3g})"
            if is_bound
            else f"{escaped(names[column])} ({row[column]:.3g})"
            for column in sorted(range(len(row)), key=lambda column: -row[column])[:3]
        )
        print(f"given {number}: {ranking}")
    if len(distinct) < len(names):
        print(
            f"{len(distinct)} of {len(names)} candidates are distinct; equal candidates count once"
        )
    print(f"{kind}: {file}")
    return 0


def first_of_equal(stored: Any) -> list[int]:
    """Returns the indices of stored examples that differ from all earlier ones."""
    found: dict[tuple[Any, ...], int] = {}
    for number, example in enumerate(stored):
        found.setdefault((example.shape, example.tobytes()), number)
    return list(found.values())
