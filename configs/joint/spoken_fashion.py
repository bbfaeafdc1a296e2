"""Garments that are shown, named and spoken: any of the three from any other. For one GPU.

vqdit prepare spoken_fashion
python train.py --config=configs/joint/spoken_fashion.py

Needs Debian's packages dataset-fashion-mnist and espeak-ng. A picture of 28x28 pixels becomes 49
codes, a second of speech 128, a caption is 24 bytes. The variant for a CPU is spoken_fashion_cpu.
"""

from vqdit.config import Experiment
from vqdit.data import Data, SpokenFashion
from vqdit.data.fashion_mnist import GARMENTS
from vqdit.losses import Mel
from vqdit.modalities import Audio, Image, Label, Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named

STEPS = 32
"""Network evaluations of a generation."""


def config() -> dict[str, Experiment]:
    image = Experiment(
        task=TokenizerTask(
            name="image",
            modality=Image(size=(28, 28), channels=1),
            model=ConvAutoencoder(channels=(64, 128, 128), blocks=2),
            quantizer=VQ(codebook_size=512, dim=32, start=500),
        ),
        data=Data(source=SpokenFashion(), batch_size=128),
        optimizer=AdamW(learning_rate=1e-3, warmup=200),
        steps=5000,
        evaluate_every=1000,
        preview_every=1000,
    )
    audio = Experiment(
        task=TokenizerTask(
            name="audio",
            modality=Audio(samples=8192, rate=8000),
            model=ConvAutoencoder(channels=(128, 256, 256), patch=16, blocks=2),
            quantizer=VQ(codebook_size=1024, dim=32, start=500),
            perceptual=(Mel(rate=8000),),
        ),
        data=Data(source=SpokenFashion(), batch_size=64),
        optimizer=AdamW(learning_rate=1e-3, warmup=200),
        steps=5000,
        evaluate_every=1000,
        preview_every=1000,
    )
    joint = Experiment(
        task=DiffusionTask(
            targets=Named(
                label=CodeTarget(
                    modality=Label(classes=10, names=GARMENTS),
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS),
                    reveal=(0.0, 1 / 16),
                    weight=3.0,
                ),
                text=CodeTarget(
                    modality=Text(length=24),
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, temperature=0.5, noise=0.5),
                    reveal=(1 / 16, 6 / 16),
                    weight=2.0,
                ),
                image=Target(
                    tokenizer="image",
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, noise=4.5),
                    reveal=(4 / 16, 12 / 16),
                ),
                audio=Target(
                    tokenizer="audio",
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, temperature=0.6, noise=1.0),
                    reveal=(6 / 16, 1.0),
                ),
            ),
            joint=Independent(p_one_known=0.6, p_known=0.2, max_known_time=0.3, p_dropped=0.1),
            model=DiT(depth=8, dim=384, heads=6, patch=1, dtype="bfloat16"),
        ),
        data=Data(source=SpokenFashion(), batch_size=128),
        optimizer=AdamW(learning_rate=5e-4, warmup=500),
        ema=0.999,
        steps=12000,
        evaluate_every=2000,
        preview_every=2000,
    )
    return {"image": image, "audio": audio, "joint": joint}
