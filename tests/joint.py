"""Generators of several modalities that need no training data: text, labels, and pictures."""

from pathlib import Path
from typing import Any

import jax

from vqdit.inference.generator import Generator
from vqdit.inference.loading import load
from vqdit.modalities import Label, Text
from vqdit.models import DiT
from vqdit.processes import Masked
from vqdit.runs.restoring import Restored
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask, Target
from vqdit.typing import Named, Params

STEPS = 6
SMALL = DiT(depth=2, dim=16, heads=2, patch=1)


def symbols(**fields: Any) -> DiffusionTask:
    """A text of four letters in the first half of the steps, and a label in the second."""
    targets = Named(
        text=CodeTarget(modality=Text(length=4), sampler=Unmasking(steps=STEPS), reveal=(0.0, 0.5)),
        label=CodeTarget(
            modality=Label(classes=4), sampler=Unmasking(steps=STEPS), reveal=(0.5, 1.0)
        ),
    )
    return DiffusionTask(**{"targets": targets, "model": SMALL, **fields})


def generator(task: DiffusionTask, params: Params = None, frozen: Any = None) -> Generator:
    """A generator with given parameters, or random ones."""
    if params is None:
        params = randomized(task)
    frozen = task.frozen_like() if frozen is None else frozen
    experiment: Any = None
    return Generator(Restored(experiment, task, params, {}, frozen, 0))


def randomized(task: DiffusionTask, seed: int = 1) -> Params:
    """Parameters under which everything depends on everything, unlike fresh ones."""
    leaves, structure = jax.tree.flatten(jax.eval_shape(task.blank)[0])
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [
        0.3 * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noise)


def pictured(tokenizer: Path, patch: int = 1, **fields: Any) -> Generator:
    """A random generator of `tiny` pictures (4 x 4 codes) and labels."""
    loaded = load(tokenizer)
    sampler = Unmasking(steps=STEPS)
    image = Target(**{"process": Masked(), "sampler": sampler, "patch": patch, **fields})
    label = CodeTarget(modality=Label(classes=10), sampler=sampler)
    task = DiffusionTask(targets=Named(image=image, label=label), model=SMALL)
    task = task.resolve_references(lambda name: loaded.task)
    frozen = task.frozen_like()
    frozen["image"] |= {"params": loaded.params, "stats": loaded.stats}
    return generator(task, frozen=frozen)
