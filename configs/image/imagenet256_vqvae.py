"""A VQ-VAE of ImageNet at 256x256: a 32x32 grid of 14-bit codes of 8 dimensions, cosine distance.

    vqdit prepare tfds:imagenet2012     (needs the archives; TFDS says where to put them)
    python train.py --config=configs/image/imagenet256_vqvae.py

Meant for eight GPUs of 80 GB or sixteen chips of TPU v5e (4x4).
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
            modality=Image(size=(256, 256), channels=3),
            model=ConvAutoencoder(
                channels=(128, 128, 256, 512), blocks=2, dtype="bfloat16", remat=True
            ),
            quantizer=VQ(codebook_size=16_384, dim=8, distance="cosine", start=2000),
            reconstruction="l1",
        ),
        data=Data(
            source=TFDS(name="imagenet2012", size=256),
            augment=(HorizontalFlip(),),
            batch_size=256,
            workers=16,
        ),
        optimizer=AdamW(learning_rate=1e-4, warmup=5000, b2=0.95),
        steps=400_000,
        log_every=100,
        evaluate_every=20_000,
        preview_every=5000,
        checkpoint_every=2000,
    )
