"""Tasks: what is trained. The training loop knows only their contract."""

from vqdit.tasks.base import Aux, Task, Trained
from vqdit.tasks.diffusion import Condition, DiffusionTask, Target
from vqdit.tasks.tokenizer import TokenizerTask

__all__ = ["Aux", "Condition", "DiffusionTask", "Target", "Task", "TokenizerTask", "Trained"]
