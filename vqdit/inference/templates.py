"""Fills in templates: draws the lengths of gaps, and converts templates to edits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit import parallel
from vqdit.inference.requests import Inputs, pack
from vqdit.modalities import Text
from vqdit.processes.categorical import MASK
from vqdit.random import per_example
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.editing import StoredEdit
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.request import Request
from vqdit.tasks.targets import CodeTarget
from vqdit.tasks.templates import (
    CANDIDATES,
    Gap,
    Layout,
    Piece,
    Prompt,
    Template,
    arrange,
    as_text,
    is_open,
    lengths_to_compare,
    pieces,
    shares,
    stored_template,
)
from vqdit.typing import Array, Float, Params

ROUNDS = 16
"""Number of network evaluations for each candidate length of a gap."""

Bounds = Callable[[Sequence[Layout], int], Float[np.ndarray, " c"]]
"""Returns a bound on -log p, in nats, of the known parts of each layout of sample i."""


def read_template(
    inputs: Inputs,
    params: Params,
    frozen: Any,
    name: str,
    spec: Template | Prompt,
    num: int,
    seed: int,
) -> StoredEdit:
    """Returns the edit that generates `num` texts from a template; see `vqdit.tasks.templates`.

    The lengths of the gaps of sample i depend on (seed, i) and on its given values.

    Args:
        inputs: inputs of the samples.
        params: parameters of the network.
        frozen: arrays of the tokenizers.
        name: name of the text.
        spec: the template or prompt.
        num: number of samples.
        seed: seed of the lengths of the gaps.

    Raises:
        ValueError: the template is invalid for the model or the requested lengths.
    """
    modality = as_text(inputs.task.modality(name))
    parts = template_parts(inputs.task, frozen, name, spec)
    bounds = functools.partial(_bounds, inputs, params, frozen, name)
    period = int(np.lcm.reduce([1, *map(len, inputs.stored.values())]))
    if modality.lengths and name in inputs.counts:
        each = [_told(name, parts, int(length)) for length in inputs.counts[name]]
        layouts = [arrange(modality, own, is_whole=True) for own in each]
    else:
        layouts = _layouts(modality, parts, bounds, num, seed, period)
    return stored_template(layouts, varies=bool(modality.lengths))


def _told(name: str, parts: Sequence[Piece], length: int) -> list[Piece]:
    """Returns the pieces with the open gap as long as the requested length of the text needs."""
    taken = sum(part.units if isinstance(part, Gap) else len(part) for part in parts)
    gaps = [number for number, part in enumerate(parts) if is_open(part)]
    left, least = length - taken, sum(number < len(parts) - 1 for number in gaps)
    if left < least or (left and not gaps):
        count = f"{'at least' if gaps else 'exactly'} {taken + least} units"
        raise ValueError(
            f"{name!r}: the template has {count}, but the requested length is {length}; change "
            "one of them"
        )
    return _filled(parts, gaps[0], left) if gaps else list(parts)


def _filled(parts: Sequence[Piece], number: int, length: int) -> list[Piece]:
    """Returns the pieces with `length` units in the gap `number`; a gap of length 0 is left out."""
    return [*parts[:number], *([Gap(length)] if length else []), *parts[number + 1 :]]


def template_parts(
    task: GenerationTask, frozen: Any, name: str, spec: Template | Prompt
) -> list[Piece]:
    """Returns the pieces of a template.

    Raises:
        ValueError: the template is invalid for the model; the message names the modality.
    """
    modality = task.modality(name)
    try:
        parts = pieces(as_text(modality), spec)
        if not isinstance(task.targets.get(name), CodeTarget):
            raise ValueError(
                "templates and prompts need a text that is generated without a tokenizer"
            )
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
    for part in parts:
        if isinstance(part, np.ndarray) and len(part) and part.dtype == np.uint8:
            pack(task, frozen, name, part.tobytes().decode())  # rejects unknown letters
    return parts


def _layouts(
    modality: Text, parts: Sequence[Piece], bounds: Bounds, num: int, seed: int, period: int
) -> list[Layout]:
    """Returns the gaps' lengths in every sample; sample i has the given item i mod `period`."""
    samples = [list(parts) for _ in range(num)]
    last, varies = len(parts) - 1, bool(modality.lengths)
    for number, part in enumerate(parts):
        if not is_open(part) or (number == last and not varies):
            continue
        least = int(number < last)
        next_gap = next((n for n in range(number + 1, last + 1) if is_open(parts[n])), last + 1)
        known: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        for i, own in enumerate(samples):
            before = (*(p.units for p in own[:number] if isinstance(p, Gap)), i % period)
            if before not in known:
                found = lengths_to_compare(own, number, modality.length, least)
                if len(found) == 1:
                    known[before] = found, np.ones(1)
                else:
                    upto = [_filled(own[:next_gap], number, int(n)) for n in found]
                    is_whole = next_gap > last
                    each = [arrange(modality, some, is_whole=is_whole) for some in upto]
                    known[before] = found, shares(found, bounds(each, i))
            lengths, p = known[before]
            u = np.random.Generator(np.random.Philox([seed, i, number])).random()
            drawn = lengths[min(np.searchsorted(np.cumsum(p), u), len(lengths) - 1)]
            own[:] = _filled(own, number, int(drawn))
    return [arrange(modality, own, is_whole=True) for own in samples]


def _bounds(
    inputs: Inputs, params: Params, frozen: Any, name: str, layouts: Sequence[Layout], sample: int
) -> Float[np.ndarray, " c"]:
    filled = [layouts[row % len(layouts)] for row in range(CANDIDATES)]  # to compile one shape
    codes = jnp.asarray(np.stack([layout.codes for layout in filled]))
    keep = jnp.asarray(np.stack([layout.keep for layout in filled]))
    varies = name in inputs.task.variable
    request = inputs.request(np.full(CANDIDATES, sample), whole=varies)._replace(branches=())
    if varies:
        ends = jnp.asarray([layout.end for layout in filled], jnp.int32)
        request = request._replace(lengths=request.lengths | {name: ends})
    run = _compiled(inputs.task, name, parallel.of_process())
    return np.asarray(run(params, frozen, request, codes, keep))[: len(layouts)]


@functools.lru_cache(maxsize=8)
def _compiled(task: DiffusionTask, name: str, mesh: jax.sharding.Mesh) -> Any:
    """Compiles the function that returns the bound of each layout, all with the same noise."""

    def run(params: Params, frozen: Any, request: Request, codes: Array, keep: Array) -> Array:
        keys = per_example(jax.random.key(0), jnp.zeros(len(keep), jnp.int32))
        x_0 = jnp.where(keep[..., None], task.modality(name).standardize(codes), MASK)
        return task.scoring_loss(params, frozen, keys, request, name, rounds=ROUNDS, x_0=x_0)

    return parallel.compile_on(run, mesh)
