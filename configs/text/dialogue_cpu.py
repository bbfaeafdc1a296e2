"""Answers to questions, on two CPU cores: 2,000 dialogues of the package chatterbot-corpus.

pip install chatterbot-corpus
python train.py --config=configs/text/dialogue_cpu.py
python sample.py --workdir=runs/dialogue_cpu --given question="How are you?" --want answer
vqdit chat --workdir=runs/dialogue_cpu
"""

from vqdit.config import Experiment
from vqdit.data import Data, Dialogues
from vqdit.modalities import BPE, Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.typing import Named

UNITS = BPE(size=2048)
QUESTION = 64
"""Units of the longest question, with the turns before it."""
ANSWER = 48
"""Units of the longest answer."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                answer=CodeTarget(
                    modality=Text(length=ANSWER, variable=True, units=UNITS),
                    # Equal weights of all times vary less than those of the bound; small batches
                    # of short texts hardly learn with the latter.
                    process=Masked(weighting="uniform"),
                    # One unit a step at most: neighbours drawn in one step do not see each other.
                    sampler=Unmasking(steps=64, noise=1.0, temperature=0.5),
                )
            ),
            conditions=Named(
                question=Condition(
                    modality=Text(length=QUESTION, variable=True, units=UNITS), route="cross"
                )
            ),
            model=DiT(
                depth=4, dim=128, heads=4, patch=1, positions="rope", norm="rms", qk_norm=True
            ),
        ),
        data=Data(
            source=Dialogues(question=QUESTION, answer=ANSWER, units=UNITS),
            batch_size=64,
            buckets=4,
        ),
        optimizer=AdamW(learning_rate=3e-3, warmup=200),
        ema=0.998,
        steps=2500,
        evaluate_every=2000,
        preview_every=2000,
    )
