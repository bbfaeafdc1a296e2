"""Notes to music and back: masked diffusion over the codes of music16k_rvq. For one GPU.

vqdit prepare chorales
python train.py --config=configs/audio/music16k_rvq.py
python train.py --config=configs/audio/chorales_dit.py
python sample.py --workdir=runs/chorales_dit --given label=organ --given text="C3 G3 E4 C5"

The instrument is a label, and the notes are a text: chords from the bass up, with "|" between them.
The metric note_f1 of `vqdit evaluate` transcribes what is generated, and compares its notes with
those that were given.
"""

from vqdit.config import Experiment
from vqdit.data import Chorales, Data
from vqdit.data.chorales import INSTRUMENTS
from vqdit.modalities import Audio, Label, Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask, Target
from vqdit.typing import Named

TEXT = Text(length=128, variable=True, outside="skip")


def config() -> Experiment:
    audio = Audio(rate=16000, seconds=(0.5, 5.0), outside="skip")
    names = tuple(sorted(INSTRUMENTS))
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                audio=Target(
                    tokenizer="runs/music16k_rvq",
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=48, temperature=0.8, noise=1.0),
                    reveal=(0.4, 1.0),
                ),
                text=CodeTarget(
                    modality=TEXT,
                    process=Masked(weighting="uniform"),
                    sampler=Unmasking(steps=48, temperature=0.7, noise=0.5),
                    reveal=(0.0, 0.6),
                ),
            ),
            conditions=Named(label=Condition(modality=Label(classes=len(names), names=names))),
            joint=Independent(p_one_known=0.7, p_known=0.1, p_dropped=0.1),
            model=DiT(
                depth=8,
                dim=384,
                heads=6,
                patch=1,
                positions="rope",
                norm="rms",
                qk_norm=True,
                dtype="bfloat16",
            ),  # fmt: skip
        ),
        data=Data(source=Chorales(audio=audio, text=TEXT, count=4000), batch_size=32),
        optimizer=AdamW(learning_rate=5e-4, warmup=500),
        ema=0.999,
        steps=20000,
        evaluate_every=4000,
        preview_every=4000,
    )
