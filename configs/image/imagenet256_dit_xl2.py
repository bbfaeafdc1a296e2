"""DiT-XL/2 with flow matching on the 32x32 embeddings of the ImageNet tokenizer.

    python train.py --config=configs/image/imagenet256_vqvae.py
    python train.py --config=configs/image/imagenet256_dit_xl2.py --mesh.fsdp=8

The published model and recipe (Peebles & Xie, arXiv:2212.09748; Ma et al., "SiT",
arXiv:2401.08740): batch 256, constant 1e-4 without weight decay, average 0.9999. The reference
scale: a TPU v5e-32, for whose 16 GB a chip it compiles, or eight GPUs of 80 GB.
"""

from vqdit.config import Experiment
from vqdit.data import TFDS, Data, HorizontalFlip
from vqdit.modalities import Label
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Flow
from vqdit.samplers import Euler
from vqdit.tasks import Condition, DiffusionTask, Target
from vqdit.typing import Named


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="runs/imagenet256_vqvae",
                    process=Flow(),
                    sampler=Euler(steps=250),
                )
            ),
            conditions=Named(label=Condition(modality=Label(classes=1000), drop=0.1)),
            model=DiT.named("XL/2", dtype="bfloat16", remat=True),
            guidance=1.5,
        ),
        data=Data(
            source=TFDS(name="imagenet2012", size=256),
            augment=(HorizontalFlip(),),
            batch_size=256,
            workers=16,
        ),
        optimizer=AdamW(learning_rate=1e-4, warmup=0, final=1.0, clip=0.0),
        ema=0.9999,
        steps=400_000,
        log_every=100,
        evaluate_every=50_000,
        preview_every=10_000,
        checkpoint_every=2000,
    )
