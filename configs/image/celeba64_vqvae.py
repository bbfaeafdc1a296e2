"""A VQ-VAE of faces at 64x64: a 16x16 grid of 10-bit codes. One GPU or a small TPU slice.

    vqdit prepare tfds:celeb_a          (TFDS downloads it; it may ask for a manual download)
    python train.py --config=configs/image/celeba64_vqvae.py

From a folder of pictures instead: --data.source=ImageFolder --data.source.path=FACES
"""

from vqdit.config import Experiment
from vqdit.data import TFDS, Data, HorizontalFlip
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(64, 64), channels=3),
            model=ConvAutoencoder(channels=(128, 128, 256), blocks=2),
            quantizer=VQ(codebook_size=1024, dim=64, start=1000),
            reconstruction="l1",
        ),
        data=Data(
            source=TFDS(name="celeb_a", size=64),
            augment=(HorizontalFlip(),),
            batch_size=128,
            workers=4,
        ),
        optimizer=AdamW(learning_rate=3e-4, warmup=1000),
        steps=100_000,
        log_every=100,
        evaluate_every=10_000,
        preview_every=5000,
        checkpoint_every=2000,
    )
