"""The embedded example: a digit's picture, its telephone tone, its name and label, any from any.

    python train.py --config=configs/quickstart.py

Nothing is downloaded and a laptop CPU is enough. First a VQ-VAE turns each 8x8 picture into 16
codes, a second one each tenth of a second of sound into 5; then one masked Diffusion Transformer
learns all of them together with the letters of the name and the label.
"""

from vqdit.config import Experiment
from vqdit.data import Affine, Data, Digits
from vqdit.modalities import Audio, Image, Label, Text
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named

STEPS = 16
"""Network evaluations of a generation."""


def config() -> dict[str, Experiment]:
    return {"image": image(), "audio": audio(), "joint": joint()}


def image(steps: int = 400) -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="image",
            modality=Image(size=(8, 8), channels=1),
            model=ConvAutoencoder(channels=(16, 32), blocks=1),
            quantizer=VQ(codebook_size=128, dim=16, start=120),
        ),
        data=Data(source=Digits(), batch_size=128),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        steps=steps,
    )


def audio(steps: int = 500) -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=Audio(samples=800, rate=8000),
            model=ConvAutoencoder(channels=(128,), patch=160, blocks=1),
            quantizer=VQ(codebook_size=512, dim=16, start=200),
        ),
        data=Data(source=Digits(), batch_size=128),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        steps=steps,
    )


def joint(steps: int = 2200) -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                # The label leads, then what says the digit in few tokens; the picture comes last.
                label=CodeTarget(
                    modality=Label(classes=10),
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS),
                    reveal=(0.0, 1 / 16),
                    weight=3.0,
                ),
                audio=Target(
                    tokenizer="audio",
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, temperature=0.3, noise=0.5),
                    reveal=(1 / 16, 6 / 16),
                ),
                text=CodeTarget(
                    modality=Text(length=5),
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, temperature=0.3, noise=0.2),
                    reveal=(4 / 16, 9 / 16),
                    weight=4.0,
                ),
                image=Target(
                    tokenizer="image",
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=STEPS, noise=4.5),
                    reveal=(7 / 16, 1.0),
                ),
            ),
            joint=Independent(
                p_one_known=0.65,
                weights=Named(image=3.0, audio=1.5),
                p_known=0.2,
                max_known_time=0.3,
                p_dropped=0.1,
            ),
            model=DiT(depth=3, dim=96, heads=4, patch=1, mlp_ratio=3),
        ),
        data=Data(
            source=Digits(),
            augment_given=(Affine(rotate=8.0, scale=0.1, shift=0.06),),
            batch_size=48,
        ),
        optimizer=AdamW(learning_rate=3e-3, warmup=50),
        ema=0.995,
        steps=steps,
    )
