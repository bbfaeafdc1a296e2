"""`vqdit reconstruct --workdir=DIR`: originals beside what the tokenizer makes of them."""

import json
from pathlib import Path
from typing import Any

from vqdit.cli.options import parse, with_help

USAGE = """usage: vqdit reconstruct --workdir=DIR [--split=test] [--out=DIR]

Reconstructs a split with a trained tokenizer; originals stand above reconstructions.

  --workdir=DIR     of a tokenizer, or of a config with several experiments: its last tokenizer
  --split=NAME      train, validation or test (default: test)
  --out=DIR         where everything is written (default: reconstructions)

Writes reconstructions.png, reconstructions.npz (original, reconstruction, codes or latents) and
metrics.json (PSNR in dB, usage and perplexity of the codebook). Of a codebook also
code_use.png       a histogram of how often its codes occur in the split, the most used first
codebook.png       what each code looks like: alone at all positions, decoded; of a large codebook
                   the most used codes, of sounds their spectrograms."""
OPTIONS = {"workdir": str, "split": str, "out": str}
SHOWN = 64
SHOWS = (
    "originals above their reconstructions",
    "how often codes occur, the most used first",
    "what each code looks like, the most used first",
)
"""What is on the pictures, in their order."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, required=("workdir",))

    import jax
    import numpy as np

    from vqdit import metrics as measures
    from vqdit.cli.report.codebook_pictures import appearance, count_codes, histogram
    from vqdit.data.sources import check_split
    from vqdit.inference.tokenizer import Tokenizer
    from vqdit.modalities.image import save
    from vqdit.runs import restoring, workdir
    from vqdit.tasks import TokenizerTask
    from vqdit.tasks.autoencoder import side_by_side

    split, out = options.get("split", "test"), Path(options.get("out", "reconstructions"))
    check_split(split)
    run = _last_tokenizer(Path(options["workdir"]))
    restored = restoring.restore(run)
    tokenizer = Tokenizer(restored)
    task, data = tokenizer.task, restored.experiment.data
    batches = data.split_batches(split)
    workdir.make_folder(out, "--out")

    evaluate = jax.jit(restored.task.evaluate)
    total, rows = None, []
    for batch in batches:
        part = evaluate(restored.params, restored.stats, restored.frozen, batch, jax.random.key(0))
        total = measures.merge(total, part)
        original = np.asarray(batch.data[task.name])
        tokens = np.asarray(tokenizer.encode(original))
        reconstruction = np.asarray(tokenizer.decode(tokens))
        keep = batch.valid & batch.present[task.name]
        rows.append((original[keep], reconstruction[keep], tokens[keep]))
    if total is None:
        raise ValueError(f"the {split} split is empty; choose another --split")
    numbers = measures.compute(total)
    originals, reconstructions, tokens = (np.concatenate(part) for part in zip(*rows, strict=True))
    has_codes = isinstance(task, TokenizerTask)
    arrays: dict[str, Any] = {"original": originals, "reconstruction": reconstructions}
    arrays["codes" if has_codes else "latents"] = tokens
    np.savez(out / "reconstructions.npz", **arrays)
    drawn = (task.modality.draw(x[:SHOWN]) for x in (originals, reconstructions))
    files = [out / "reconstructions.png"]
    save(files[0], side_by_side(*drawn, columns=16))
    sizes = task.quantizer.codebook_sizes if isinstance(task, TokenizerTask) else ()
    is_drawn = has_codes and max(sizes) <= measures.COUNTABLE
    if is_drawn:
        counts = count_codes(tokens, sizes)
        files += [out / "code_use.png", out / "codebook.png"]
        histogram(counts).save(files[1])
        save(files[2], appearance(tokenizer, counts))
    record = {"workdir": str(run), "step": restored.step, "split": split, **numbers}
    (out / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"{len(originals)} examples of the {split} split, {run} at step {restored.step}")
    print("  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    for file, shows in zip(files, SHOWS, strict=False):
        print(f"  {file}: {shows}")
    if not is_drawn:
        why = f"{max(sizes)} codes are too many" if has_codes else "its latents are continuous"
        print(f"  no codebook is drawn: {why}")
    return 0


def _last_tokenizer(folder: Path) -> Path:
    from vqdit.runs import workdir
    from vqdit.tasks.autoencoder import AutoencoderTask

    tasks: dict[Path, Any] = {
        run: workdir.read_experiment(run).task for run in workdir.runs_of(folder)
    }
    found = [run for run, task in tasks.items() if isinstance(task, AutoencoderTask)]
    if not found:
        targets = [target for task in tasks.values() for target in task.targets.values()]
        used = {target.tokenizer for target in targets if target.tokenizer}
        raise ValueError(
            f"no tokenizer in {folder}; give the workdir of one: it uses {', '.join(sorted(used))}"
        )
    return found[-1]
