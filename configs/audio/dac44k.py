"""DAC for 44.1 kHz: 86 tokens a second of 9 codes, 7.8 kbit/s. Published training settings.

python train.py --config=configs/audio/dac44k.py

Kumar et al., "High-Fidelity Audio Compression with Improved RVQGAN", arXiv:2306.06546: the network
in section 3.1, the quantizer in 3.2, discriminators in 3.3, losses in 3.4, training in 4.2. Put
recordings of any form and length into the folder `recordings`, or give --data.source.path=FOLDER.

What differs: losses of discriminators are means over their eight networks, not sums, so that their
weights 1 and 2 are 8 and 16 here; differences of features are relative to the features; the
waveform has an L1 loss; and the learning rate falls to a fifth by a cosine, not exponentially.
"""

from vqdit.config import Experiment
from vqdit.data import AudioFolder, Crop, Data
from vqdit.losses import Mel
from vqdit.modalities import Audio
from vqdit.models import DAC, MultiPeriod, MultiSTFT, Together
from vqdit.optim import AdamW
from vqdit.quantizers import RVQ, VQ
from vqdit.tasks import Adversary, TokenizerTask
from vqdit.typing import Named

AUDIO = Audio(rate=44_100, seconds=(0.5, 10.0), outside="skip")


def optimizer(clip: float) -> AdamW:
    """The same for both networks, but for the largest norm of the gradient."""
    return AdamW(
        learning_rate=1e-4, warmup=0, final=0.2, b1=0.8, b2=0.99, weight_decay=0.01, clip=clip
    )


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=AUDIO,
            model=DAC(channels=64, decoder_channels=1536, strides=(2, 4, 8, 8)),
            quantizer=RVQ(
                quantizer=VQ(
                    codebook_size=1024,
                    dim=1024,
                    code_dim=8,
                    bias=True,
                    distance="angle",
                    learning="gradient",
                    revive_below=0.0,
                    weights=Named(commitment=0.25, codebook=1.0),
                ),
                depth=9,
                dropout=0.5,
            ),
            reconstruction="l1",
            perceptual=(
                Mel(
                    rate=44_100,
                    windows=(32, 64, 128, 256, 512, 1024, 2048),
                    bands=(5, 10, 20, 40, 80, 160, 320),
                    weight=15.0,
                ),
            ),
            adversary=Adversary(
                discriminator=Together(
                    discriminators=(
                        MultiPeriod(channels=32, periods=(2, 3, 5, 7, 11)),
                        MultiSTFT(
                            channels=32,
                            windows=(2048, 1024, 512),
                            bands=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
                            dilations=(1, 1, 1),
                        ),
                    )
                ),
                loss="least_squares",
                weight=8.0,
                matching=16.0,
                optimizer=optimizer(clip=10.0),
            ),
        ),
        data=Data(
            source=AudioFolder(path="recordings", audio=AUDIO, loudness=-16.0),
            augment=(Crop(samples=16_896),),
            batch_size=72,
            workers=16,
        ),
        optimizer=optimizer(clip=1000.0),
        steps=400_000,
        log_every=100,
        evaluate_every=20_000,
        preview_every=20_000,
        checkpoint_every=2000,
    )
