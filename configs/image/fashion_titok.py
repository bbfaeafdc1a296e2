"""Fashion-MNIST as sequences: 28x28 grey pictures become 16 codes of 9 bits, without a grid.

    vqdit prepare fashion_mnist
    python train.py --config=configs/image/fashion_titok.py

A ViT on a grid of 7x7 codes instead: --task.model=ViTTokenizer. Sixteen codes say less than
49 of fashion_vqvae.py, and a transformer learns slower than convolutions: give it time, or a GPU.
"""

from vqdit.config import Experiment
from vqdit.data import Data, FashionMNIST
from vqdit.modalities import Image
from vqdit.models import TiTok
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(28, 28), channels=1),
            model=TiTok(size=(28, 28), patch=4, tokens=16, depth=4, width=128, heads=4),
            quantizer=VQ(codebook_size=512, dim=32, start=1000),
        ),
        data=Data(source=FashionMNIST(), batch_size=64),
        optimizer=AdamW(learning_rate=5e-4, warmup=500),
        steps=20_000,
        evaluate_every=5000,
        preview_every=2500,
        checkpoint_every=1000,
    )
