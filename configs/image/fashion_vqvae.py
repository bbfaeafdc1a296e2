"""A VQ-VAE of Fashion-MNIST: 28x28 grey pictures become 7x7 codes of 9 bits.

vqdit prepare fashion_mnist
python train.py --config=configs/image/fashion_vqvae.py
"""

from vqdit.config import Experiment
from vqdit.data import Data, FashionMNIST
from vqdit.modalities import Image
from vqdit.models import ConvAutoencoder
from vqdit.optim import AdamW
from vqdit.quantizers import VQ
from vqdit.tasks import TokenizerTask


def config() -> Experiment:
    return Experiment(
        task=TokenizerTask(
            modality=Image(size=(28, 28), channels=1),
            model=ConvAutoencoder(channels=(16, 32, 64), blocks=1),
            quantizer=VQ(codebook_size=512, dim=32, start=300),
        ),
        data=Data(source=FashionMNIST(), batch_size=32),
        optimizer=AdamW(learning_rate=2e-3, warmup=100),
        steps=2000,
        evaluate_every=1000,
        preview_every=1000,
        checkpoint_every=500,
    )
