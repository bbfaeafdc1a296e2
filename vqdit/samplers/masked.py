"""Base of the samplers that run the Masked process, and no other."""

from vqdit.processes.base import Process
from vqdit.processes.masked import Masked
from vqdit.samplers.base import Sampler


class MaskedSampler(Sampler):
    """A sampler that reveals masked codes."""

    def check(self, process: Process) -> None:
        if not isinstance(process, Masked):
            other = (
                "DiscreteAncestral for its codes" if process.is_discrete else "Euler for latents"
            )
            raise ValueError(
                f"{type(self).__name__} decodes the Masked process, got "
                f"{type(process).__name__}; use {other}"
            )


def masked(process: Process) -> Masked:
    """Narrows the type of a process that `MaskedSampler.check` accepted."""
    if not isinstance(process, Masked):
        raise TypeError(f"expected the Masked process, got {type(process).__name__}")
    return process
