"""`vqdit reconstruct --workdir=DIR`: originals beside what the tokenizer makes of them."""

import json
import sys
from pathlib import Path

from vqdit.cli.sample import parse

USAGE = """usage: vqdit reconstruct --workdir=DIR [--split=test] [--out=DIR]

Reconstructs a split with a trained tokenizer; originals stand above reconstructions.

  --workdir=DIR     of a tokenizer, or of a config with several experiments: its last tokenizer
  --split=NAME      train, validation or test (default: test)
  --out=DIR         where everything is written (default: reconstructions)

Writes reconstructions.png, reconstructions.npz (original, reconstruction, codes) and metrics.json
(PSNR in dB, usage and perplexity of the codebook)."""
OPTIONS = {"workdir": str, "split": str, "out": str}
SHOWN = 64


def main(argv: list[str]) -> int:
    """Runs the command."""
    if "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0
    options = parse(argv, OPTIONS)
    if "workdir" not in options:
        print(f"{USAGE}\nerror: --workdir is missing", file=sys.stderr)
        return 2

    import jax
    import numpy as np

    from vqdit import metrics as measures
    from vqdit.api import Tokenizer
    from vqdit.data.sources import check_split
    from vqdit.modalities.image import save
    from vqdit.tasks.tokenizer import TokenizerTask, side_by_side
    from vqdit.train import workdir

    split, out = options.get("split", "test"), Path(options.get("out", "reconstructions"))
    check_split(split)
    runs = [
        run
        for run in workdir.runs_of(Path(options["workdir"]))
        if isinstance(workdir.read_experiment(run).task, TokenizerTask)
    ]
    if not runs:
        raise ValueError(f"no tokenizer in {options['workdir']}")
    restored = workdir.restore(runs[-1])
    tokenizer = Tokenizer(restored)
    task, data = tokenizer.task, restored.experiment.data
    out.mkdir(parents=True, exist_ok=True)

    evaluate = jax.jit(task.evaluate)
    total, rows = None, []
    for batch in data.split_batches(split):
        part = evaluate(restored.params, restored.stats, {}, batch, jax.random.key(0))
        total = measures.merge(total, part)
        original = np.asarray(batch.data[task.name])
        codes = np.asarray(tokenizer.encode(original))
        keep = batch.valid & batch.present[task.name]
        reconstruction = np.asarray(tokenizer.decode(codes))
        rows.append((original[keep], reconstruction[keep], codes[keep]))
    if total is None:
        raise ValueError(f"the {split} split is empty")
    numbers = measures.compute(total)
    originals, reconstructions, codes = (np.concatenate(part) for part in zip(*rows, strict=True))
    np.savez(
        out / "reconstructions.npz",
        original=originals,
        reconstruction=reconstructions,
        codes=codes,
    )
    picture = side_by_side(originals[:SHOWN], reconstructions[:SHOWN], columns=16)
    save(out / "reconstructions.png", picture)
    record = {"workdir": str(runs[-1]), "step": restored.step, "split": split, **numbers}
    (out / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{len(originals)} examples of the {split} split, {runs[-1]} at step {restored.step}")
    print("  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    print(f"  {out / 'reconstructions.png'}")
    return 0
