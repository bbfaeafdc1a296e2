"""Optimizers and moving averages of parameters."""

from vqdit.optim.ema import Averaging, PosthocEMA
from vqdit.optim.muon import Muon
from vqdit.optim.optimizers import AdamW, Optimizer

__all__ = ["AdamW", "Averaging", "Muon", "Optimizer", "PosthocEMA"]
