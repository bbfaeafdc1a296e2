"""Training a DiT over the tokens of frozen tokenizers, and generating from it.

Every modality has its own time t (0: known, 1: unknown), process and sampler; labels condition
by a one-token modality that is dropped (t = 1) in a share of the examples, which trains the
unconditional branch that guidance needs. Joint, conditional and unconditional generation are
calls of one network.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.metrics import Mean, Metrics
from vqdit.modalities import Label
from vqdit.modalities.image import grid as tile
from vqdit.modalities.image import save
from vqdit.models.dit import DiT, Tokens
from vqdit.processes import Masked, Process, TimeLaw, Uniform
from vqdit.processes.base import X
from vqdit.random import per_example, stream, streams
from vqdit.samplers import Sampler, Unmasking, generate, guided, without
from vqdit.samplers.base import Predict, shared_steps
from vqdit.tasks.base import Aux, Frozen, Resolve, Task
from vqdit.tasks.token_space import TokenSpace
from vqdit.tasks.tokenizer import TokenizerTask, require
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named, Params, Stats

PREVIEW_ROWS = 8


class Target(Component):
    """A modality that is generated.

    Attributes:
        tokenizer: name of an earlier experiment of the same config, or a workdir.
        process: diffusion over the codes (discrete) or over z_q (continuous).
        time: law of t in training.
        sampler: how it is generated.
        weight: of its loss.
    """

    tokenizer: str = "tokenizer"
    process: Process = Masked()
    time: TimeLaw = Uniform()
    sampler: Sampler = Unmasking()
    weight: float = 1.0

    def __post_init__(self) -> None:
        self.sampler.check(self.process)


class Condition(Component):
    """A label that guides the generation.

    Attributes:
        modality: the classes.
        drop: share of the training examples that do not see the label.
    """

    modality: Label = Label()
    drop: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop <= 1.0:
            raise ValueError(f"Condition needs drop in [0, 1], got {self.drop}")


class DiffusionTask(Task):
    """A DiT over the tokens of one or more modalities.

    Attributes:
        targets: the modalities to generate, by their names in the data.
        conditions: labels, by their names in the data.
        model: the network.
        guidance: default scale of classifier-free guidance in sampling; 1 is none.
        tokenizers: the tokenizers that `load` found; empty in a config.
    """

    targets: Named[Target] = Named(image=Target())
    conditions: Named[Condition] = Named()
    model: DiT = DiT()
    guidance: float = 1.0
    tokenizers: Named[TokenizerTask] = Named()

    def __post_init__(self) -> None:
        shared_steps(Named({name: target.sampler for name, target in self.targets.items()}))

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[DiffusionTask, Frozen]":
        found = {target.tokenizer: resolve(target.tokenizer) for target in self.targets.values()}
        task = self.connect(lambda name: found[name].task)
        frozen = {
            name: task.space(name).freeze(found[target.tokenizer], batches(), name)
            for name, target in self.targets.items()
        }
        return task, frozen

    def connect(self, find: Callable[[str], Task]) -> "DiffusionTask":
        tokenizers = {}
        for name, target in self.targets.items():
            found = find(target.tokenizer)
            if not isinstance(found, TokenizerTask):
                raise ValueError(
                    f"{target.tokenizer!r}, the tokenizer of {name!r}, is a "
                    f"{type(found).__name__}; name the workdir of a tokenizer"
                )
            tokenizers[name] = found
        task = dataclasses.replace(self, tokenizers=Named(tokenizers))
        task.model.check(task.inputs)
        return task

    def space(self, name: str) -> TokenSpace:
        """Returns what the network sees of a target."""
        return TokenSpace(tokenizer=self.tokenizers[name], process=self.targets[name].process)

    def frozen_like(self) -> Frozen:
        return {name: self.space(name).frozen_like() for name in self.targets}

    @property
    def inputs(self) -> Named[Tokens]:
        """How every modality enters the network."""
        conditions = {
            name: Tokens(route="adaln", grid=(1,), codes=condition.modality.classes)
            for name, condition in self.conditions.items()
        }
        return Named({**conditions, **{name: self.space(name).tokens for name in self.targets}})

    def check(self, features: Named[Feature]) -> None:
        for name, condition in self.conditions.items():
            require(features, name, condition.modality.shape)
            classes = features[name].classes
            if classes and classes != condition.modality.classes:
                raise ValueError(
                    f"{name!r} has {classes} classes in the data and "
                    f"{condition.modality.classes} in the config; they must be the same"
                )
        for name, tokenizer in self.tokenizers.items():
            require(features, name, tokenizer.modality.shape)

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del frozen, batch
        return self.model.init(stream(key, "model"), self.inputs), {}

    def blank(self) -> tuple[Params, Stats]:
        return self.model.init(jax.random.key(0), self.inputs), {}

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        del stats, step
        metrics, loss = {}, jnp.zeros(())
        for name, (losses, valid) in self._losses(params, frozen, batch, key).items():
            mean = jnp.sum(jnp.where(valid, losses, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
            loss = loss + self.targets[name].weight * mean
            metrics[f"loss_{name}"] = mean
        return loss, Aux(Named(metrics), None)

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del stats
        losses = self._losses(params, frozen, batch, key)
        return Named({f"loss_{name}": Mean.of(*pair) for name, pair in losses.items()})

    def _losses(
        self, params: Params, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> dict[str, tuple[Float[Array, " b"], Bool[Array, " b"]]]:
        """Returns, per target, the mean loss over positions of each example, and which count."""
        x, t, states = {}, {}, {}
        size = batch.index.shape[0]
        for name, target in self.targets.items():
            x_0 = jax.lax.stop_gradient(self.space(name).encode(frozen[name], batch.data[name]))
            time = target.time.sample(stream(key, f"{name}/time"), jnp.arange(size), size)
            present = batch.present[name]
            keys = per_example(stream(key, f"{name}/noise"), batch.index)
            x_t, noise = target.process.noise(keys, x_0, time)
            # A missing modality is wholly unknown: noise at t = 1, and it has no loss.
            unknown_keys = per_example(stream(key, f"{name}/unknown"), batch.index)
            unknown = target.process.prior(unknown_keys, x_0.shape[1:])
            x[name] = jnp.where(present[:, None, None], x_t, unknown)
            t[name] = jnp.where(present[:, None], time, 1.0)
            states[name] = (x_0, x[name], noise, t[name])
        for name, condition in self.conditions.items():
            label = condition.modality.standardize(batch.data[name])
            keys = per_example(stream(key, f"{name}/drop"), batch.index)
            dropped = jax.vmap(jax.random.uniform)(keys) < condition.drop
            dropped = dropped | ~batch.present[name]
            x[name] = jnp.where(dropped[:, None, None], -1, label)
            t[name] = dropped.astype(jnp.float32)[:, None]
        predictions = self.predict(params)(Named(x), Named(t))
        return {
            name: (
                jnp.mean(target.process.loss(predictions[name], *states[name]), axis=-1),
                batch.valid & batch.present[name],
            )
            for name, target in self.targets.items()
        }

    def predict(self, params: Params) -> Predict:
        """Returns the network with its parameters bound."""

        def predict(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
            seen = {
                name: target.process.network_input(x[name], t[name])
                for name, target in self.targets.items()
            }
            x = x | {name: pair[0] for name, pair in seen.items()}
            t = t | {name: pair[1] for name, pair in seen.items()}
            return self.model.apply(params, self.inputs, x, t)

        return predict

    def sample(
        self,
        params: Params,
        frozen: Frozen,
        keys: Key[Array, " b"],
        given: Named[Array],
        *,
        guidance: float | Float[Array, ""] | None,
        samplers: Named[Sampler] | None = None,
    ) -> Named[Array]:
        """Generates every target that is not given.

        Args:
            params: of the network.
            frozen: the tokenizers.
            keys: one per sample; a sample depends on its own key alone.
            given: stored arrays of what is known; a label of -1 is no label. Conditions that are
                not given are unknown.
            guidance: classifier-free guidance scale; None runs without guidance, in half the time.
            samplers: of the targets; default: the config's.

        Returns:
            All targets in stored form, the given ones as the tokenizer sees them.
        """
        x, times = {}, {}
        samplers = samplers or Named({name: t.sampler for name, t in self.targets.items()})
        samplers = Named({name: sampler for name, sampler in samplers.items() if name not in given})
        falling = jnp.linspace(1.0, 0.0, shared_steps(samplers) + 1)
        for name, target in self.targets.items():
            if name in given:
                x[name] = self.space(name).encode(frozen[name], given[name])
            else:
                noise_keys = streams(keys, f"{name}/prior")
                x[name] = target.process.prior(noise_keys, self.space(name).shape)
            times[name] = jnp.zeros_like(falling) if name in given else falling
        unknown = {}
        for name, condition in self.conditions.items():
            label = given.get(name, jnp.full(keys.shape[0], -1, jnp.int32))
            x[name] = condition.modality.standardize(label)
            times[name] = jnp.zeros_like(falling)
            unknown[name] = jnp.full_like(x[name], -1)
        predict = self.predict(params)
        if guidance is not None and unknown:
            predict = guided(predict, without(predict, Named(unknown)), guidance)
        processes = Named({name: target.process for name, target in self.targets.items()})
        x_0 = generate(keys, predict, samplers, processes, Named(x), Named(times))
        x = Named(x) | x_0
        return Named(
            {name: self.space(name).decode(frozen[name], x[name]) for name in self.targets}
        )

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del stats, batch
        columns = self._preview_columns()
        index = jnp.arange(PREVIEW_ROWS * columns)
        given = Named(
            {
                name: index % columns % condition.modality.classes
                for name, condition in self.conditions.items()
            }
        )
        guidance = None if self.guidance == 1.0 else self.guidance
        return self.sample(params, frozen, per_example(key, index), given, guidance=guidance)

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        file = path.with_suffix(".png")
        save(file, np.concatenate([tile(x, self._preview_columns()) for x in preview.values()]))
        return file

    def _preview_columns(self) -> int:
        classes = [condition.modality.classes for condition in self.conditions.values()]
        return min(classes[0], 10) if classes else PREVIEW_ROWS
