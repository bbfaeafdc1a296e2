"""A codec of recorded speech at 8 kHz, small enough for two CPU cores: 0.5 to 6 kbit/s.

vqdit prepare asterisk_speech
python train.py --config=configs/audio/speech8k_rvq.py

Needs Debian's packages asterisk-core-sounds-en-wav and asterisk-core-sounds-en. For recordings of
your own, give --data.source=AudioFolder --data.source.path=RECORDINGS and their rate to source and
modality.

A token stands for 16 ms and has up to 12 codes of 8 bits; each further code adds 0.5 kbit/s.
Half of the training examples keep a random number of them, so that the first codes alone can be
decoded. Training sees random windows of one second; evaluation has whole recordings, of 0.2 to 8 s.

Training takes about half an hour. The reconstructions of the test split are not yet intelligible:

    kbit/s               1.5      3      6     Opus at 5.4   originals
    SI-SDR in dB        6.42   7.11   7.28         9.14
    mel distance       0.241  0.236  0.234        0.106
    phrases recognised  6 %    2 %    4 %          71 %         82 %

    python -m benchmarks.bitrates --workdir=runs/speech8k_rvq --codebooks 3 6 12 --opus
"""

from vqdit.config import Experiment
from vqdit.data import AsteriskSpeech, Crop, Data, Gain
from vqdit.losses import Balance, Mel
from vqdit.modalities import Audio
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import RVQ, VQ
from vqdit.tasks import TokenizerTask

AUDIO = Audio(rate=8000, seconds=(0.2, 8.0), outside="skip")


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            name="audio",
            modality=AUDIO,
            # Interpolation: folded patches have constant tones at multiples of 62.5 Hz.
            model=ConvAutoencoder(channels=(192,), patch=128, blocks=2, upsampling="linear"),
            quantizer=RVQ(
                quantizer=VQ(codebook_size=256, dim=32, start=200), depth=12, dropout=0.5
            ),
            reconstruction="l1",
            perceptual=(Mel(rate=8000, windows=(64, 128, 256, 512, 1024), weight=2.0),),
            # The weights above are shares of the gradient at the decoder's output.
            balance=Balance(),
        ),
        data=Data(
            source=AsteriskSpeech(audio=AUDIO),
            augment=(Crop(samples=8192), Gain(low=-9.0, high=3.0)),
            batch_size=16,
        ),
        optimizer=AdamW(learning_rate=1e-3, warmup=100),
        steps=3500,
        evaluate_every=1000,
        preview_every=1000,
    )
