"""The models of folder_vqvae and folder_dit, small enough for two CPU cores, at 32x32.

    python train.py --config=configs/image/folder_cpu.py \
        --tokenizer.data.source.path=PICTURES --generator.data.source.path=PICTURES

The codes form an 8x8 grid of 9 bits each. If the folder has sub-folders, add a Condition for their
classes, as fashion_dit.py does.
"""

from vqdit.config import Experiment
from vqdit.data import Data, HorizontalFlip, ImageFolder
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import DiffusionTask, Target, TokenizerTask
from vqdit.typing import Named


def config() -> dict[str, Experiment]:
    source = ImageFolder(path="pictures", size=32)
    tokenizer = Experiment(
        task=TokenizerTask(
            modality=Image(size=(32, 32), channels=3),
            model=ConvAutoencoder(channels=(64, 64), patch=2, blocks=1),
            quantizer=VQ(codebook_size=512, dim=32, start=300),
            reconstruction="l1",
        ),
        data=Data(source=source, augment=(HorizontalFlip(),), batch_size=32),
        optimizer=AdamW(learning_rate=2e-3, warmup=100),
        steps=3000,
        evaluate_every=1000,
        preview_every=1000,
    )
    generator = Experiment(
        task=DiffusionTask(
            targets=Named(
                image=Target(
                    tokenizer="tokenizer",
                    process=Masked(schedule="cosine"),
                    sampler=Unmasking(steps=16, noise=4.5),
                )
            ),
            model=DiT(depth=4, dim=128, heads=4, patch=1),
        ),
        data=Data(source=source, augment=(HorizontalFlip(),), batch_size=32),
        optimizer=AdamW(learning_rate=2e-3, warmup=200),
        ema=0.998,
        steps=5000,
        evaluate_every=1000,
        preview_every=1000,
    )
    return {"tokenizer": tokenizer, "generator": generator}
