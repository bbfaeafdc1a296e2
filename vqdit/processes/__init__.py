"""Processes define how data become noise over t in [0, 1], and what a network predicts."""

from vqdit.processes.base import LogitNormal, Process, TimeDistribution, Uniform
from vqdit.processes.coarse_to_fine import CoarseToFine
from vqdit.processes.ddpm import DDPM
from vqdit.processes.edm import EDM
from vqdit.processes.flow import Flow
from vqdit.processes.gaussian import Gaussian
from vqdit.processes.joint import (
    Conditional,
    Independent,
    JointTimeDistribution,
    Shared,
    Unbalanced,
)
from vqdit.processes.mask_and_replace import MaskAndReplace
from vqdit.processes.masked import Masked
from vqdit.processes.times import CosMap, Mode, Shifted
from vqdit.processes.uniform_state import UniformState
from vqdit.processes.weighting import EDMWeighting, MinSNR, Weighting

__all__ = [
    "DDPM", "EDM", "CoarseToFine", "Conditional", "CosMap", "EDMWeighting", "Flow", "Gaussian",
    "Independent", "JointTimeDistribution", "LogitNormal", "MaskAndReplace", "Masked", "MinSNR",
    "Mode", "Process", "Shared", "Shifted", "TimeDistribution", "Unbalanced", "Uniform",
    "UniformState", "Weighting",
]  # fmt: skip
