"""A VQGAN+ of ImageNet at 256x256: a 16x16 grid of 12-bit codes. Published training settings.

    vqdit prepare tfds:imagenet2012     (needs the archives; TFDS says where to put them)
    python train.py --config=configs/image/imagenet256_vqgan_plus.py

The 1-D tokenizer of the same pictures: --task.model=TiTok --task.model.size=256,256
--task.model.patch=16 --task.model.depth=12 --task.model.width=768 --task.model.heads=12
--task.model.tokens=64. Meant for eight GPUs of 80 GB or eight chips of TPU v6e (2x4).
"""

from vqdit.config import Experiment
from vqdit.data import TFDS, Data, HorizontalFlip
from vqdit.modalities import Image
from vqdit.models import VQGANPlus
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(256, 256), channels=3),
            model=VQGANPlus(dtype="bfloat16", remat=True),
            quantizer=VQ(codebook_size=4096, dim=64, start=2000),
        ),
        data=Data(
            source=TFDS(name="imagenet2012", size=256),
            augment=(HorizontalFlip(),),
            batch_size=256,
            workers=16,
        ),
        optimizer=AdamW(learning_rate=1e-4, warmup=5000, weight_decay=1e-4),
        steps=1_350_000,
        log_every=100,
        evaluate_every=50_000,
        preview_every=10_000,
        checkpoint_every=5000,
    )
