"""`vqdit.load`: a trained run as a Python object, arrays in and arrays out."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.random import per_example
from vqdit.samplers import Sampler
from vqdit.tasks.base import Trained
from vqdit.tasks.diffusion import DiffusionTask
from vqdit.tasks.tokenizer import TokenizerTask
from vqdit.train import workdir
from vqdit.train.workdir import Restored
from vqdit.typing import Array, Named

BATCH = 64
"""Samples that are generated at a time, unless the caller says otherwise."""


class Tokenizer:
    """A trained tokenizer. Its methods are jitted; each new batch shape compiles once.

    Attributes:
        task: what it is.
        params: its parameters.
        stats: its codebook and counts.
        step: training steps behind it.
    """

    def __init__(self, restored: Restored) -> None:
        if not isinstance(restored.task, TokenizerTask):
            raise ValueError(f"not a tokenizer but a {type(restored.task).__name__}")
        self.task: TokenizerTask = restored.task
        self.params, self.stats, self.step = restored.params, restored.stats, restored.step
        self._encode = jax.jit(self.task.encode)
        self._decode = jax.jit(self.task.decode)

    def encode(self, x: Any) -> Array:
        """Returns int32 codes [b, *grid, q] of stored examples, such as uint8 images [b, h, w, c].

        Raises:
            ValueError: the shape is not that of the modality.
        """
        x = np.asarray(x)
        if x.shape[1:] != self.task.modality.shape or x.dtype != np.uint8:
            raise ValueError(
                f"encode takes uint8 [b, {', '.join(map(str, self.task.modality.shape))}], "
                f"got {x.dtype} {list(x.shape)}"
            )
        return self._encode(self.params, self.stats, x)

    def decode(self, codes: Any) -> Array:
        """Returns stored examples of codes [b, *grid, q].

        Raises:
            ValueError: the shape is not that of the codes, or a code is not in the codebook.
        """
        codes = np.asarray(codes)
        sizes = self.task.quantizer.codebook_sizes
        shape = (*self.task.grid, len(sizes))
        if codes.shape[1:] != shape or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(
                f"decode takes integers [b, {', '.join(map(str, shape))}], "
                f"got {codes.dtype} {list(codes.shape)}"
            )
        wrong = codes[(codes < -1) | (codes >= np.asarray(sizes))]
        if len(wrong):
            raise ValueError(f"code {wrong[0]} is out of range; 0 to {min(sizes) - 1}, or -1")
        return self._decode(self.params, self.stats, codes.astype(np.int32))


class Generator:
    """A trained DiT with its tokenizers.

    Attributes:
        task: what it is.
        params: its averaged parameters.
        frozen: its tokenizers' arrays.
        step: training steps behind it.
    """

    def __init__(self, restored: Restored) -> None:
        if not isinstance(restored.task, DiffusionTask):
            raise ValueError(f"not a generator but a {type(restored.task).__name__}")
        self.task: DiffusionTask = restored.task
        self.params, self.frozen, self.step = restored.params, restored.frozen, restored.step

    def sample(
        self,
        num: int,
        *,
        given: dict[str, Any] | None = None,
        guidance: float | None = None,
        samplers: Mapping[str, Sampler] | None = None,
        seed: int = 0,
        batch_size: int = BATCH,
    ) -> dict[str, np.ndarray]:
        """Generates samples; sample i depends on (seed, i) and what is given, on nothing else.

        Args:
            num: how many.
            given: stored arrays of what is known, by name: one for all samples, or a stack whose
                item i mod F sample i uses. A label of -1 is no label. Labels that are not given
                go through the classes in turn.
            guidance: scale of classifier-free guidance; None takes the config's.
            samplers: by name of the target; the config's for those not named.
            seed: of the noise.
            batch_size: samples at a time; the last batch is filled up, so one shape compiles.

        Returns:
            One array per target and per condition, of `num` items.

        Raises:
            ValueError: a number is out of range, or `check` refuses what is asked for.
        """
        if num < 1 or batch_size < 1:
            raise ValueError(f"sample needs num and batch_size >= 1, got {num=} {batch_size=}")
        given = {name: self._stacked(name, value) for name, value in (given or {}).items()}
        scale = self.task.guidance if guidance is None else guidance
        self.check(given, samplers or {}, guidance)
        own = {name: target.sampler for name, target in self.task.targets.items()}
        samplers = Named({**own, **(samplers or {})})
        size = min(batch_size, num)
        run = self._compiled(samplers, scale != 1.0)
        parts = []
        for start in range(0, num, size):
            index = start + np.arange(size)
            rows = {name: value[index % len(value)] for name, value in given.items()}
            for name, condition in self.task.conditions.items():
                rows.setdefault(name, (index % condition.modality.classes).astype(np.int32))
            keys = per_example(jax.random.key(seed), jnp.asarray(index))
            out = run(self.params, self.frozen, keys, Named(rows), jnp.float32(scale))
            labels = {name: rows[name] for name in self.task.conditions}
            parts.append({**{name: np.asarray(value) for name, value in out.items()}, **labels})
        return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}

    def check(
        self, given: Mapping[str, Any], samplers: Mapping[str, Sampler], guidance: float | None
    ) -> None:
        """Raises ValueError if the model cannot sample so; see `sample`."""
        task = self.task
        for name, sampler in samplers.items():
            if name not in task.targets:
                known = ", ".join(task.targets)
                raise ValueError(f"a sampler for {name!r}, but this model generates {known}")
            sampler.check(task.targets[name].process)
        if guidance not in (None, 1.0) and not task.conditions:
            raise ValueError(
                f"guidance {guidance} needs a condition, and this model has none; leave it at 1"
            )
        if set(task.targets) <= set(given):
            known = ", ".join(task.conditions)
            raise ValueError(
                f"nothing is left to generate: this model generates {', '.join(task.targets)}, "
                f"which is given{f', from {known}' if known else ''}"
            )

    def _stacked(self, name: str, value: Any) -> np.ndarray:
        shape, array = self.shape(name), np.asarray(value)
        array = array[None] if array.shape == shape else array
        if array.shape[1:] != shape or array.ndim != len(shape) + 1 or not len(array):
            raise ValueError(f"{name!r} must have the shape {shape} or [n, ...], got {array.shape}")
        kind = np.integer if name in self.task.conditions else np.uint8
        if not np.issubdtype(array.dtype, kind):
            raise ValueError(f"{name!r} must be {kind.__name__}, got {array.dtype}")
        if name in self.task.conditions:
            classes = self.task.conditions[name].modality.classes
            wrong = array[(array < -1) | (array >= classes)]
            if len(wrong):
                raise ValueError(f"{name} {wrong[0]} is out of range; 0 to {classes - 1}, or -1")
            array = array.astype(np.int32)
        return array

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the stored shape of a modality.

        Raises:
            ValueError: the model does not have it; names those that it has.
        """
        return self.modality(name).shape

    def modality(self, name: str) -> Any:
        """Returns a modality of the model by name; see `shape`."""
        if name in self.task.conditions:
            return self.task.conditions[name].modality
        if name in self.task.tokenizers:
            return self.task.tokenizers[name].modality
        known = ", ".join([*self.task.tokenizers, *self.task.conditions])
        raise ValueError(f"unknown modality {name!r}; this model knows: {known}")

    @functools.lru_cache(maxsize=8)  # noqa: B019 (a generator lives as long as the program)
    def _compiled(self, samplers: Named[Sampler], is_guided: bool) -> Any:
        def run(params: Any, frozen: Any, keys: Any, given: Any, scale: Any) -> Any:
            guidance = scale if is_guided else None
            return self.task.sample(
                params, frozen, keys, given, guidance=guidance, samplers=samplers
            )

        return jax.jit(run)


def load(path: str | Path) -> Tokenizer | Generator:
    """Loads a trained run.

    Args:
        path: a workdir, or the folder of a config with several experiments: its last one.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint yet.
    """
    restored = workdir.restore(Path(path))
    return Tokenizer(restored) if isinstance(restored.task, TokenizerTask) else Generator(restored)


def resolver(siblings: dict[str, Path]) -> Any:
    """Returns what finds trained tasks by the name of an earlier experiment, or by path."""

    def resolve(name: str) -> Trained:
        folder = siblings.get(name, Path(name))
        try:
            restored = workdir.restore(folder)
        except FileNotFoundError as error:
            known = f"; earlier experiments here: {', '.join(siblings)}" if siblings else ""
            raise FileNotFoundError(f"cannot find {name!r}: {error}{known}") from error
        return Trained(restored.task, restored.params, restored.stats)

    return resolve
