"""Quantizers: each turns vectors into codes of a codebook, one per file, one contract."""

from vqdit.quantizers.base import Quantized, Quantizer
from vqdit.quantizers.vq import VQ

__all__ = ["VQ", "Quantized", "Quantizer"]
