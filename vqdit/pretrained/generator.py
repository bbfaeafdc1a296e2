"""A public DiT as a workdir that can be sampled, and the DiT of a workdir as a public one."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

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
"""What latents of Stable Diffusion's first tokenizers are multiplied by: `scaling_factor`."""
STEPS = 250
"""Of the published tables, both DiT's and SiT's."""


def write(
    found: Pretrained,
    folder: Path,
    *,
    tokenizer: str,
    scaling: float = SCALING,
    pictures: str = "pictures",
    option: str = "folder",
) -> Path:
    """Writes a workdir that `vqdit.load` and `vqdit sample` take.

    Args:
        found: what `convert` returned.
        folder: a new one, or an empty one.
        tokenizer: workdir of the tokenizer whose latents the DiT was trained on.
        scaling: what the latents were multiplied by.
        pictures: folder of images that the workdir's experiment names as its data.
        option: what the caller chooses another folder by, for messages.

    Raises:
        FileNotFoundError: the tokenizer is not there.
        ValueError: the DiT takes no such latents, or there is a run in the folder.
        OSError: it cannot be written.
    """
    if scaling <= 0.0:
        raise ValueError(f"latents are multiplied by a number above 0, got {scaling=}")
    lent = resolver({})(tokenizer)
    task = _task(found, tokenizer, lent)
    resolved = task.resolve_references(lambda name: lent.task)
    space = resolved.space(IMAGE)
    taken, given = found.inputs[IMAGE], space.tokens
    if taken != given:
        raise ValueError(
            f"the DiT takes latents of {_described(taken)}, and {tokenizer} has "
            f"{_described(given)}; name the tokenizer that the DiT was trained with, imported with "
            "the --size of its images"
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
    """Writes the DiT of a workdir as a folder of diffusers; see `diffusers_dit.write`.

    Args:
        source: the workdir, with one target, over latents, and one condition.
        folder: a new one.
        option: what the caller chooses another folder by, for messages.

    Returns:
        The folder, and the mean and std by which the network's latents are standardised.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: diffusers has no such network, or there is a model in the folder.
        OSError: it cannot be written.
    """
    _, task, params, _, frozen, _ = restoring.restore(source)
    if not isinstance(task, DiffusionTask):
        raise ValueError(f"{source} is a {type(task).__name__}; only a DiT can be exported")
    if len(task.targets) != 1 or len(task.conditions) != 1:
        raise ValueError(
            "the DiT of diffusers has one modality and one label; this one generates "
            f"{', '.join(task.targets)}, conditioned on {', '.join(task.conditions) or 'nothing'}; "
            "it cannot be exported"
        )
    (name,), (label,) = task.targets, task.conditions
    image = task.inputs[name]
    model = dataclasses.replace(task.model, patch=image.patch or task.model.patch)
    inputs = Named({IMAGE: dataclasses.replace(image, patch=0), LABEL: task.inputs[label]})
    renamed = {
        part.replace(f"{name}_", f"{IMAGE}_", 1).replace(f"{label}_", f"{LABEL}_", 1): leaves
        for part, leaves in params.items()
        if part not in (ALIGNED, UNCERTAINTY)  # only training needs what these learned
    }
    found = Pretrained(model, inputs, renamed, task.targets[name].process)
    diffusers_dit.write(found, folder, option=option)
    moments = {part: np.asarray(frozen[name][part]).tolist() for part in ("mean", "std")}
    return folder, moments


def _task(found: Pretrained, tokenizer: str, lent: Trained) -> DiffusionTask:
    if not isinstance(lent.task, KLTask):
        raise ValueError(
            f"{tokenizer} is a {type(lent.task).__name__}; a public DiT needs a tokenizer with "
            "latents, such as an imported AutoencoderKL"
        )
    steps = Ancestral(steps=STEPS) if isinstance(found.process, DDPM) else Euler(steps=STEPS)
    target = Target(tokenizer=tokenizer, process=found.process, sampler=steps, posterior="sample")
    label = Condition(modality=Label(classes=found.inputs[LABEL].codes))
    return DiffusionTask(
        targets=Named({IMAGE: target}), conditions=Named({LABEL: label}), model=found.model
    )


def _described(tokens: Tokens) -> str:
    return f"{'x'.join(map(str, tokens.grid))} with {tokens.width} channels"
