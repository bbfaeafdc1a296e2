"""A VQ-VAE of your own pictures: any folder of picture files, at 64x64.

    python train.py --config=configs/image/folder_vqvae.py --data.source.path=PICTURES

The codes form a 16x16 grid of 10 bits each. For another size, change the modality and the source
together: --task.modality.size=128,128 --data.source.size=128.
"""

from vqdit.config import Experiment
from vqdit.data import Data, HorizontalFlip, ImageFolder
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(64, 64), channels=3),
            model=ConvAutoencoder(channels=(64, 128, 128), blocks=1),
            quantizer=VQ(codebook_size=1024, dim=64, start=500),
            reconstruction="l1",
        ),
        data=Data(
            source=ImageFolder(path="pictures", size=64),
            augment=(HorizontalFlip(),),
            batch_size=32,
        ),
        optimizer=AdamW(learning_rate=5e-4, warmup=500),
        steps=20_000,
        evaluate_every=2000,
        preview_every=1000,
        checkpoint_every=1000,
    )
