"""Guidance scales of a request: one scale, or one scale per pair of modalities.

{"image:text": 3.0} guides the image away from its prediction without the text. A single scale
guides all targets away from their unconditional prediction.
"""

from collections.abc import Iterable, Mapping, Sequence

import jax.numpy as jnp

from vqdit import rules
from vqdit.samplers import Branch
from vqdit.tasks import lengths
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.typing import Named

Guidance = float | Mapping[str, float] | None
"""A scale, or scales of pairs such as {"image:text": 3.0}; None uses the config's scale."""


def check_guidance(
    task: MultimodalTask, given: Sequence[str], wanted: Sequence[str], guidance: Guidance
) -> None:
    """Raises ValueError if this guidance is impossible for a request of `wanted` from `given`."""
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
                    f"guidance {pair!r} cannot use the source {source!r}; {target!r} can be guided "
                    f"by: {others}"
                )
            check_hidden(task, [source])
        return
    if guidance not in (None, 1.0) and not given and not task.conditions:
        raise ValueError(
            f"guidance {guidance} needs given values, but none are given; give a value, guide a "
            "pair such as image:text, or leave guidance at 1"
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
    """Raises ValueError if `weak` is unsuitable as the weak model for autoguidance of `task`."""
    _check_scales(guidance)
    blocks = [name for name, target in task.targets.items() if target.block]
    if blocks:
        raise ValueError(
            f"{blocks[0]!r} is generated block by block, for which autoguidance is not supported; "
            "leave out the weak model"
        )
    if isinstance(guidance, Mapping):
        raise ValueError(
            "autoguidance needs one scale for all targets, not scales of pairs such as "
            f"{next(iter(guidance), 'image:text')}"
        )
    if guidance is None and task.guidance == 1.0:
        raise ValueError(
            "autoguidance needs a scale, but the config's scale is 1, which disables guidance; "
            "set a scale, such as guidance=2"
        )
    if (task.inputs, task.processes) != (weak.inputs, weak.processes):
        different = [n for n in task.inputs if task.inputs[n] != weak.inputs.get(n)]
        raise ValueError(
            "autoguidance needs a weak model with the same modalities, processes and tokens; "
            f"this one differs in {', '.join(different) or 'processes or modalities'}"
        )
    for name, fingerprint in task.fingerprints.items():
        if weak.fingerprints.get(name) != fingerprint:
            raise ValueError(
                f"the weak model has another tokenizer for {name!r}; use a weak model with the "
                "same tokenizer"
            )


def guidance_branches(
    task: MultimodalTask, given: Iterable[str], guidance: Guidance
) -> tuple[Branch, ...]:
    """Returns a guidance branch for each set of hidden modalities; none if the scale is 1."""
    every = {name: name for name in (*task.targets, *task.conditions)}
    every |= {lengths.of(name): name for name in task.variable}  # hidden with its target
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
    """Returns the one branch of autoguidance, in which the weak model sees all given values."""
    scale = task.guidance if guidance is None else guidance
    return (Branch(Named(), Named({name: jnp.float32(scale) for name in task.targets})),)


def check_hidden(task: MultimodalTask, names: Iterable[str]) -> None:
    """Raises ValueError if guidance hides a condition that was never dropped in training.

    The network cannot predict without such a condition.
    """
    for name in names:
        if name in task.conditions and task.conditions[name].drop == 0.0:
            raise ValueError(
                f"guidance hides {name!r}, but training with conditions.{name}.drop=0 never hid "
                "it; leave guidance at 1, or train with drop=0.1"
            )
