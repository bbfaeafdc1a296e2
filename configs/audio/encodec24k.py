"""EnCodec for 24 kHz: causal SEANet, 75 tokens a second, up to 24 kbit/s. Published settings.

python train.py --config=configs/audio/encodec24k.py

Defossez et al., "High Fidelity Neural Audio Compression", arXiv:2210.13438: the network in section
3.1, the quantizer in 3.2, losses and balancer in 3.4, data and optimizer in 4. Put recordings of
any form and length into the folder `recordings`, or give --data.source.path=FOLDER. Meant for
eight GPUs.

What differs: the number of codebooks of an example is drawn from 1 to 32, not only from 2, 4, 8, 16
and 32; mel spectrograms are compared by their logarithms, with fewer bands in short windows; the
discriminator is updated in every step, not in two of three; and there is no reverberation.
"""

from vqdit.config import Experiment
from vqdit.data import AudioFolder, Crop, Data, Gain, Mixing
from vqdit.losses import Balance, Mel
from vqdit.modalities import Audio
from vqdit.models import MultiSTFT, SEANet
from vqdit.optim import AdamW
from vqdit.quantizers import RVQ, VQ
from vqdit.tasks import Adversary, TokenizerTask
from vqdit.typing import Named

AUDIO = Audio(rate=24_000, seconds=(1.0, 10.0), outside="skip")
OPTIMIZER = AdamW(learning_rate=3e-4, warmup=0, final=1.0, b1=0.5, b2=0.9, clip=0.0)


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=AUDIO,
            model=SEANet(channels=32, strides=(2, 4, 5, 8), middle="lstm", layers=2),
            quantizer=RVQ(
                quantizer=VQ(
                    codebook_size=1024, dim=128, weights=Named(commitment=1.0, codebook=1.0)
                ),
                depth=32,
                dropout=1.0,
            ),
            # Shares of the gradient 0.1, 1, 3 and 3; the weight of the waveform is always 1 here.
            reconstruction="l1",
            perceptual=(
                Mel(
                    rate=24_000,
                    windows=(32, 64, 128, 256, 512, 1024, 2048),
                    bands=(5, 10, 20, 40, 64, 64, 64),
                    weight=10.0,
                ),
            ),
            adversary=Adversary(
                discriminator=MultiSTFT(channels=32, windows=(2048, 1024, 512, 256, 128)),
                weight=30.0,
                matching=30.0,
                optimizer=OPTIMIZER,
            ),
            balance=Balance(),
        ),
        data=Data(
            source=AudioFolder(path="recordings", audio=AUDIO),
            augment=(Crop(samples=24_000), Gain(low=-10.0, high=6.0), Mixing(probability=0.5)),
            batch_size=64,
            workers=16,
        ),
        optimizer=OPTIMIZER,
        steps=600_000,
        log_every=100,
        evaluate_every=20_000,
        preview_every=20_000,
        checkpoint_every=2000,
    )
