"""The King James Bible by masked diffusion on two CPU cores, in half an hour.

    apt-get install bible-kjv
    python train.py --config=configs/text/kjv_mdlm_cpu.py
    python sample.py --workdir=runs/kjv_mdlm_cpu --given "text^=And the LORD said unto"
    python sample.py --workdir=runs/kjv_mdlm_cpu --given "text=In the beginning ___ the earth."

A code is a unit of a BPE with 2,048 units, 3.6 bytes on average, so that a window of 128 units has
460 bytes. The held-out chapters tell nothing that is in the training chapters.

Bits per byte of the validation chapters (380,956 bytes), with 95 % interval: 1.433 [1.417, 1.450].
Baselines by benchmarks/text.py on the same chapters: 1.689 for a 5-gram with Kneser-Ney smoothing,
1.493 for a 7-gram, 1.700 for xz -9e.
"""

from vqdit.config import Experiment
from vqdit.data import KJV, Data
from vqdit.modalities import BPE, Text
from vqdit.models import DiT
from vqdit.optim import Muon
from vqdit.processes import Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

UNITS = BPE(size=2048)
LENGTH = 128
"""Units of a window."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                text=CodeTarget(
                    modality=Text(length=LENGTH, units=UNITS),
                    process=Masked(),
                    sampler=Unmasking(steps=64, order="random"),
                )
            ),
            joint=Independent(p_one_known=0.0, p_known=0.0, p_dropped=0.0),
            model=DiT(
                depth=4, dim=128, heads=4, patch=1, positions="rope", norm="rms", qk_norm=True
            ),
        ),
        data=Data(source=KJV(length=LENGTH, units=UNITS), batch_size=32),
        optimizer=Muon(learning_rate=1e-2, warmup=100, b2=0.99, weight_decay=0.1),
        ema=0.999,
        steps=3900,
        evaluate_every=1000,
        preview_every=2000,
        checkpoint_every=1000,
    )
