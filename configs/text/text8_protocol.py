"""The protocol of the text8 benchmark: 27 symbols, windows of 256, split 90/5/5 by position.

    python train.py --config=configs/text/text8_protocol.py --data.source.path=TEXT

TEXT is any file, whose letters become a to z and the blank; text8 itself is so already. The network
and its training are those of MDLM on text8 (Sahoo et al., arXiv:2406.07524), whose test set has
1.40 bits per character after 1 million steps of 512 windows, for eight GPUs. Small, on a CPU:
--task.model.depth=4 --task.model.dim=128 --task.model.heads=4 --task.model.dtype=float32
--data.batch-size=32 --steps=4000
"""

from vqdit.config import Experiment
from vqdit.data import Data, TextFiles
from vqdit.modalities import Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

LENGTH = 256
"""Symbols of a window."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                text=CodeTarget(
                    modality=Text(length=LENGTH),
                    process=Masked(),
                    sampler=Unmasking(steps=256, order="random"),
                )
            ),
            joint=Independent(p_one_known=0.0, p_known=0.0, p_dropped=0.0),
            model=DiT(depth=12, dim=768, heads=12, patch=1, dtype="bfloat16", positions="rope"),
        ),
        data=Data(
            source=TextFiles(path="text8", length=LENGTH, letters="text8", split_by="position"),
            batch_size=512,
        ),
        optimizer=AdamW(learning_rate=3e-4, warmup=2500, final=1.0),
        ema=0.9999,
        steps=1_000_000,
        evaluate_every=50_000,
        preview_every=50_000,
        checkpoint_every=10_000,
    )
