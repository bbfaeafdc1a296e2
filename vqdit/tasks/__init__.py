"""Tasks: models and how they are trained. The training loop uses only the interface `Task`."""

from vqdit.tasks.adversary import Adversary
from vqdit.tasks.base import Aux, Task, Trained
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.kl import KLTask
from vqdit.tasks.request import Request
from vqdit.tasks.targets import BaseTarget, CodeTarget, Condition, Target
from vqdit.tasks.tokenizer import TokenizerTask

__all__ = [
    "Adversary",
    "Aux",
    "BaseTarget",
    "CodeTarget",
    "Condition",
    "DiffusionTask",
    "KLTask",
    "Request",
    "Target",
    "Task",
    "TokenizerTask",
    "Trained",
]
