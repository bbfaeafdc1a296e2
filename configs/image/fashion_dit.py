"""A masked DiT over the codes of the Fashion-MNIST tokenizer, conditioned on the garment.

python train.py --config=configs/image/fashion_vqvae.py
python train.py --config=configs/image/fashion_dit.py
python sample.py --workdir=runs/fashion_dit --given label=sneaker
"""

from vqdit.config import Experiment
from vqdit.data import Data, FashionMNIST
from vqdit.data.fashion_mnist import GARMENTS
from vqdit.modalities import Label
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import Condition, DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="runs/fashion_vqvae",
                    process=Masked(),
                    sampler=Unmasking(steps=16, noise=4.5),
                )
            ),
            conditions=Named(label=Condition(modality=Label(classes=10, names=GARMENTS))),
            model=DiT(depth=4, dim=128, heads=4, patch=1),
            guidance=1.5,
        ),
        data=Data(source=FashionMNIST(), batch_size=64),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        ema=0.998,
        steps=3000,
        evaluate_every=1000,
        preview_every=1000,
        checkpoint_every=500,
    )
