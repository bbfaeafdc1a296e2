"""Flow matching over the embeddings z_q of the Fashion-MNIST tokenizer, conditioned on the garment.

python train.py --config=configs/image/fashion_vqvae.py
python train.py --config=configs/image/fashion_flow.py
python sample.py --workdir=runs/fashion_flow --given label=3

6,000 steps took 48 minutes on two CPU cores that had other work too. After 2,000 a judge sees the
class asked for in 58 % of the samples, after 6,000 in 84 %.
"""

from vqdit.config import Experiment
from vqdit.data import Data, FashionMNIST
from vqdit.modalities import Label
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Flow, LogitNormal
from vqdit.samplers import Euler
from vqdit.tasks import Condition, DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="runs/fashion_vqvae",
                    process=Flow(),
                    time=LogitNormal(),
                    sampler=Euler(steps=50),
                )
            ),
            conditions=Named(label=Condition(modality=Label(classes=10))),
            model=DiT(depth=4, dim=128, heads=4, patch=1),
            guidance=2.0,
        ),
        data=Data(source=FashionMNIST(), batch_size=64),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        ema=0.998,
        steps=6000,
        evaluate_every=1000,
        preview_every=1000,
        checkpoint_every=500,
    )
