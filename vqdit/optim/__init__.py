"""Optimizers and moving averages of parameters."""

from vqdit.optim.ema import Averaging, PosthocEMA
from vqdit.optim.optimizers import AdamW, Optimizer

__all__ = ["AdamW", "Averaging", "Optimizer", "PosthocEMA"]
