"""Tasks: what is trained. The training loop knows only their contract."""

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
