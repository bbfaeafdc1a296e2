"""The King James Bible by masked diffusion, for one GPU; kjv_mdlm_cpu.py is for a CPU.

    apt-get install bible-kjv
    python train.py --config=configs/text/kjv_mdlm.py

Windows of 512 units of a BPE with 4,096 units are 1,950 bytes. The training chapters have 0.9
million units, which the network sees 290 times: the loss on held-out chapters says when to stop.
"""

from vqdit.config import Experiment
from vqdit.data import KJV, Data
from vqdit.modalities import BPE, Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

UNITS = BPE(size=4096)
LENGTH = 512
"""Units of a window."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                text=CodeTarget(
                    modality=Text(length=LENGTH, units=UNITS),
                    process=Masked(),
                    sampler=Unmasking(steps=256, order="random"),
                )
            ),
            joint=Independent(p_one_known=0.0, p_known=0.0, p_dropped=0.0),
            model=DiT(
                depth=8,
                dim=512,
                heads=8,
                patch=1,
                dtype="bfloat16",
                positions="rope",
                norm="rms",
                qk_norm=True,
            ),
        ),
        data=Data(source=KJV(length=LENGTH, units=UNITS), batch_size=64),
        optimizer=AdamW(learning_rate=6e-4, warmup=500, b2=0.98, weight_decay=0.1),
        ema=0.9995,
        steps=8000,
        evaluate_every=500,
        preview_every=2000,
        checkpoint_every=1000,
    )
