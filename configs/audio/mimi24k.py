"""Mimi: 12.5 tokens a second of 8 codes, 1.1 kbit/s, for language models. Published settings.

python train.py --config=configs/audio/mimi24k.py

Defossez et al., "Moshi", arXiv:2410.00037, section 3.3: the network in 3.3.1, training in 3.3.2,
the two quantizers in 3.3.3. Put recordings of any form and length into the folder `recordings`, or
give --data.source.path=FOLDER. Meant for eight GPUs or more.

What differs: without a speech model (WavLM in the paper) the first code is not trained to be
semantic; write a `Features` of your own, and give distillation=Distillation(teacher=...) to the
task. The losses of waveform and spectrograms are those with which the paper began, before it left
them out. Every example is quantized, not every second one; weight decay applies to all matrices.
"""

from vqdit.config import Experiment
from vqdit.data import AudioFolder, Data, Gain
from vqdit.losses import Balance, Mel
from vqdit.modalities import Audio
from vqdit.models import Mimi, MultiSTFT
from vqdit.optim import AdamW
from vqdit.quantizers import RVQ, VQ, Projected, SplitVQ
from vqdit.tasks import Adversary, TokenizerTask
from vqdit.typing import Named

AUDIO = Audio(rate=24_000, seconds=(4.0, 12.0), outside="skip")
OPTIMIZER = AdamW(
    learning_rate=8e-4, warmup=0, final=1.0, b1=0.5, b2=0.9, weight_decay=0.05, clip=0.0
)
CODE = VQ(codebook_size=2048, dim=256, weights=Named(commitment=1.0, codebook=1.0))


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=AUDIO,
            model=Mimi(),
            quantizer=SplitVQ(
                semantic=Projected(quantizer=RVQ(quantizer=CODE, depth=1), dim=512),
                acoustic=Projected(quantizer=RVQ(quantizer=CODE, depth=7, dropout=0.5), dim=512),
            ),
            # Shares of the gradient 0.1, 2, 4 and 4; the weight of the waveform is always 1 here.
            reconstruction="l1",
            perceptual=(
                Mel(
                    rate=24_000,
                    windows=(32, 64, 128, 256, 512, 1024, 2048),
                    bands=(5, 10, 20, 40, 64, 64, 64),
                    weight=20.0,
                ),
            ),
            adversary=Adversary(
                discriminator=MultiSTFT(channels=32, windows=(2048, 1024, 512, 256, 128)),
                weight=40.0,
                matching=40.0,
                optimizer=OPTIMIZER,
            ),
            balance=Balance(),
        ),
        data=Data(
            source=AudioFolder(path="recordings", audio=AUDIO),
            augment=(Gain(low=-10.0, high=6.0),),
            batch_size=128,
            workers=16,
        ),
        optimizer=OPTIMIZER,
        ema=0.99,
        steps=4_000_000,
        log_every=100,
        evaluate_every=50_000,
        preview_every=50_000,
        checkpoint_every=5000,
    )
