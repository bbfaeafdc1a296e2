"""A codec of music at 16 kHz: pieces with known notes, 0.5 to 5 kbit/s. For one GPU.

vqdit prepare chorales
python train.py --config=configs/audio/music16k_rvq.py

Needs Debian's packages fluidsynth and timgm6mb-soundfont. For recordings of your own, give
--data.source=AudioFolder --data.source.path=RECORDINGS and their rate to source and modality.

A token stands for 16 ms and has up to 8 codes of 10 bits; each further code adds 0.625 kbit/s.
Training sees random windows of one second, alone or mixed with another piece.
"""

from vqdit.config import Experiment
from vqdit.data import Chorales, Crop, Data, Gain, Mixing
from vqdit.losses import Balance, Mel
from vqdit.modalities import Audio
from vqdit.models import ConvAutoencoder, MultiPeriod, MultiSTFT, Together
from vqdit.optim import AdamW
from vqdit.quantizers import RVQ, VQ
from vqdit.tasks import Adversary, TokenizerTask

AUDIO = Audio(rate=16000, seconds=(0.5, 5.0), outside="skip")


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=AUDIO,
            model=ConvAutoencoder(
                channels=(128, 256, 256), patch=64, blocks=2, upsampling="linear"
            ),
            quantizer=RVQ(
                quantizer=VQ(codebook_size=1024, dim=64, start=500), depth=8, dropout=0.5
            ),
            reconstruction="l1",
            perceptual=(Mel(rate=16000, windows=(32, 64, 128, 256, 512, 1024, 2048), weight=2.0),),
            adversary=Adversary(
                discriminator=Together(
                    discriminators=(MultiPeriod(channels=16), MultiSTFT(channels=16))
                ),
                weight=4.0,
                matching=4.0,
                start=2000,
                optimizer=AdamW(learning_rate=3e-4, warmup=0, b1=0.5, b2=0.9),
            ),
            balance=Balance(),
        ),
        data=Data(
            source=Chorales(audio=AUDIO),
            augment=(Crop(samples=16384), Gain(), Mixing()),
            batch_size=32,
        ),
        optimizer=AdamW(learning_rate=5e-4, warmup=500),
        steps=20000,
        evaluate_every=2000,
        preview_every=2000,
    )
