"""Processes: each says how data turn into noise over t in [0, 1], and what a network predicts."""

from vqdit.processes.base import LogitNormal, Process, TimeLaw, Uniform
from vqdit.processes.flow import Flow
from vqdit.processes.masked import Masked

__all__ = ["Flow", "LogitNormal", "Masked", "Process", "TimeLaw", "Uniform"]
