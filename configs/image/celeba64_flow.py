"""Flow matching over the embeddings of the face tokenizer: DiT-B/2 on the 16x16 grid.

python train.py --config=configs/image/celeba64_vqvae.py
python train.py --config=configs/image/celeba64_flow.py
"""

from vqdit.config import Experiment
from vqdit.data import TFDS, Data, HorizontalFlip
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Flow, LogitNormal
from vqdit.samplers import Euler
from vqdit.tasks import DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="runs/celeba64_vqvae",
                    process=Flow(),
                    time=LogitNormal(),
                    sampler=Euler(steps=50),
                )
            ),
            model=DiT.named("B/2", dtype="bfloat16"),
        ),
        data=Data(
            source=TFDS(name="celeb_a", size=64),
            augment=(HorizontalFlip(),),
            batch_size=256,
            workers=4,
        ),
        optimizer=AdamW(learning_rate=2e-4, warmup=2000),
        ema=0.9999,
        steps=200_000,
        log_every=100,
        evaluate_every=20_000,
        preview_every=10_000,
        checkpoint_every=2000,
    )
