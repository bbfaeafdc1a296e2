"""Experiments small enough for a test, on the digits, and how to run them."""

import dataclasses
from pathlib import Path
from typing import Any

from vqdit.api import resolver
from vqdit.data import Affine, Data, Digits
from vqdit.experiment import Experiment
from vqdit.modalities import Image, Label
from vqdit.models import ConvAutoencoder, DiT
from vqdit.optimizers import AdamW
from vqdit.processes import Flow, Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import Condition, DiffusionTask, Target, TokenizerTask
from vqdit.train.loop import Outcome, train
from vqdit.typing import Named


def tokenizer(**fields: Any) -> Experiment:
    """A tokenizer that trains in a second."""
    defaults: dict[str, Any] = {
        "task": TokenizerTask(
            modality=Image(size=(8, 8), channels=1),
            model=ConvAutoencoder(channels=(4, 8), blocks=1),
            quantizer=VQ(codebook_size=16, dim=4, start=3),
        ),
        "data": Data(source=Digits(), augment=(Affine(),), batch_size=32),
        "optimizer": AdamW(learning_rate=3e-3, warmup=2),
        "steps": 8,
        "log_every": 1,
        "checkpoint_every": 4,
    }
    return Experiment(**{**defaults, **fields})


def generator(process: Any = None, sampler: Any = None, **fields: Any) -> Experiment:
    """A DiT over the codes of `tokenizer`."""
    target = Target(
        tokenizer="tokenizer", process=process or Masked(), sampler=sampler or Unmasking(steps=3)
    )
    defaults: dict[str, Any] = {
        "task": DiffusionTask(
            targets=Named(image=target),
            conditions=Named(label=Condition(modality=Label(classes=10))),
            model=DiT(depth=2, dim=16, heads=2, patch=1),
            guidance=1.5,
        ),
        "data": Data(source=Digits(), batch_size=32),
        "optimizer": AdamW(learning_rate=3e-3, warmup=2),
        "ema": 0.9,
        "steps": 6,
        "log_every": 1,
        "checkpoint_every": 3,
    }
    return Experiment(**{**defaults, **fields})


def flow_generator(**fields: Any) -> Experiment:
    """The same with flow matching over z_q."""
    return generator(Flow(), Euler(steps=3), **fields)


def run(experiment: Experiment, folder: Path, **earlier: Path) -> Outcome:
    """Trains it."""
    return train(experiment, folder, resolver(earlier))


def changed(experiment: Experiment, **fields: Any) -> Experiment:
    """The experiment with other fields."""
    return dataclasses.replace(experiment, **fields)
