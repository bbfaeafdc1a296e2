"""Losses of tokenizers, and additional losses of DiTs."""

from vqdit.losses.balance import Balance
from vqdit.losses.distillation import Distillation
from vqdit.losses.frames import PerFrame, TemporalDifference
from vqdit.losses.mel import Mel
from vqdit.losses.perceptual import LPIPS, FeatureMatching, Perceptual
from vqdit.losses.reconstruction import huber, l1, l2
from vqdit.losses.repa import REPA
from vqdit.losses.stft import STFT

__all__ = [
    "LPIPS", "REPA", "STFT", "Balance", "Distillation", "FeatureMatching", "Mel", "PerFrame",
    "Perceptual", "TemporalDifference", "huber", "l1", "l2",
]  # fmt: skip
