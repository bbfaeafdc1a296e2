"""Guidance scales as a caller gives them: one scale, or scales of pairs of modalities.

{"image:text": 3.0} moves the image away from the prediction without the text. One scale moves
everything that is generated away from the prediction without anything given.
"""

from collections.abc import Iterable, Mapping, Sequence

import jax.numpy as jnp

from vqdit import rules
from vqdit.samplers import Branch
from vqdit.tasks import lengths
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.typing import Named

Guidance = float | Mapping[str, float] | None
"""A scale, or scales of pairs such as {"image:text": 3.0}; None takes the config's scale."""


def check_guidance(
    task: MultimodalTask, given: Sequence[str], wanted: Sequence[str], guidance: Guidance
) -> None:
    """Raises ValueError if a request for `wanted` from `given` cannot have this guidance."""
    _check_scales(guidance)
    if isinstance(guidance, Mapping):
        for pair in guidance:
            target, colon, source = str(pair).partition(":")
            if not colon:
                raise ValueError(f"guidance takes pairs such as image:text, got {pair!r}")
            for name in (target, source):
                task.modality(name)
            if target not in wanted:
                raise ValueError(
                    f"guidance {pair!r} is for {target!r}, which is not generated; generated: "
                    f"{', '.join(wanted)}"
                )
            sources = [*given, *wanted, *task.conditions]
            if source == target or source not in sources:
                others = ", ".join(sorted({*sources} - {target})) or "nothing"
                raise ValueError(
                    f"guidance {pair!r} has no source {source!r}; {target!r} can be guided by: "
                    f"{others}"
                )
            check_hidden(task, [source])
        return
    if guidance not in (None, 1.0) and not given and not task.conditions:
        raise ValueError(
            f"guidance {guidance} moves towards what is given, and nothing is; give something, "
            "guide a pair such as image:text, or leave it at 1"
        )
    if (task.guidance if guidance is None else guidance) != 1.0:
        check_hidden(task, task.conditions)


def _check_scales(guidance: Guidance) -> None:
    if isinstance(guidance, Mapping):
        rules.check(
            rules.finite, **{f"guidance {pair!r}": scale for pair, scale in guidance.items()}
        )
    elif guidance is not None:
        rules.check(rules.finite, guidance=guidance)


def check_autoguidance(task: MultimodalTask, weak: MultimodalTask, guidance: Guidance) -> None:
    """Raises ValueError if a model of `task` cannot be guided away from a weaker one of `weak`."""
    _check_scales(guidance)
    blocks = [name for name, target in task.targets.items() if target.block]
    if blocks:
        raise ValueError(
            f"{blocks[0]!r} is generated block by block, which guidance away from another model "
            "does not support; leave out the weaker model"
        )
    if isinstance(guidance, Mapping):
        raise ValueError(
            "guidance away from another model is one scale, not of pairs such as "
            f"{next(iter(guidance), 'image:text')}"
        )
    if guidance is None and task.guidance == 1.0:
        raise ValueError(
            "guidance away from another model needs a scale, and the config's scale is 1, which "
            "disables guidance; give one, such as guidance=2"
        )
    if (task.inputs, task.processes) != (weak.inputs, weak.processes):
        different = [n for n in task.inputs if task.inputs[n] != weak.inputs.get(n)]
        raise ValueError(
            "a model can be guided away only from one of the same modalities, processes and "
            f"tokens; they differ in {', '.join(different) or 'processes or modalities'}"
        )
    for name, fingerprint in task.fingerprints.items():
        if weak.fingerprints.get(name) != fingerprint:
            raise ValueError(
                f"the tokens of {name!r} are of another tokenizer in the model to be guided "
                "away from; take one that was trained over the same"
            )


def guidance_branches(
    task: MultimodalTask, given: Iterable[str], guidance: Guidance
) -> tuple[Branch, ...]:
    """Returns one branch per set of hidden modalities; none if the only scale is 1."""
    every = {name: name for name in (*task.targets, *task.conditions)}
    every |= {lengths.of(name): name for name in task.variable}  # hidden with their targets
    scales: dict[tuple[str, ...], dict[str, float]] = {}
    if isinstance(guidance, Mapping):
        for pair, scale in guidance.items():
            target, _, source = pair.partition(":")
            scales.setdefault((source,), {})[target] = scale
    else:
        scale = task.guidance if guidance is None else guidance
        sources = (*(name for name in given if name in task.targets), *task.conditions)
        if scale != 1.0 and sources:
            scales[sources] = dict.fromkeys(task.targets, scale)
    return tuple(
        Branch(
            Named({part: jnp.asarray(name in hidden) for part, name in every.items()}),
            Named({name: jnp.float32(scale.get(name, 1.0)) for name in task.targets}),
        )
        for hidden, scale in scales.items()
    )


def autoguidance_branches(task: MultimodalTask, guidance: Guidance) -> tuple[Branch, ...]:
    """Returns the branch away from a weak model, which sees everything that is given."""
    scale = task.guidance if guidance is None else guidance
    return (Branch(Named(), Named({name: jnp.float32(scale) for name in task.targets})),)


def check_hidden(task: MultimodalTask, names: Iterable[str]) -> None:
    """Raises ValueError if guidance hides a condition that training never hid.

    The network has not learned to predict without such a condition.
    """
    for name in names:
        if name in task.conditions and task.conditions[name].drop == 0.0:
            raise ValueError(
                f"guidance hides {name!r}, which training with conditions.{name}.drop=0 never "
                "did; leave guidance at 1, or train with drop=0.1"
            )
