"""Handwritten digits alone, by class: a VQ-VAE and a masked DiT, minutes on a laptop CPU.

    python train.py --config=configs/image/digits.py

First a VQ-VAE turns each 8x8 picture into 16 codes of 7 bits, then a masked Diffusion Transformer
learns to generate the codes of an asked digit. The quickstart adds sound and text.
"""

from vqdit.config import Experiment
from vqdit.data import Data, Digits
from vqdit.modalities import Image, Label
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import Condition, DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named


def config() -> dict[str, Experiment]:
    tokenizer = Experiment(
        task=TokenizerTask(
            modality=Image(size=(8, 8), channels=1),
            model=ConvAutoencoder(channels=(16, 32), blocks=1),
            quantizer=VQ(codebook_size=128, dim=16, start=200),
        ),
        data=Data(source=Digits(), batch_size=128),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        steps=800,
        preview_every=400,
        checkpoint_every=400,
    )
    generator = Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="tokenizer", process=Masked(), sampler=Unmasking(steps=12, noise=4.5)
                )
            ),
            conditions=Named(label=Condition(modality=Label(classes=10), drop=0.1)),
            model=DiT(depth=3, dim=96, heads=4, patch=1),
            guidance=1.25,
        ),
        data=Data(source=Digits(), batch_size=64),
        optimizer=AdamW(learning_rate=2e-3, warmup=50),
        ema=0.995,
        steps=1000,
        preview_every=500,
        checkpoint_every=500,
    )
    return {"tokenizer": tokenizer, "generator": generator}
