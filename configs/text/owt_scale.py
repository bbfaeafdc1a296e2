"""Masked diffusion at the scale of GPT-2 small, on a folder of documents such as OpenWebText.

    python train.py --config=configs/text/owt_scale.py --data.source.path=FOLDER

Network, batch and steps are those of MDLM on OpenWebText (Sahoo et al., arXiv:2406.07524): 110
million parameters without embeddings, windows of 1,024 units, perplexity at most 23.2. It is for a
machine with eight GPUs. The BPE of 50,257 units is learned from the documents themselves, of which
10 % are for validation and 10 % for test.
"""

from vqdit.config import Experiment
from vqdit.data import Data, TextFiles
from vqdit.modalities import BPE, Text
from vqdit.models import DiT
from vqdit.optim import AdamW
from vqdit.processes import Independent, Masked
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

UNITS = BPE(size=50257)
LENGTH = 1024
"""Units of a window."""


def config() -> Experiment:
    return Experiment(
        task=DiffusionTask(
            targets=Named(
                text=CodeTarget(
                    modality=Text(length=LENGTH, units=UNITS),
                    process=Masked(),
                    sampler=Unmasking(steps=1024, order="random"),
                )
            ),
            joint=Independent(p_one_known=0.0, p_known=0.0, p_dropped=0.0),
            model=DiT(
                depth=12,
                dim=768,
                heads=12,
                patch=1,
                dtype="bfloat16",
                positions="rope",
                remat="dots",
            ),
        ),
        data=Data(
            source=TextFiles(path="openwebtext", length=LENGTH, units=UNITS, errors="replace"),
            batch_size=512,
        ),
        optimizer=AdamW(learning_rate=3e-4, warmup=2500, final=1.0),
        ema=0.9999,
        steps=1_000_000,
        evaluate_every=50_000,
        preview_every=50_000,
        checkpoint_every=10_000,
    )
