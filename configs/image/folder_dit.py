"""A masked DiT over the codes of your own pictures, without labels.

    python train.py --config=configs/image/folder_vqvae.py --data.source.path=PICTURES
    python train.py --config=configs/image/folder_dit.py --data.source.path=PICTURES

If the folder has sub-folders, add a Condition for their classes, as fashion_dit.py does.
"""

from vqdit.config import Experiment
from vqdit.data import Data, HorizontalFlip, ImageFolder
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="runs/folder_vqvae",
                    process=Masked(schedule="cosine"),
                    sampler=Unmasking(steps=16, noise=4.5),
                )
            ),
            model=DiT.named("S/1"),
        ),
        data=Data(
            source=ImageFolder(path="pictures", size=64),
            augment=(HorizontalFlip(),),
            batch_size=64,
        ),
        optimizer=AdamW(learning_rate=3e-4, warmup=1000),
        ema=0.999,
        steps=50_000,
        evaluate_every=5000,
        preview_every=2500,
        checkpoint_every=1000,
    )
