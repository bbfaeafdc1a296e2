"""Samplers turn noise into data in steps from time t to a time s < t; `generate` runs them."""

from vqdit.samplers.ancestral import Ancestral
from vqdit.samplers.base import Sampler, Step, generate, trajectory
from vqdit.samplers.ddim import DDIM
from vqdit.samplers.discrete_ancestral import DiscreteAncestral
from vqdit.samplers.dpm_solver import DPMSolver
from vqdit.samplers.euler import Euler, EulerAncestral
from vqdit.samplers.guidance import Branch, Guide, autoguided, guided, sharpened
from vqdit.samplers.heun import Heun
from vqdit.samplers.remdm import ReMDM, ReMDMLoop
from vqdit.samplers.spacing import Even, Karras, Respaced, Shifted, Spacing
from vqdit.samplers.unipc import UniPC
from vqdit.samplers.unmasking import Unmasking

__all__ = [
    "Ancestral",
    "Branch",
    "DDIM",
    "DPMSolver",
    "DiscreteAncestral",
    "Euler",
    "EulerAncestral",
    "Even",
    "Guide",
    "Heun",
    "Karras",
    "ReMDM",
    "ReMDMLoop",
    "Respaced",
    "Sampler",
    "Shifted",
    "Spacing",
    "Step",
    "UniPC",
    "Unmasking",
    "autoguided",
    "generate",
    "guided",
    "sharpened",
    "trajectory",
]
