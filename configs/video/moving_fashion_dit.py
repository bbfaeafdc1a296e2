"""A masked DiT over the codes of moving garments, conditioned on the garment and its direction.

vqdit prepare moving_fashion
python train.py --config=configs/video/moving_fashion_vqvae.py
python train.py --config=configs/video/moving_fashion_dit.py
python sample.py --workdir=runs/moving_fashion_dit --given label=sneaker --given direction=left

A clip of 17 frames is 5x8x8 codes. Queries and keys are rotated by time, row and column.
"""

from vqdit.config import Experiment
from vqdit.data import Data, MovingFashion
from vqdit.data.fashion_mnist import GARMENTS
from vqdit.data.moving_fashion import DIRECTIONS
from vqdit.modalities import Label, Video
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import Condition, DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    video = Video(frames=17, size=(32, 32), channels=1)
    source = MovingFashion(video=video, columns=("video", "label", "direction"))
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                video=Target(
                    tokenizer="runs/moving_fashion_vqvae",
                    process=Masked(),
                    sampler=Unmasking(steps=16, noise=4.5),
                )
            ),
            conditions=Named(
                label=Condition(modality=Label(classes=10, names=GARMENTS)),
                direction=Condition(modality=Label(classes=8, names=DIRECTIONS)),
            ),
            model=DiT(
                depth=4, dim=144, heads=4, patch=1, positions="rope", norm="rms", qk_norm=True
            ),
            guidance=1.5,
        ),
        data=Data(source=source, batch_size=32),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        ema=0.998,
        steps=3000,
        evaluate_every=1000,
        preview_every=1000,
        checkpoint_every=500,
    )
