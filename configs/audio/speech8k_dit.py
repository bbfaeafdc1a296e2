"""Text to speech and back: masked diffusion over the codes of speech8k_rvq. For one GPU.

vqdit prepare asterisk_speech
python train.py --config=configs/audio/speech8k_rvq.py
python train.py --config=configs/audio/speech8k_dit.py
python sample.py --workdir=runs/speech8k_dit --given text="Please hold." --want audio

Both text and audio are targets, so either is generated from the other, or both from nothing; the
length of what is generated is drawn first. The metric phrase_accuracy of `vqdit evaluate` asks an
independent recogniser of speech (the extra `speech`) for the phrases of generated recordings.

Codebooks are generated one after the other, the coarsest first. A CPU core takes two seconds a
step; 800 steps of a smaller network gave no words yet.
"""

from vqdit.config import Experiment
from vqdit.data import AsteriskSpeech, Data
from vqdit.modalities import Audio, Text
from vqdit.models import DiT
from vqdit.optim import Muon
from vqdit.processes import CoarseToFine, Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target
from vqdit.typing import Named

TEXT = Text(length=96, variable=True, outside="skip")


def config() -> Experiment:
    audio = Audio(rate=8000, seconds=(0.2, 8.0), outside="skip")
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                audio=Target(
                    tokenizer="runs/speech8k_rvq",
                    codebooks=6,  # 3 kbit/s
                    process=CoarseToFine(weighting="uniform"),
                    sampler=Unmasking(steps=48, temperature=0.7, noise=1.0),
                    reveal=(0.2, 1.0),
                ),
                text=CodeTarget(
                    modality=TEXT,
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=48, temperature=0.5, noise=0.5),
                    reveal=(0.0, 0.6),
                ),
            ),
            joint=Independent(p_one_known=0.7, p_known=0.1, p_dropped=0.1),
            model=DiT(
                depth=6, dim=192, heads=6, patch=1, positions="rope", norm="rms", qk_norm=True
            ),
        ),
        data=Data(source=AsteriskSpeech(audio=audio, text=TEXT), batch_size=16, buckets=4),
        optimizer=Muon(learning_rate=1e-2, warmup=100),
        ema=0.998,
        steps=20000,
        evaluate_every=4000,
        preview_every=4000,
    )
