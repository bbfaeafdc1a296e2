"""Requests of users: checks names and values, packs values, and makes batches of samples."""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Text
from vqdit.ragged import cut, is_ragged, lengths, padded
from vqdit.random import per_example
from vqdit.samplers import Branch, Sampler
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.request import Request, blank, make_request
from vqdit.typing import Array, Key

ROOMS = 8
"""Number of equally spaced padded lengths of modalities of variable length."""


class Inputs(NamedTuple):
    """Checked inputs of any number of samples.

    Attributes:
        task: task of the model.
        stored: given values in stored form by name; of F items of a name, sample i has item i mod
            F.
        wanted: names of the targets to generate.
        branches: branches of guidance.
        counts: number of tokens of every sample, int [n], keyed by name of a wanted target of
            variable length; the lengths of other targets are unknown.
    """

    task: DiffusionTask
    stored: Mapping[str, np.ndarray]
    wanted: Collection[str]
    branches: tuple[Branch, ...] = ()
    counts: Mapping[str, np.ndarray] = MappingProxyType({})

    def request(self, index: np.ndarray, *, whole: bool = False) -> Request:
        """Returns the request of the samples with these indices.

        Args:
            index: indices of the samples, int [b].
            whole: whether modalities of variable length are padded to their largest possible
                length; otherwise they are padded to one of `ROOMS` lengths.
        """
        positions = {
            n: int(lengths(rows).max()) for n, rows in self.stored.items() if is_ragged(rows)
        }
        for name in self.task.variable:
            if name not in self.stored:
                per_token = self.task.space(name).positions_per_token
                tokens = self.counts[name][index].max() if name in self.counts else 1
                positions[name] = max(1, int(tokens)) * per_token
        room = {} if whole else {n: _room(self.task, n, most) for n, most in positions.items()}
        parts = self.task, index, self.stored, self.wanted, self.branches
        request = make_request(*parts, room=room)
        told = {name: jnp.asarray(counts[index], jnp.int32) for name, counts in self.counts.items()}
        return request._replace(lengths=request.lengths | told)

    def batches(
        self, index: np.ndarray, size: int, seed: int, *, whole: bool = False
    ) -> Iterator[tuple[np.ndarray, Request, Key[Array, " size"]]]:
        """Yields requests for batches of one size, so that only one shape is compiled.

        Args:
            index: indices of the samples, int [n].
            size: number of samples in a batch; the first samples pad the last batch.
            seed: seed of the noise.
            whole: see `request`.

        Yields:
            Positions of the batch's samples in `index`, int [size]; the request; the random keys.
        """
        for start in range(0, len(index), size):
            rows = (start + np.arange(size)) % len(index)
            keys = per_example(jax.random.key(seed), jnp.asarray(index[rows]))
            yield rows, self.request(index[rows], whole=whole), keys

    def cut(self, name: str, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns stored values of samples `rows` without padding; ragged if lengths vary."""
        if not self.task.modality(name).lengths:
            return values
        if name in self.stored:
            return self.stored[name][rows % len(self.stored[name])]
        return cut(values, self.counts[name][rows] * self.task.space(name).positions_per_token)

    def without_default_labels(self) -> "Inputs":
        """Returns the inputs with "no value" for every condition that is not given."""
        conditions = self.task.conditions
        rest = [n for n in conditions if n not in self.stored and not self.task.modality(n).lengths]
        none = {name: np.asarray(blank(self.task, name, 1)) for name in rest}
        return self._replace(stored={**self.stored, **none})


def _room(task: GenerationTask, name: str, positions: int) -> int:
    """Returns the padded length of examples with at most `positions` stored positions."""
    longest = task.modality(name).shape[0]
    step = max(1, longest // ROOMS)
    if name in task.variable:  # whole tokens
        per_token = task.space(name).positions_per_token
        step = -(-step // per_token) * per_token
    return min(-(-max(positions, 1) // step) * step, longest)


def with_candidates(
    task: GenerationTask, request: Request, name: str, rows: np.ndarray, longest: int
) -> Request:
    """Returns the request with the values to be scored as one of its modalities.

    Args:
        task: the task of the model.
        request: the request.
        name: name of the scored target.
        rows: stored values, [b, ...] or ragged.
        longest: largest length of all candidates, if their length is variable.
    """
    if not is_ragged(rows):
        return request._replace(given=request.given | {name: jnp.asarray(rows)})
    values, mask = map(jnp.asarray, padded(rows, _room(task, name, longest)))
    masks = request.mask | {name: mask}
    return request._replace(given=request.given | {name: values}, mask=masks)


def wanted_targets(
    task: GenerationTask, given: Iterable[str], want: Collection[str] | None
) -> list[str]:
    """Returns the names of the targets to generate; `want` None means all that are not given."""
    given = set(given)
    return [n for n in task.targets if (n in want if want is not None else n not in given)]


def require_names(argument: str, value: Any) -> Mapping[str, Any]:
    """Returns values by name, {} for None; raises ValueError if the argument is not a map."""
    if not isinstance(value, Mapping | None):
        raise ValueError(
            f"{argument} must be a map from names to values, as in {{'image': ...}}, got {value!r}"
        )
    return value or {}


def check_names(task: GenerationTask, given: Collection[str], want: Collection[str] | None) -> None:
    """Raises ValueError unless `want` can be generated from `given`."""
    for name in (*given, *(want or ())):
        task.modality(name)
    for name in want or ():
        if name not in task.targets:
            raise ValueError(
                f"{name!r} can only be given to this model; it generates {', '.join(task.targets)}"
            )
        if name in given:
            raise ValueError(
                f"{name!r} is both in `given` and in `want`; remove it from one of them"
            )
    if not wanted_targets(task, given, want):
        known = ", ".join(task.conditions)
        raise ValueError(
            "nothing is left to generate: want is empty, or all targets of this model "
            f"({', '.join(task.targets)}) are given"
            f"{f'; its conditions are {known}' if known else ''}"
        )


def check_edited(wanted: Collection[str], edited: Iterable[str]) -> None:
    """Raises ValueError unless all edited targets are wanted."""
    for name in edited:
        if name not in wanted:
            raise ValueError(
                f"the request edits {name!r}, but does not generate it; edit one of: "
                f"{', '.join(wanted)}"
            )


def check_memory(task: GenerationTask, names: Collection[str], num: int) -> None:
    """Raises ValueError if the memory of this machine is too small for `num` samples."""
    shown = ", ".join(sorted(names))
    modalities = [task.modality(name) for name in names]
    # Texts become str, whose characters take 4 bytes; each sample has a number, too.
    each = 16 + sum(
        math.prod(m.shape) * m.dtype.itemsize * (5 if isinstance(m, Text) else 1)
        for m in modalities
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    most = min(memory // each, 2**31 - 1)
    if num > most:
        raise ValueError(
            f"{num} samples of {shown} take {num * each / 2**30:.3g} GiB, but this machine has "
            f"{memory / 2**30:.3g} GiB of memory; generate at most {most} at a time, each time "
            "with another seed"
        )


def told_lengths(
    task: GenerationTask, wanted: Collection[str], told: Mapping[str, Any] | None, num: int
) -> dict[str, np.ndarray]:
    """Converts requested lengths to numbers of tokens.

    Returns:
        The numbers of tokens of the samples, int32 [num], by name of the target.

    Raises:
        ValueError: a name is not a wanted target of variable length, or a length is out of range.
    """
    counts = {}
    for name, given in require_names("lengths", told).items():
        if name not in task.variable or name not in wanted:
            able = ", ".join(n for n in task.variable if n in wanted) or "none"
            raise ValueError(
                f"a length is given for {name!r}, which is not a wanted target of variable "
                f"length; the possible names are: {able}"
            )
        modality, space = task.modality(name), task.space(name)
        low, high = modality.lengths or (0, 0)
        positions = []
        for length in np.atleast_1d(np.asarray(given, np.float64)):
            count = modality.positions(float(length)) if np.isfinite(length) else -1
            if not low <= count <= high:
                raise ValueError(
                    f"the length of {name!r} must be from {modality.shown_length(low)} to "
                    f"{modality.shown_length(high)}, got {length:g}"
                )
            positions.append(count)
        each = -(-np.asarray(positions) // space.positions_per_token)
        counts[name] = np.resize(each, num).astype(np.int32)
    return counts


def check_samplers(task: GenerationTask, samplers: Mapping[str, Sampler]) -> None:
    """Raises ValueError unless every sampler is for a target and supports the target's process."""
    for name, sampler in samplers.items():
        if name not in task.targets:
            known = ", ".join(task.targets)
            raise ValueError(f"a sampler is given for {name!r}, but this model generates {known}")
        if not isinstance(sampler, Sampler):
            raise ValueError(
                f"a sampler must be an object such as Euler(steps=16), got {sampler!r} for {name!r}"
            )
        sampler.check(task.targets[name].process)


def pack(task: GenerationTask, frozen: Frozen, name: str, values: Any) -> np.ndarray:
    """Returns the stored form of one value, or a stack of values, of a modality.

    Raises:
        ValueError: the modality is unknown, the values are not of this modality, or a text has
            bytes that do not occur in the training data.
    """
    modality = task.modality(name)
    try:
        stored = modality.pack(values)
    except ValueError as error:
        raise ValueError(f"{name!r}: {error}") from error
    flat = np.concatenate(list(stored)) if is_ragged(stored) else stored
    if name in task.targets and modality.vocabulary and (flat < 0).any():
        raise ValueError(
            f"{name!r} has -1, which means no value and is allowed only for conditions; leave "
            f"{name!r} out"
        )
    occurs = frozen.get(name, {}).get("occurs")
    if occurs is not None and flat.dtype == np.uint8:
        occurs = np.asarray(occurs)
        letters = dict.fromkeys("".join(modality.unpack(stored)))
        strange = "".join(c for c in letters if not occurs[list(c.encode())].all())
        if strange:
            known = "".join(chr(byte) for byte in np.flatnonzero(occurs[:128]) if byte)
            more = " and those outside ASCII that occur there" if occurs[128:].any() else ""
            raise ValueError(
                f"{name!r} contains {strange!r}, which does not occur in the training data; use "
                f"these characters: {known!r}{more}"
            )
    return stored
