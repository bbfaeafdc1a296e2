"""Quantizers, which map vectors to codes of a codebook; all implement `Quantizer`."""

from vqdit.quantizers.base import Quantized, Quantizer
from vqdit.quantizers.fsq import FSQ
from vqdit.quantizers.grouped import GroupedVQ
from vqdit.quantizers.gumbel import GumbelVQ
from vqdit.quantizers.ibq import IBQ
from vqdit.quantizers.lfq import BSQ, LFQ
from vqdit.quantizers.projected import Projected
from vqdit.quantizers.rvq import RVQ
from vqdit.quantizers.simvq import SimVQ
from vqdit.quantizers.split import SplitVQ
from vqdit.quantizers.vq import VQ

__all__ = [
    "BSQ",
    "FSQ",
    "IBQ",
    "LFQ",
    "RVQ",
    "VQ",
    "GroupedVQ",
    "GumbelVQ",
    "Projected",
    "Quantized",
    "Quantizer",
    "SimVQ",
    "SplitVQ",
]
