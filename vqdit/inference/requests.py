"""Requests of callers: names and values are checked, values are packed, samples are batched."""

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Text
from vqdit.random import per_example
from vqdit.samplers import Branch, Sampler
from vqdit.tasks.base import Frozen
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.generation import GenerationTask
from vqdit.tasks.request import Request, blank, make_request
from vqdit.typing import Array, Key


class Inputs(NamedTuple):
    """Checked inputs of any number of samples.

    Attributes:
        task: task of the model.
        stored: given values in stored form by name; sample i takes item i mod F.
        wanted: names of the targets to generate.
        branches: branches of guidance.
    """

    task: DiffusionTask
    stored: Mapping[str, np.ndarray]
    wanted: Collection[str]
    branches: tuple[Branch, ...] = ()

    def request(self, index: np.ndarray) -> Request:
        """Returns the request of the samples with these numbers."""
        return make_request(self.task, index, self.stored, self.wanted, self.branches)

    def batches(
        self, index: np.ndarray, size: int, seed: int
    ) -> Iterator[tuple[np.ndarray, Request, Key[Array, " size"]]]:
        """Yields requests for batches of one size, so that one shape compiles.

        Args:
            index: numbers of the samples, int [n].
            size: examples in a batch; the first samples fill up the last batch.
            seed: seed of the noise.

        Yields:
            Positions of the batch's samples in `index`, int [size]; their request; their keys.
        """
        for start in range(0, len(index), size):
            rows = (start + np.arange(size)) % len(index)
            keys = per_example(jax.random.key(seed), jnp.asarray(index[rows]))
            yield rows, self.request(index[rows]), keys

    def without_default_labels(self) -> "Inputs":
        """Returns the inputs with "no value" for every condition that is not given."""
        rest = [name for name in self.task.conditions if name not in self.stored]
        none = {name: np.asarray(blank(self.task, name, 1)) for name in rest}
        return self._replace(stored={**self.stored, **none})


def wanted_targets(
    task: GenerationTask, given: Iterable[str], want: Collection[str] | None
) -> list[str]:
    """Returns the names of the targets to generate; None wants all that are not given."""
    given = set(given)
    return [n for n in task.targets if (n in want if want is not None else n not in given)]


def require_names(argument: str, value: Any) -> Mapping[str, Any]:
    """Returns values by name, {} for None; raises ValueError if an argument is no map."""
    if not isinstance(value, Mapping | None):
        raise ValueError(f"{argument} takes values by name, as in {{'image': ...}}, got {value!r}")
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
            raise ValueError(f"{name!r} is given and wanted; leave it out of one of them")
    if not wanted_targets(task, given, want):
        known = ", ".join(task.conditions)
        raise ValueError(
            f"nothing is left to generate: this model generates {', '.join(task.targets)}, "
            f"which is given{f', from {known}' if known else ''}"
        )


def check_memory(task: GenerationTask, names: Collection[str], num: int) -> None:
    """Raises ValueError unless the memory of this machine holds `num` samples."""
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
            f"{num} samples of {shown} take {num * each / 2**30:.3g} GiB, and this machine has "
            f"{memory / 2**30:.3g} GiB of memory; generate at most {most} at a time, with another "
            "seed each time"
        )


def check_samplers(task: GenerationTask, samplers: Mapping[str, Sampler]) -> None:
    """Raises ValueError unless every sampler is for a target and runs its process."""
    for name, sampler in samplers.items():
        if name not in task.targets:
            known = ", ".join(task.targets)
            raise ValueError(f"a sampler for {name!r}, but this model generates {known}")
        if not isinstance(sampler, Sampler):
            raise ValueError(f"samplers are such as Euler(steps=16), got {sampler!r} for {name!r}")
        sampler.check(task.targets[name].process)


def pack(task: GenerationTask, frozen: Frozen, name: str, values: Any) -> np.ndarray:
    """Returns the stored form of values of a modality, one or a stack.

    Raises:
        ValueError: the modality is unknown, the values are not of this modality, or a text has
            bytes that do not occur in the training data.
    """
    modality = task.modality(name)
    try:
        stored = modality.pack(values)
    except ValueError as error:
        raise ValueError(f"{name!r} {error}") from error
    if name in task.targets and modality.vocabulary and (stored < 0).any():
        raise ValueError(
            f"{name!r} -1 means no value, which only a condition can have; leave it out instead"
        )
    occurs = frozen.get(name, {}).get("occurs")
    if occurs is not None and stored.dtype == np.uint8:
        occurs = np.asarray(occurs)
        letters = dict.fromkeys("".join(modality.unpack(stored)))
        strange = "".join(c for c in letters if not occurs[list(c.encode())].all())
        if strange:
            known = bytes(byte for byte in np.flatnonzero(occurs) if byte).decode("latin-1")
            raise ValueError(
                f"{name!r} holds {strange!r}, which does not occur in the training data; use "
                f"these characters: {known!r}"
            )
    return stored
