"""`vqdit reconstruct --workdir=DIR`: originals beside what the tokenizer makes of them."""

import json
from pathlib import Path
from typing import Any

from vqdit.cli.options import parse

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
    options = parse(argv, OPTIONS, required="workdir")

    import jax
    import numpy as np

    from vqdit import metrics as measures
    from vqdit.api import Tokenizer
    from vqdit.data.sources import check_split
    from vqdit.modalities.image import save
    from vqdit.tasks.tokenizer import side_by_side
    from vqdit.train import workdir

    split, out = options.get("split", "test"), Path(options.get("out", "reconstructions"))
    check_split(split)
    run = _last_tokenizer(Path(options["workdir"]))
    restored = workdir.restore(run)
    tokenizer = Tokenizer(restored)
    task, data = tokenizer.task, restored.experiment.data
    batches = data.split_batches(split)
    workdir.make_folder(out, "--out")

    evaluate = jax.jit(task.evaluate)
    total, rows = None, []
    for batch in batches:
        part = evaluate(restored.params, restored.stats, {}, batch, jax.random.key(0))
        total = measures.merge(total, part)
        original = np.asarray(batch.data[task.name])
        codes = np.asarray(tokenizer.encode(original))
        reconstruction = np.asarray(tokenizer.decode(codes))
        keep = batch.valid & batch.present[task.name]
        rows.append((original[keep], reconstruction[keep], codes[keep]))
    if total is None:
        raise ValueError(f"the {split} split is empty; choose another --split")
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
    record = {"workdir": str(run), "step": restored.step, "split": split, **numbers}
    (out / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{len(originals)} examples of the {split} split, {run} at step {restored.step}")
    print("  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    print(f"  {out / 'reconstructions.png'}")
    return 0


def _last_tokenizer(folder: Path) -> Path:
    from vqdit.tasks.tokenizer import TokenizerTask
    from vqdit.train import workdir

    tasks: dict[Path, Any] = {
        run: workdir.read_experiment(run).task for run in workdir.runs_of(folder)
    }
    found = [run for run, task in tasks.items() if isinstance(task, TokenizerTask)]
    if not found:
        used = {target.tokenizer for task in tasks.values() for target in task.targets.values()}
        raise ValueError(
            f"no tokenizer in {folder}; give the workdir of one: it uses {', '.join(sorted(used))}"
        )
    return found[-1]
