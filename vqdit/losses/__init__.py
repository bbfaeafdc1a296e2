"""Losses of tokenizers, and additional losses of DiTs."""

from vqdit.losses.mel import Mel
from vqdit.losses.perceptual import LPIPS, FeatureMatching, Perceptual
from vqdit.losses.reconstruction import huber, l1, l2
from vqdit.losses.repa import REPA

__all__ = ["LPIPS", "REPA", "FeatureMatching", "Mel", "Perceptual", "huber", "l1", "l2"]
