"""Requests: which modalities are given, wanted, guided and edited."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.samplers import Branch
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.interpolation import InterpolationInputs
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.typing import Array, Bool, Named


class Request(NamedTuple):
    """A request for a batch of samples; a pytree, so one compiled program serves all requests.

    Attributes:
        given: stored arrays of every target and condition. Arrays of targets that are not known are
            ignored; -1 is a label that is not given.
        known: which targets are given.
        wanted: which targets are generated; those neither known nor wanted stay unknown.
        branches: branches of guidance.
        edits: edits of wanted targets, which begin at an example, or between two, instead of noise.
    """

    given: Named[Array]
    known: Named[Bool[Array, ""]]
    wanted: Named[Bool[Array, ""]]
    branches: tuple[Branch, ...] = ()
    edits: Named[EditInputs | InterpolationInputs] = Named()


def make_request(
    task: MultimodalTask,
    index: np.ndarray,
    stored: Mapping[str, np.ndarray],
    wanted: Collection[str],
    branches: tuple[Branch, ...] = (),
) -> Request:
    """Returns the request of a batch of samples.

    Args:
        task: the task of the model.
        index: numbers of the samples, int [b].
        stored: given values in stored form by name; sample i takes item i mod F. A condition with
            classes that is not given takes its classes in turn.
        wanted: names of the targets to generate.
        branches: branches of guidance.
    """
    given = {}
    for name in (*task.targets, *task.conditions):
        if name in stored:
            given[name] = jnp.asarray(stored[name][index % len(stored[name])])
        elif name in task.conditions and task.conditions[name].classes:
            given[name] = jnp.asarray(index % task.conditions[name].classes, jnp.int32)
        else:
            given[name] = blank(task, name, len(index))
    is_known = Named({name: jnp.asarray(name in stored) for name in task.targets})
    is_wanted = Named({name: jnp.asarray(name in wanted) for name in task.targets})
    return Request(Named(given), is_known, is_wanted, branches)


def blank(task: MultimodalTask, name: str, count: int) -> Array:
    """Returns the stored array of a modality that is not given: -1 for a condition, else 0."""
    modality = task.modality(name)
    shape = (count, *modality.shape)
    if name in task.conditions:
        return jnp.full(shape, -1, jnp.int32)
    return jnp.zeros(shape, modality.dtype)
