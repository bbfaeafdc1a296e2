"""Columns of your own, of any names: a picture before, an instruction, and the picture after.

    python configs/joint/recolor.py     # writes the table recolor/edits.jsonl and its pictures
    python train.py --config=configs/joint/recolor.py
    python sample.py --workdir=runs/recolor --want after --given before=recolor/test \
        --given instruction="make it red"

The table has scikit-learn's 1,797 digits, each in one of six colours (`before`), a request for
another one (`instruction`) and the digit in that colour (`after`); each pixel is black or has the
colour. One VQ-VAE makes codes of both pictures, and one masked Diffusion Transformer learns the
three columns together. Nothing is downloaded.

After 4 minutes of CPU time, 98.4 % of the pixels of held-out pictures have the right colour, and
97.8 % of those that are not black (tests/test_recolor.py). Of the instructions that it gives for
two pictures (`--want instruction`), 77 % name the right colour without a spelling mistake.

The VQ-VAE must be exact: after half of its steps the colours of 1 % of the pixels are lost in its
codes, and one of two trainings of the Transformer over them reached only 86 %.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from vqdit.config import Experiment
from vqdit.data import Data, Table
from vqdit.modalities import Image, Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named

PICTURE = Image(size=(8, 8))
INSTRUCTION = Text(length=16)
TABLE = Table(
    path="recolor/edits.jsonl",
    columns=Named(before=PICTURE, instruction=INSTRUCTION, after=PICTURE),
)
COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
REQUESTS = ("make it {}", "paint it {}", "now in {}")


def config() -> dict[str, Experiment]:
    return {"picture": picture(), "recolor": recolor()}


def picture(steps: int = 600) -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="before",  # the pictures after are of the same kind
            modality=PICTURE,
            model=ConvAutoencoder(channels=(16, 32), blocks=1),
            quantizer=VQ(codebook_size=128, dim=16, start=100),
        ),
        data=Data(source=TABLE, batch_size=128),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        steps=steps,
    )


def recolor(steps: int = 1500) -> Experiment:
    target = Target(
        tokenizer="picture",
        process=Masked(weighting="uniform"),
        sampler=Unmasking(steps=8, temperature=0.3, noise=0.5),
    )
    text = CodeTarget(
        modality=INSTRUCTION,
        process=Masked(weighting="uniform"),
        sampler=Unmasking(steps=8, temperature=0.3, noise=0.2),
        weight=3.0,
    )
    return Experiment(
        task=DiffusionTask(
            targets=Named(before=target, instruction=text, after=target),
            joint=Independent(p_one_known=0.1, p_known=0.85, p_dropped=0.2),
            model=DiT(depth=3, dim=96, heads=4, patch=1, mlp_ratio=3),
        ),
        data=Data(source=TABLE, batch_size=48),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        ema=0.995,
        steps=steps,
    )


def write_table(folder: Path) -> None:
    """Writes the table, its pictures, and ten pictures before an edit of the test split."""
    from PIL import Image as Pillow
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits, labels = load_digits(return_X_y=True)
    random, names = np.random.default_rng(0), list(COLOURS)
    train, rest = train_test_split(
        np.arange(len(digits)), train_size=0.8, stratify=labels, random_state=0
    )
    splits = dict.fromkeys(np.asarray(train).tolist(), "train") | {
        row: ("validation", "test")[number % 2]
        for number, row in enumerate(np.asarray(rest).tolist())
    }
    for part in ("before", "after", "test"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows, shown = [], 0
    for number, digit in enumerate(digits):
        colours = random.choice(names, size=2, replace=False)
        request, row = random.choice(REQUESTS).format(colours[1]), {"split": splits[number]}
        for part, colour in zip(("before", "after"), colours, strict=True):
            ink = np.where(digit.reshape(8, 8, 1) >= 8, COLOURS[colour], 0).astype(np.uint8)
            row[part] = f"{part}/{number:04}.png"
            Pillow.fromarray(ink).save(folder / row[part])
        if row["split"] == "test" and shown < 10:
            shutil.copy(folder / row["before"], folder / "test")
            shown += 1
        rows.append(row | {"instruction": request})
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "edits.jsonl").write_text(lines)


if __name__ == "__main__":
    write_table(Path(TABLE.path).parent)
    print(f"{TABLE.path}: a table with the columns {', '.join(TABLE.columns)} and split")
