"""Answers to questions, on two CPU cores: the dialogues of the package chatterbot-corpus.

pip install chatterbot-corpus
python train.py --config=configs/text/dialogue_cpu.py
python sample.py --workdir=runs/dialogue_cpu --given question="How are you?" --want answer
vqdit chat --workdir=runs/dialogue_cpu

Of 100 training questions 93 are answered by one of their recorded answers, and of 50 questions that
put a training question in other words 16 are (tests/test_dialogue.py). Answers above 32 units, such
as those with code, are left out.
"""

from vqdit.config import Experiment
from vqdit.data import Data, Dialogues
from vqdit.modalities import BPE, Text
from vqdit.models import DiT
from vqdit.optim import Muon
from vqdit.processes import Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, Condition, DiffusionTask
from vqdit.typing import Named

UNITS = BPE(size=2048)
QUESTION = 48
"""Units of the longest question, with the turns before it."""
ANSWER = 32
"""Units of the longest answer."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                answer=CodeTarget(
                    modality=Text(length=ANSWER, variable=True, units=UNITS),
                    # Answers are short and few: equal weights of all times vary less than those of
                    # the bound, and the schedule masks more of each answer.
                    process=Masked(schedule="cosine", weighting="uniform"),
                    # One unit a step: neighbours drawn in one step do not see each other.
                    sampler=Unmasking(steps=ANSWER, noise=0.0, temperature=0.3),
                    length_share=0.3,
                )
            ),
            conditions=Named(
                question=Condition(
                    modality=Text(length=QUESTION, variable=True, units=UNITS),
                    route="cross",
                    hidden=0.9,  # so that a question may be put in other words
                )
            ),
            model=DiT(
                depth=4,
                dim=128,
                heads=4,
                patch=1,
                block="mm_dit",  # in which the units of a question attend to one another
                positions="rope",
                norm="rms",
                qk_norm=True,
            ),
        ),
        data=Data(
            source=Dialogues(question=QUESTION, answer=ANSWER, units=UNITS),
            batch_size=32,
            buckets=4,
        ),
        optimizer=Muon(learning_rate=1e-2, warmup=100, b2=0.99),
        ema=0.998,
        steps=3000,
        evaluate_every=2000,
        preview_every=2000,
    )
