"""`vqdit.load`: a trained run as a Python object, arrays in and arrays out."""

import functools
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
        """Returns stored examples of codes [b, *grid, q]."""
        return self._decode(self.params, self.stats, jnp.asarray(codes, jnp.int32))


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
        samplers: Named[Sampler] | None = None,
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
            samplers: None takes the config's.
            seed: of the noise.
            batch_size: samples at a time; the last batch is filled up, so one shape compiles.

        Returns:
            One array per target and per condition, of `num` items.

        Raises:
            ValueError: a name or shape that is given is unknown to the model.
        """
        if num < 1:
            raise ValueError(f"sample needs num >= 1, got {num}")
        given = {name: self._stacked(name, value) for name, value in (given or {}).items()}
        scale = self.task.guidance if guidance is None else guidance
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

    def _stacked(self, name: str, value: Any) -> np.ndarray:
        shape = self.shape(name)
        array = np.asarray(value)
        array = array[None] if array.shape == shape else array
        if array.shape[1:] != shape or array.ndim != len(shape) + 1:
            raise ValueError(f"{name!r} must have the shape {shape} or [n, ...], got {array.shape}")
        if name in self.task.conditions:
            array = array.astype(np.int32)
            classes = self.task.conditions[name].modality.classes
            wrong = array[(array < -1) | (array >= classes)]
            if len(wrong):
                raise ValueError(f"{name} {wrong[0]} is out of range; 0 to {classes - 1}, or -1")
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
    def _compiled(self, samplers: Named[Sampler] | None, is_guided: bool) -> Any:
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
