"""Profiler traces of steps of a run."""

from pathlib import Path
from typing import Any

import jax

from vqdit.config import Profile


class Tracer:
    """Writes a trace of some steps of a run.

    Args:
        folder: folder for the trace.
        profile: the steps to trace.
    """

    def __init__(self, folder: Path, profile: Profile) -> None:
        self._folder, self._profile, self._is_on = folder, profile, False

    def before(self, step: int) -> None:
        """Starts the trace if the next step is the first step of the profile."""
        if self._profile.steps and step == self._profile.start:
            jax.profiler.start_trace(str(self._folder))
            self._is_on = True

    def after(self, step: int, state: Any) -> None:
        """Ends the trace if this was the last step of the profile, after its state is computed."""
        if self._is_on and step == self._profile.start + self._profile.steps - 1:
            jax.block_until_ready(state)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self._is_on:
            jax.profiler.stop_trace()
            self._is_on = False
