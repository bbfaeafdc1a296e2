"""A VQ-VAE of clips of moving garments: 16 frames of 32x32 become 4x8x8 codes of 9 bits.

vqdit prepare moving_fashion
python train.py --config=configs/video/moving_fashion_vqvae.py

Small enough for two CPU cores. For videos of your own, give --data.source=VideoFolder and
--data.source.path=VIDEOS, and the same video.* to source and modality.
"""

from vqdit.config import Experiment
from vqdit.data import Data, MovingFashion
from vqdit.modalities import Video
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask

VIDEO = Video(frames=16, size=(32, 32), channels=1)


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="video",
            modality=VIDEO,
            model=ConvAutoencoder(channels=(32, 64), patch=2, blocks=1),
            quantizer=VQ(codebook_size=512, dim=32, start=200),
        ),
        data=Data(source=MovingFashion(video=VIDEO, columns=("video",)), batch_size=16),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        steps=2000,
        evaluate_every=1000,
        preview_every=1000,
        checkpoint_every=500,
    )
