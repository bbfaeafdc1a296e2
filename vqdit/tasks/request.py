"""Requests: which modalities are given, wanted, guided and edited."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.ragged import padded, ragged
from vqdit.samplers import Branch
from vqdit.tasks.editing import EditInputs
from vqdit.tasks.interpolation import InterpolationInputs
from vqdit.tasks.lengths import UNKNOWN
from vqdit.tasks.multimodal import MultimodalTask
from vqdit.typing import Array, Bool, Int, Named


class Request(NamedTuple):
    """A request for a batch of samples; a pytree, so one compiled program serves all requests.

    Attributes:
        given: stored arrays of every target and condition. Arrays of targets that are not known are
            ignored; the label -1 means that no label is given.
        known: which targets are given.
        wanted: which targets are generated; those neither known nor wanted stay unknown.
        branches: branches of guidance.
        edits: edits and interpolations of wanted targets, whose generation starts from noised
            examples.
        mask: for modalities of variable length, True at the stored positions of given values that
            are not padding.
        lengths: for targets of variable length that are not known, the number of their tokens;
            `lengths.UNKNOWN` if the number is not known.
    """

    given: Named[Array]
    known: Named[Bool[Array, ""]]
    wanted: Named[Bool[Array, ""]]
    branches: tuple[Branch, ...] = ()
    edits: Named[EditInputs | InterpolationInputs] = Named()
    mask: Named[Bool[Array, "b n"]] = Named()
    lengths: Named[Int[Array, " b"]] = Named()


def make_request(
    task: MultimodalTask,
    index: np.ndarray,
    stored: Mapping[str, np.ndarray],
    wanted: Collection[str],
    branches: tuple[Branch, ...] = (),
    room: Mapping[str, int] | None = None,
) -> Request:
    """Returns the request of a batch of samples.

    Args:
        task: the task of the model.
        index: indices of the samples, int [b].
        stored: given values in stored form by name; sample i has item i mod F. A condition with
            classes that is not given cycles through its classes.
        wanted: names of the targets to generate.
        branches: branches of guidance.
        room: number of stored positions to which modalities of variable length are padded, keyed by
            name; the default is the largest length.
    """
    given, mask, room = {}, {}, room or {}
    for name in (*task.targets, *task.conditions):
        modality = task.modality(name)
        if modality.lengths:
            none = ragged([np.zeros((0, *modality.shape[1:]), modality.dtype)])
            rows = stored.get(name, none)
            values = padded(rows[index % len(rows)], room.get(name, modality.shape[0]))
            given[name], mask[name] = map(jnp.asarray, values)
        elif name in stored:
            given[name] = jnp.asarray(stored[name][index % len(stored[name])])
        elif name in task.conditions and task.conditions[name].classes:
            given[name] = jnp.asarray(index % task.conditions[name].classes, jnp.int32)
        else:
            given[name] = blank(task, name, len(index))
    is_known = Named({name: jnp.asarray(name in stored) for name in task.targets})
    is_wanted = Named({name: jnp.asarray(name in wanted) for name in task.targets})
    unknown = {name: jnp.full(len(index), UNKNOWN) for name in task.variable}
    known = Named(given), is_known, is_wanted, branches
    return Request(*known, mask=Named(mask), lengths=Named(unknown))


def blank(task: MultimodalTask, name: str, count: int) -> Array:
    """Returns the stored array of a modality that is not given: -1 for a condition, else 0."""
    modality = task.modality(name)
    shape = (count, *modality.shape)
    if name in task.conditions:
        return jnp.full(shape, -1, jnp.int32)
    return jnp.zeros(shape, modality.dtype)
