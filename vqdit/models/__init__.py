"""Networks: the DiT, the convolutional autoencoder and the codebook as Flax modules."""

from vqdit.models.autoencoder import ConvAutoencoder
from vqdit.models.codebook import Codebook
from vqdit.models.dit import DiT, Tokens

__all__ = ["Codebook", "ConvAutoencoder", "DiT", "Tokens"]
