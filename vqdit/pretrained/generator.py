"""Converts public DiTs to workdirs, and the DiT of a workdir to diffusers."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from vqdit import rules
from vqdit.config import Experiment
from vqdit.data import Data, ImageFolder
from vqdit.inference.loading import resolver
from vqdit.modalities import Label
from vqdit.models.dit import Tokens
from vqdit.pretrained import diffusers_dit
from vqdit.pretrained.transformer import IMAGE, LABEL, Pretrained
from vqdit.processes import DDPM
from vqdit.runs import restoring
from vqdit.samplers import Ancestral, Euler
from vqdit.tasks import Condition, DiffusionTask, KLTask, Target, Trained
from vqdit.tasks.diffusion import ALIGNED, UNCERTAINTY
from vqdit.typing import Named

SCALING = 0.18215
"""Factor of the latents of Stable Diffusion 1 and 2; `scaling_factor` in diffusers."""
STEPS = 250
"""Number of sampling steps in the tables of both DiT and SiT."""


def write(
    found: Pretrained,
    folder: Path,
    *,
    tokenizer: str,
    scaling: float = SCALING,
    pictures: str = "pictures",
    option: str = "folder",
) -> Path:
    """Writes a public DiT as a workdir for `vqdit.load` and `vqdit sample`.

    Args:
        found: a DiT returned by `convert`.
        folder: a new or empty folder.
        tokenizer: workdir of the tokenizer on whose latents the DiT was trained.
        scaling: factor by which the latents were multiplied in training.
        pictures: folder of images, which becomes the data of the workdir's experiment.
        option: name of the option that sets the folder, for error messages.

    Raises:
        FileNotFoundError: if the tokenizer does not exist.
        ValueError: if the latents of the tokenizer do not match the DiT, or the folder already
            contains a run.
        OSError: if the folder cannot be written.
    """
    rules.check(rules.finite, scaling=scaling)
    if scaling <= 0.0:
        raise ValueError(
            f"the factor on the latents must be above 0, got {scaling=}; {SCALING} is usual"
        )
    lent = resolver({})(tokenizer)
    task = _task(found, tokenizer, lent)
    resolved = task.resolve_references(lambda name: lent.task)
    space = resolved.space(IMAGE)
    taken, given = found.inputs[IMAGE], space.tokens
    if taken != given:
        raise ValueError(
            f"the DiT takes latents of {_described(taken)}, but {tokenizer} has "
            f"{_described(given)}; use the tokenizer that the DiT was trained with, imported with "
            "the --size of the DiT's images"
        )
    moments = {"mean": jnp.zeros(taken.width), "std": jnp.full(taken.width, 1.0 / scaling)}
    frozen = {IMAGE: {"params": lent.params, "stats": lent.stats, **moments}}
    modality = lent.task.modality
    source = ImageFolder(path=pictures, size=modality.grid[0], channels=modality.channels)
    experiment = Experiment(task=task, data=Data(source=source))
    run = restoring.Restored(experiment, resolved, found.params, {}, frozen, 0)
    restoring.write_run(folder, run, option=option)
    return folder


def export(
    source: Path, folder: Path, *, option: str = "folder"
) -> tuple[Path, dict[str, list[float]]]:
    """Writes the DiT of a workdir as a diffusers folder; see `diffusers_dit.write`.

    Args:
        source: workdir of a DiT with one target over latents and one condition.
        folder: a new or empty folder.
        option: name of the option that sets the folder, for error messages.

    Returns:
        The folder, and the mean and std by which the network's latents are standardised.

    Raises:
        FileNotFoundError: if the workdir has no run.
        ValueError: if diffusers does not support the network, or the folder already contains a
            model.
        OSError: if the folder cannot be written.
    """
    _, task, params, _, frozen, _ = restoring.restore(source)
    if not isinstance(task, DiffusionTask):
        raise ValueError(
            f"{source} has a {type(task).__name__}; only a run of a DiT can be exported"
        )
    if len(task.targets) != 1 or len(task.conditions) != 1:
        raise ValueError(
            f"a DiT that generates {', '.join(task.targets)}, conditioned on "
            f"{', '.join(task.conditions) or 'nothing'}, cannot be exported to diffusers; only "
            "a DiT that generates one modality, conditioned on one label, can be"
        )
    (name,), (label,) = task.targets, task.conditions
    image = task.inputs[name]
    model = dataclasses.replace(task.model, patch=image.patch or task.model.patch)
    inputs = Named({IMAGE: dataclasses.replace(image, patch=0), LABEL: task.inputs[label]})
    renamed = {
        part.replace(f"{name}_", f"{IMAGE}_", 1).replace(f"{label}_", f"{LABEL}_", 1): leaves
        for part, leaves in params.items()
        if part not in (ALIGNED, UNCERTAINTY)  # parameters used only in training
    }
    found = Pretrained(model, inputs, renamed, task.targets[name].process)
    diffusers_dit.write(found, folder, option=option)
    moments = {part: np.asarray(frozen[name][part]).tolist() for part in ("mean", "std")}
    return folder, moments


def _task(found: Pretrained, tokenizer: str, lent: Trained) -> DiffusionTask:
    if not isinstance(lent.task, KLTask):
        raise ValueError(
            f"{tokenizer} is a {type(lent.task).__name__}, but a public DiT needs a tokenizer with "
            "latents; use, for example, an imported AutoencoderKL"
        )
    steps = Ancestral(steps=STEPS) if isinstance(found.process, DDPM) else Euler(steps=STEPS)
    target = Target(tokenizer=tokenizer, process=found.process, sampler=steps, posterior="sample")
    label = Condition(modality=Label(classes=found.inputs[LABEL].codes))
    return DiffusionTask(
        targets=Named({IMAGE: target}), conditions=Named({LABEL: label}), model=found.model
    )


def _described(tokens: Tokens) -> str:
    return f"{'x'.join(map(str, tokens.grid))} with {tokens.width} channels"
