"""Base class of samplers for the Masked process."""

from vqdit.processes.base import Process
from vqdit.processes.coarse_to_fine import CoarseToFine
from vqdit.processes.masked import Masked
from vqdit.samplers.base import Sampler


class MaskedSampler(Sampler):
    """A sampler that reveals masked codes."""

    each_codebook = False  # whether codebooks may have times of their own, as in CoarseToFine

    def check(self, process: Process) -> None:
        if not isinstance(process, Masked):
            other = (
                "DiscreteAncestral for its codes" if process.is_discrete else "Euler for latents"
            )
            raise ValueError(
                f"{type(self).__name__} decodes the Masked process, got {type(process).__name__}; "
                f"use {other}"
            )
        if isinstance(process, CoarseToFine) and not self.each_codebook:
            raise ValueError(
                f"{type(self).__name__} needs one time for all codebooks, but CoarseToFine has "
                "one time per codebook; use Unmasking"
            )


def masked(process: Process) -> Masked:
    """Casts a process that `MaskedSampler.check` accepted to `Masked`."""
    if not isinstance(process, Masked):
        raise TypeError(f"this sampler needs the Masked process, got {type(process).__name__}")
    return process
