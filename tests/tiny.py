"""Experiments small enough for a test, on the digits, and how to run them."""

import dataclasses
from pathlib import Path
from typing import Any

from vqdit.config import Experiment
from vqdit.data import Affine, Data, Digits
from vqdit.inference.loading import resolver
from vqdit.modalities import Audio, Image, Label, Text
from vqdit.models import ConvAutoencoder, DiT, PatchGAN
from vqdit.optim import AdamW
from vqdit.processes import Flow, Independent, Masked
from vqdit.quantizers import VQ
from vqdit.samplers import Euler, Unmasking
from vqdit.tasks import Adversary, CodeTarget, Condition, DiffusionTask, Target, TokenizerTask
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


def gan(**fields: Any) -> Experiment:
    """The same against a discriminator that begins at its third step, with all its penalties."""
    adversary = Adversary(
        discriminator=PatchGAN(channels=4, layers=1),
        start=2,
        adaptive=True,
        lecam=0.05,
        r1=1.0,
        r1_every=2,
        optimizer=AdamW(learning_rate=3e-3, warmup=0, b1=0.5),
    )
    experiment = tokenizer()
    task = dataclasses.replace(experiment.task, adversary=adversary)
    return dataclasses.replace(experiment, **{"task": task, **fields})


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


def block_generator(**fields: Any) -> Experiment:
    """A DiT over the same codes, which generates four of the sixteen at a time."""
    target = Target(tokenizer="tokenizer", block=4, sampler=Unmasking(steps=2))
    task = dataclasses.replace(generator().task, targets=Named(image=target))
    return generator(**{"task": task, **fields})


def audio_tokenizer(**fields: Any) -> Experiment:
    """A tokenizer of the digits' tones, five codes each."""
    task = TokenizerTask(
        name="audio",
        modality=Audio(samples=800, rate=8000),
        model=ConvAutoencoder(channels=(8,), patch=160, blocks=1),
        quantizer=VQ(codebook_size=16, dim=4, start=3),
    )
    return tokenizer(**{"task": task, "data": Data(source=Digits(), batch_size=32), **fields})


def joint(**fields: Any) -> Experiment:
    """A DiT over pictures (masked), tones (flow) and names (bytes), given the label or not.

    Trained just long enough to know the name that goes with a label.
    """
    task = DiffusionTask(
        targets=Named(
            audio=Target(
                tokenizer="audio", process=Flow(), sampler=Euler(steps=4), reveal=(0.0, 0.5)
            ),
            image=Target(
                tokenizer="tokenizer", sampler=Unmasking(steps=4), reveal=(0.25, 1.0), patch=2
            ),
            text=CodeTarget(
                modality=Text(length=5), sampler=Unmasking(steps=4), reveal=(0.0, 0.75)
            ),
        ),
        conditions=Named(label=Condition(modality=Label(classes=10))),
        joint=Independent(p_one_known=0.25, p_known=0.1, p_dropped=0.1),
        model=DiT(depth=2, dim=24, heads=2, patch=1),
    )
    defaults: dict[str, Any] = {
        "task": task,
        "data": Data(source=Digits(), batch_size=32),
        "steps": 300,
        "log_every": 10,
        "checkpoint_every": 0,
        "optimizer": AdamW(learning_rate=1e-2, warmup=5),
    }
    return generator(**{**defaults, **fields})


def run(experiment: Experiment, folder: Path, **earlier: Path) -> Outcome:
    """Trains it."""
    return train(experiment, folder, resolver(earlier))


def changed(experiment: Experiment, **fields: Any) -> Experiment:
    """The experiment with other fields."""
    return dataclasses.replace(experiment, **fields)
