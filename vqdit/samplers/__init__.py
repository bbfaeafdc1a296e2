"""Samplers: each takes x from t to s < t given the network's prediction; `generate` runs them."""

from vqdit.samplers.base import Sampler, generate
from vqdit.samplers.euler import Euler
from vqdit.samplers.guidance import guided, without
from vqdit.samplers.unmasking import Unmasking

__all__ = ["Euler", "Sampler", "Unmasking", "generate", "guided", "without"]
