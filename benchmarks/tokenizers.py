"""Compares all quantizers with the same training recipe and the same bit rate.

    python -m benchmarks.tokenizers --out=runs/tokenizers
    python -m benchmarks.tokenizers --out=runs/tokenizers --only=VQ,FSQ --steps=500

Fashion-MNIST, padded to 32x32, becomes 8x8 codes of 9 bits. Network, optimizer, data, seed and
number of steps are the same for all quantizers, which use their defaults. The rate is the same
too: 64 codes of 9 bits for 1,024 pixels, where the codes of several small codebooks together count
as one code of 9 bits. All measures use the whole test split, except LPIPS, which uses 1,000 of its
pictures (`pip install -e '.[lpips]'`). Finished runs are not trained again.

*Entropy* is the rate that an ideal coder of single codes would need. A quantizer is *best per bit*
if none has a higher PSNR for an entropy that is not higher.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import metrics as measures
from vqdit.config import Experiment
from vqdit.data import Data, FashionMNIST
from vqdit.inference.loading import resolver
from vqdit.losses import LPIPS
from vqdit.metrics import CodeUse, Mean
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import (
    BSQ,
    FSQ,
    IBQ,
    LFQ,
    RVQ,
    VQ,
    GroupedVQ,
    GumbelVQ,
    Quantizer,
    SimVQ,
)
from vqdit.runs import logs, restoring
from vqdit.tasks import TokenizerTask
from vqdit.train.loop import train
from vqdit.typing import Named

STEPS = 1500
START = 300
"""The first step with codes, where k-means places them."""
EDGE, CODES, SIZE = 32, 64, 512
"""Pixels per edge; codes per picture; codebook size."""
PERCEIVED = 1000
"""Number of test pictures for LPIPS, whose network is far larger than the tokenizer."""


def quantizers(steps: int) -> dict[str, Quantizer]:
    """Returns what is compared, by name; each has 512 codes."""
    few = VQ(codebook_size=8, dim=16, start=START)
    return {
        "VQ": VQ(codebook_size=SIZE, dim=32, start=START),
        "VQ rotation": VQ(codebook_size=SIZE, dim=32, start=START, estimator="rotation"),
        "VQ cosine": VQ(codebook_size=SIZE, dim=32, start=START, distance="cosine"),
        "RVQ": RVQ(quantizer=few, depth=3),
        "GroupedVQ": GroupedVQ(quantizer=few, groups=3),
        "FSQ": FSQ(levels=(8, 8, 8)),
        "FSQ 4x4x4x4x2": FSQ(levels=(4, 4, 4, 4, 2)),
        "LFQ": LFQ(bits=9),
        "BSQ": BSQ(bits=9),
        "SimVQ": SimVQ(codebook_size=SIZE, dim=32),
        "IBQ": IBQ(codebook_size=SIZE, dim=32),
        "GumbelVQ": GumbelVQ(codebook_size=SIZE, dim=32, anneal=steps),
    }


def recipe(quantizer: Quantizer, steps: int) -> Experiment:
    """Returns what is trained."""
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(EDGE, EDGE), channels=1),
            model=ConvAutoencoder(channels=(32, 64), patch=2, blocks=1),
            quantizer=quantizer,
        ),
        data=Data(source=FashionMNIST(pad=2), batch_size=32),
        optimizer=AdamW(learning_rate=2e-3, warmup=100),
        steps=steps,
    )


def measure(folder: Path) -> dict[str, Any]:
    """Returns how a finished run does on the test split."""
    restored = restoring.restore(folder)
    task, params, stats = restored.task, restored.params, restored.stats
    if not isinstance(task, TokenizerTask):
        raise SystemExit(f"{folder} holds no tokenizer with codes")
    lpips, weights = LPIPS(), LPIPS().load()
    sizes = task.quantizer.codebook_sizes
    basis = np.cumprod((1, *sizes[:-1])).astype(np.int32)

    @jax.jit
    def evaluate(params: Any, stats: Any, batch: Any) -> Any:
        codes = task.encode(params, stats, batch.data[task.name])
        whole = jnp.sum(codes * basis, axis=-1, keepdims=True)
        use = Named(code=CodeUse.of(whole, math.prod(sizes), batch.valid))
        return task.evaluate(params, stats, {}, batch, jax.random.key(0)) | use

    @jax.jit
    def perceived(params: Any, stats: Any, weights: Any, batch: Any) -> Any:
        x = task.modality.standardize(batch.data[task.name])
        y = task.decode_standardized(params, stats, task.encode_standardized(params, stats, x))
        return Named(lpips=Mean.of(lpips.distance(weights, x, y), batch.valid))

    total, lpips_total = None, None
    for number, batch in enumerate(restored.experiment.data.split_batches("test")):
        total = measures.merge(total, evaluate(params, stats, batch))
        if number * len(batch.index) < PERCEIVED:
            lpips_total = measures.merge(lpips_total, perceived(params, stats, weights, batch))
    if total is None or lpips_total is None:
        raise SystemExit("the test split is empty")
    numbers = measures.compute(total) | measures.compute(lpips_total)
    pixels = EDGE * EDGE
    return {
        "PSNR": numbers["psnr"],
        "SSIM": numbers["ssim"],
        "LPIPS": numbers["lpips"],
        "usage": 1.0 - numbers["code_dead"],
        "perplexity": numbers["code_perplexity"],
        "bits per pixel": CODES * math.log2(math.prod(sizes)) / pixels,
        "entropy": CODES * math.log2(numbers["code_perplexity"]) / pixels,
    }


def minutes_of(folder: Path) -> float:
    """Returns how long a run took, compilation included, however often it was stopped."""
    last = (folder / "performance.jsonl").read_text().splitlines()[-1]
    return json.loads(last)["elapsed_seconds"] / 60.0


def case(name: str, quantizer: Quantizer, steps: int, out: Path) -> dict[str, Any]:
    """Trains and measures one quantizer, unless that was done."""
    folder = out / name.replace(" ", "_").lower()
    record = folder / "benchmark.json"
    if record.is_file():
        return json.loads(record.read_text())
    outcome = train(recipe(quantizer, steps), folder, resolver({}))
    if outcome.exit_code:
        raise SystemExit(outcome.exit_code)
    minutes = minutes_of(folder)
    found = {"quantizer": name, "steps": steps, "minutes": minutes, **measure(folder)}
    record.write_text(json.dumps(found, indent=2) + "\n")
    return found


def is_best(found: dict[str, Any], others: list[dict[str, Any]]) -> bool:
    """Returns whether no other has a higher PSNR for an entropy that is not higher."""
    return not any(o["PSNR"] > found["PSNR"] and o["entropy"] <= found["entropy"] for o in others)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--only", help="names of quantizers, separated by commas")
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    logs.to_terminal()
    known = quantizers(args.steps)
    names = args.only.split(",") if args.only else list(known)
    unknown = set(names) - set(known)
    if unknown:
        parser.error(f"no quantizer {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    found = [case(name, known[name], args.steps, args.out) for name in names]
    print(
        "| quantizer | PSNR | SSIM | LPIPS | usage | perplexity | bits per pixel, entropy | time |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for row in found:
        mark = " (best per bit)" if is_best(row, found) else ""
        cells = [
            row["quantizer"] + mark,
            f"{row['PSNR']:.2f} dB",
            f"{row['SSIM']:.3f}",
            f"{row['LPIPS']:.3f}",
            f"{100 * row['usage']:.1f} %",
            f"{row['perplexity']:.0f}",
            f"{row['bits per pixel']:.4f}, {row['entropy']:.4f}",
            f"{row['minutes']:.1f} min",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
