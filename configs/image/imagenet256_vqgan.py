"""A VQGAN of ImageNet at 256x256: a 16x16 grid of 14-bit codes, with LPIPS and a discriminator.

    pip install "vqdit[lpips]"
    vqdit prepare tfds:imagenet2012     (needs the archives; TFDS says where to put them)
    python train.py --config=configs/image/imagenet256_vqgan.py

The losses are those of LlamaGen (arXiv:2406.06525): squared error, LPIPS, and from step 20,000 on
a PatchGAN with the hinge loss and weight 0.5; LeCAM and blurred halvings come from VQGAN+
(arXiv:2409.16211). Meant for eight GPUs of 80 GB or eight chips of TPU v6e (2x4), which have 32 GB.
"""

from vqdit.config import Experiment
from vqdit.data import TFDS, Data, HorizontalFlip
from vqdit.losses import LPIPS
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder, PatchGAN
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import Adversary, TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(256, 256), channels=3),
            model=ConvAutoencoder(
                channels=(128, 128, 256, 256, 512), blocks=2, dtype="bfloat16", remat=True
            ),
            quantizer=VQ(codebook_size=16_384, dim=8, distance="cosine", start=2000),
            reconstruction="l2",
            perceptual=(LPIPS(weight=1.0),),
            adversary=Adversary(
                discriminator=PatchGAN(blur=True, dtype="bfloat16"),
                weight=0.5,
                start=20_000,
                lecam=0.001,
                optimizer=AdamW(learning_rate=1e-4, warmup=5000, b1=0.9, b2=0.95),
            ),
        ),
        data=Data(
            source=TFDS(name="imagenet2012", size=256),
            augment=(HorizontalFlip(),),
            batch_size=256,
            workers=16,
        ),
        optimizer=AdamW(learning_rate=1e-4, warmup=5000, b2=0.95),
        steps=400_000,
        log_every=100,
        evaluate_every=20_000,
        preview_every=5000,
        checkpoint_every=2000,
    )
