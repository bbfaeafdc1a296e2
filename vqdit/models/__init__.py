"""Networks: the DiT, autoencoders, discriminators, and a Flax module for codebooks."""

from vqdit.models.autoencoder import ConvAutoencoder
from vqdit.models.base import Autoencoder
from vqdit.models.codebook import Codebook
from vqdit.models.codec import Codec
from vqdit.models.dac import DAC
from vqdit.models.discriminators import Discriminator, PatchGAN, StyleGAN
from vqdit.models.dit import DiT, Tokens
from vqdit.models.seanet import Mimi, SEANet
from vqdit.models.sound_discriminators import MultiPeriod, MultiSTFT, Together
from vqdit.models.video import VideoAutoencoder
from vqdit.models.vit import TiTok, ViTTokenizer
from vqdit.models.vqgan import VQGAN
from vqdit.models.vqgan_plus import VQGANPlus

__all__ = [
    "DAC", "VQGAN", "Autoencoder", "Codebook", "Codec", "ConvAutoencoder", "DiT", "Discriminator",
    "Mimi", "MultiPeriod", "MultiSTFT", "PatchGAN", "SEANet", "StyleGAN", "TiTok", "Together",
    "Tokens", "VQGANPlus", "VideoAutoencoder", "ViTTokenizer",
]  # fmt: skip
