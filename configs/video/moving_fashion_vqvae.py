"""A VQ-VAE of clips of moving garments: 17 frames of 32x32 become 5x8x8 codes of 9 bits.

vqdit prepare moving_fashion
python train.py --config=configs/video/moving_fashion_vqvae.py

Causal in time: the first frame is coded alone, and every four further frames become one frame of
codes. A step takes about two seconds on one CPU core; no training has been measured yet. For
videos of your own, give --data.source=VideoFolder and --data.source.path=VIDEOS, and the same
video.* to source and modality.
"""

from vqdit.config import Experiment
from vqdit.data import Data, MovingFashion
from vqdit.modalities import Video
from vqdit.models import VideoAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask

VIDEO = Video(frames=17, size=(32, 32), channels=1)


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="video",
            modality=VIDEO,
            model=VideoAutoencoder(channels=(16, 32, 64), blocks=1, middle_blocks=1),
            quantizer=VQ(codebook_size=512, dim=32, start=100),
        ),
        data=Data(source=MovingFashion(video=VIDEO, columns=("video",)), batch_size=8),
        optimizer=AdamW(learning_rate=2e-3, warmup=50),
        steps=900,
        evaluate_every=450,
        preview_every=450,
        checkpoint_every=150,
    )
