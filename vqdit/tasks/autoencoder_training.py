"""Training of autoencoders.

y = D(b(E(x))),        L = |x - y|  +  losses of the bottleneck b  +  perceptual losses
+  adversarial loss.
"""

import dataclasses
import functools
from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vqdit.data.batch import Batch
from vqdit.metrics import Mean, Metrics
from vqdit.modalities.drawing import save_png, side_by_side
from vqdit.models.inflation import can_inflate, inflated
from vqdit.optim import Optimizer
from vqdit.ragged import cut
from vqdit.random import stream
from vqdit.tasks.autoencoder import Mask
from vqdit.tasks.base import Aux, Frozen, Load, Task, Trees
from vqdit.tasks.reconstruction import ReconstructionTask
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats

T = TypeVar("T", bound="AutoencoderTrainingTask")
DATA, TOKENS = "data", "tokens"
"""Names of the means over values of the data and over tokens, of which the loss consists."""
SIDES = ("encoder", "decoder")
TRAINING_ONLY = ("discriminator", "distillation")
"""Names of parameters that only training needs."""


class AutoencoderTrainingTask(ReconstructionTask):
    """An autoencoder and its training."""

    @property
    def without_training(self: T) -> T:
        return dataclasses.replace(self, perceptual=(), adversary=None, balance=None)

    @property
    def _is_nested(self) -> bool:
        """Whether the task has statistics besides those of the bottleneck."""
        return self.adversary is not None or self.balance is not None

    def bottleneck_stats(self, stats: Stats) -> Stats:
        return stats["bottleneck"] if self._is_nested else stats

    def for_inference(self: T, params: Params, stats: Stats) -> tuple[T, Params, Stats]:
        return self.without_training, _for_inference(params), self.bottleneck_stats(stats)

    def warm_start(self, source: Task, params: Params, stats: Stats, load: Load) -> Trees:
        """Starts from a run that may have other losses; losses that the run lacks are initialized.

        An autoencoder of clips may start from an autoencoder of images.
        """
        mine, theirs = self.trained_losses, getattr(source, "trained_losses", {})
        if isinstance(source, AutoencoderTrainingTask) and can_inflate(self.model, source.model):
            load, theirs = functools.partial(self._load_images, source, params, load), {}
        shared = {name: params[name] for name in params if name not in mine}
        shared |= {name: params[name] for name in mine if mine[name] == theirs.get(name)}
        nested = getattr(source, "_is_nested", False)
        is_balanced = getattr(source, "balance", None) is not None
        is_like = nested == self._is_nested and set(mine) == set(theirs)
        if self.balance is not None:
            names = getattr(source, "loss_names", ())
            is_like = is_like and is_balanced and self.loss_names == names
        if is_like and len(shared) == len(params):
            return load(params, stats)
        bottleneck = self.bottleneck_stats(stats)
        found, loaded = load(shared, {"bottleneck": bottleneck} if nested else bottleneck)
        loaded = loaded["bottleneck"] if nested else loaded
        return {**params, **found}, {**stats, "bottleneck": loaded} if self._is_nested else loaded

    def _load_images(
        self,
        source: "AutoencoderTrainingTask",
        fresh: Params,
        load: Load,
        params: Params,
        stats: Stats,
    ) -> Trees:
        """Loads a run on images, and returns its arrays for an autoencoder of clips."""
        images = jax.eval_shape(source.blank)[0]
        found, stats = load({**params, **{side: images[side] for side in SIDES}}, stats)
        sides = {side: fresh[side] for side in SIDES}
        taken = {side: found[side] for side in SIDES}
        mine = inflated(self.model, source.model, sides, taken)
        placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), mine, sides)
        return {**found, **placed}, stats

    @property
    def trained_losses(self) -> dict[str, Any]:
        """The losses that have parameters, keyed by the name of their parameters."""
        return {} if self.adversary is None else {"discriminator": self.adversary.discriminator}

    def further_losses(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        x: Float[Array, "b *size c"],
        update: Any,
    ) -> dict[str, Float[Array, ""]]:
        """Returns unweighted losses of the bottleneck's tokens that need the data; default: none.

        Args:
            params: parameters.
            stats: statistics of the bottleneck.
            frozen: frozen arrays.
            x: data.
            update: `BottleneckOutput.update`.
        """
        del params, stats, frozen, x, update
        return {}

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del frozen
        return self._init(key, batch.data[self.name], batch.mask.get(self.name))

    def blank(self) -> tuple[Params, Stats]:
        _ = self.grid  # raises ValueError if the model does not fit the sizes of the modality
        return self._init(
            jax.random.key(0), jnp.zeros((1, *self.modality.shape), self.modality.dtype)
        )

    def _init(self, key: Key[Array, ""], raw: Array, mask: Mask = None) -> tuple[Params, Stats]:
        x = self.input(raw)
        params = self.model.init(stream(key, "model"), x, self.dim, self.width)
        if mask is None and self.modality.lengths:
            mask = jnp.ones(raw.shape[:2], bool)
        params, stats = self.start(key, params, x, mask)
        stats = {"bottleneck": stats} if self._is_nested else stats
        if self.balance is not None:
            stats = {**stats, "balance": self.balance.init(self.loss_names)}
        if self.adversary is None:
            return params, stats
        discriminator, averages = self.adversary.init(stream(key, "discriminator"), x)
        return {**params, "discriminator": discriminator}, {**stats, "adversary": averages}

    def optimizer(self, optimizer: Optimizer, steps: int) -> optax.GradientTransformation:
        if self.adversary is None:
            return optimizer.build(steps)
        players: dict[Hashable, optax.GradientTransformation] = {
            "autoencoder": optimizer.build(steps),
            "discriminator": self.adversary.build(steps),
        }

        def label(params: Params) -> dict[str, str]:
            return {name: name if name in players else "autoencoder" for name in params}

        return optax.partition(players, label)

    def loss(
        self,
        params: Params,
        stats: Stats,
        frozen: Frozen,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Aux]:
        x = self.input(batch.data[self.name])
        valid, mask = self.real(batch)
        h = self.model.encode(params, x, self.width, mask)
        within = at_positions(valid, h) if mask is None else self.model.token_mask(mask)
        # A bottleneck uses one random key for a whole batch, so each part of a batch needs its own.
        batch_key = jax.random.fold_in(key, batch.index[0])
        out = self.bottleneck(params, self.bottleneck_stats(stats), h, batch_key, step, within)
        y = self.model.decode(params, out.z, x.shape[-1], mask)
        norms = stats["balance"] if self.balance is not None else None
        loss, metrics, norms = self.reconstruction_loss(
            params, frozen, out.z, x, y, valid, step, mask, norms
        )
        others = self.further_losses(params, self.bottleneck_stats(stats), frozen, x, out.update)
        loss = batch.weighted(DATA, loss)
        metrics = Named({name: batch.weighted(DATA, value) for name, value in metrics.items()})
        found = out.losses | others
        losses = Named({name: batch.weighted(TOKENS, x) for name, x in found.items()})
        for name, value in losses.items():
            loss = loss + self.weights[name] * value
        metrics = metrics | losses | out.metrics
        averages = None
        if self.adversary is not None:
            discriminator, found, averages = self.adversary.discriminator_loss(
                params["discriminator"], stats["adversary"], x, y, valid, step, mask
            )
            loss, metrics = loss + batch.weighted(DATA, discriminator), metrics | found
            averages = _weighted(batch, stats["adversary"], averages)
        if self.balance is not None:
            norms = _weighted(batch, stats["balance"], norms)
        counts = Named({DATA: jnp.sum(valid), TOKENS: jnp.sum(within)})
        return loss, Aux(metrics, (out.update, averages, norms), counts)

    def update(
        self, params: Params, stats: Stats, aux: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        update, averages, norms = aux
        bottleneck = self.bottleneck_stats(stats)
        params, bottleneck = self.update_bottleneck(params, bottleneck, update, key, step)
        if not self._is_nested:
            return params, bottleneck
        others = {"adversary": averages, "balance": norms}
        return params, {
            "bottleneck": bottleneck,
            **{name: others[name] for name in others if name in stats},
        }

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del key
        x = self.input(batch.data[self.name])
        valid, mask = self.real(batch)
        h = self.model.encode(params, x, self.width, mask)
        tokens = self.tokens_within(params, stats, h, mask)
        y = self.decode_standardized(params, stats, tokens, mask)
        distances = self.distances(frozen, x, y, mask)
        means = {name: Mean.of(values, valid) for name, values in distances.items()}
        within = None
        if mask is not None:
            valid, within = valid > 0, self.model.token_mask(mask)
        bottleneck = self.bottleneck_stats(stats)
        return self.measure(params, bottleneck, h, tokens, valid, within) | means

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del frozen, key
        raw, mask = batch.data[self.name][:16], batch.mask.get(self.name)
        mask = None if mask is None else mask[:16]
        tokens = self.encode(params, stats, raw, mask)
        shown = Named(original=raw, result=self.decode(params, stats, tokens, mask))
        return shown if mask is None else shown | {"mask": mask}

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        file, mask = path.with_suffix(".png"), preview.get("mask")
        shown = [preview["original"], preview["result"]]
        if mask is not None:
            shown = [cut(stored, mask.sum(axis=1)) for stored in shown]
        originals, results = map(self.modality.draw, shown)
        save_png(file, side_by_side(originals, results))
        return file


def _weighted(batch: Batch, old: Any, new: Any) -> Any:
    """Returns averages for a part of a batch; their mean over all parts is the batch's average."""
    if not batch.shares:
        return new
    return jax.tree.map(lambda old, new: old + batch.weighted(DATA, new - old), old, new)


def _for_inference(params: Params) -> Params:
    return {name: part for name, part in params.items() if name not in TRAINING_ONLY}


def at_positions(valid: Bool[Array, " b"], z: Float[Array, "b *grid d"]) -> Bool[Array, "b *grid"]:
    """Returns, for every position of z, whether its example is valid."""
    return jnp.broadcast_to(valid.reshape(-1, *(1,) * (z.ndim - 2)), z.shape[:-1])
