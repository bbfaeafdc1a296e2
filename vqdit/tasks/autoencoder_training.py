"""Training of autoencoders: the losses of the reconstruction, and a discriminator.

y = D(b(E(x))),        L = |x - y|  +  losses of the bottleneck b  +  perceptual losses
+  adversarial loss.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.losses import Perceptual, l1, l2
from vqdit.losses.gradients import adaptive_weight, at_output, shares, with_gradient
from vqdit.losses.reconstruction import RECONSTRUCTION
from vqdit.masked_mean import masked_mean
from vqdit.metrics import SSIM_WINDOW, Mean, Metrics, psnr, ssim
from vqdit.modalities.drawing import save_png, side_by_side
from vqdit.optim import Optimizer
from vqdit.random import stream
from vqdit.tasks.adversary import Adversary
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Aux, Frozen, Load, Resolve, Task, Trees, require
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats

T = TypeVar("T", bound="AutoencoderTrainingTask")


class AutoencoderTrainingTask(AutoencoderTask):
    """An autoencoder and the losses of its training.

    Attributes:
        reconstruction: "l1" (sharper), "l2" (best PSNR) or "huber" (between them), per element
            of standardised data.
        perceptual: losses between features of original and reconstruction, such as `LPIPS`.
        adversary: discriminator to train against; None trains without one.
    """

    reconstruction: Literal["l1", "l2", "huber"] = "l2"
    perceptual: tuple[Perceptual, ...] = ()
    adversary: Adversary | None = None

    def __post_init__(self) -> None:
        names = [loss.name for loss in self.perceptual]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"perceptual has {twice[0]!r} twice; give it once, with more weight")

    @property
    def without_training(self: T) -> T:
        return dataclasses.replace(self, perceptual=(), adversary=None)

    def bottleneck_stats(self, stats: Stats) -> Stats:
        return stats if self.adversary is None else stats["bottleneck"]

    def for_inference(self: T, params: Params, stats: Stats) -> tuple[T, Params, Stats]:
        return self.without_training, _without_discriminator(params), self.bottleneck_stats(stats)

    def warm_start(self, source: Task, params: Params, stats: Stats, load: Load) -> Trees:
        """Starts from a run with or without an adversary; a new discriminator starts fresh."""
        has, source_has = (getattr(task, "adversary", None) is not None for task in (self, source))
        if has == source_has:
            return load(params, stats)
        bare = _without_discriminator(params)
        if source_has:
            found, nested = load(bare, {"bottleneck": stats})
            return found, nested["bottleneck"]
        found, bottleneck = load(bare, stats["bottleneck"])
        return {**params, **found}, {**stats, "bottleneck": bottleneck}

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[AutoencoderTrainingTask, Frozen]":
        del resolve, batches
        loaded = {loss.name: loss.load() for loss in self.perceptual}
        return self, jax.tree.map(jnp.asarray, loaded)

    def frozen_like(self) -> Frozen:
        return {loss.name: loss.like() for loss in self.perceptual}

    def check(self, features: Named[Feature]) -> None:
        _ = self.grid  # raises if the size does not divide
        require(features, self.name, self.modality.shape)
        for loss in self.perceptual:
            loss.check(self.modality.grid, self.modality.channels)
            rates = [getattr(part, "rate", None) for part in (loss, self.modality)]
            if None not in rates and rates[0] != rates[1]:
                raise ValueError(
                    f"{type(loss).__name__} has rate={rates[0]}, but the sounds have "
                    f"rate={rates[1]}; give both the rate of the data"
                )
        if self.adversary is not None:
            self.adversary.check(self.modality.grid)

    def init(self, key: Key[Array, ""], frozen: Frozen, batch: Batch) -> tuple[Params, Stats]:
        del frozen
        return self._init(key, batch.data[self.name])

    def blank(self) -> tuple[Params, Stats]:
        return self._init(
            jax.random.key(0), jnp.zeros((1, *self.modality.shape), self.modality.dtype)
        )

    def _init(self, key: Key[Array, ""], raw: Array) -> tuple[Params, Stats]:
        x = self.modality.standardize(raw)
        params = self.model.init(stream(key, "model"), x, self.dim, self.width)
        params, stats = self.start(key, params, x)
        if self.adversary is None:
            return params, stats
        discriminator, averages = self.adversary.init(stream(key, "discriminator"), x)
        stats = {"bottleneck": stats, "adversary": averages}
        return {**params, "discriminator": discriminator}, stats

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
        x = self.modality.standardize(batch.data[self.name])
        valid = batch.valid & batch.present[self.name]
        h = self.model.encode(params, x, self.width)
        mask = at_positions(valid, h)
        # A bottleneck draws once for a whole batch: parts of a batch must draw differently.
        batch_key = jax.random.fold_in(key, batch.index[0])
        out = self.bottleneck(params, self.bottleneck_stats(stats), h, batch_key, step, mask)
        y = self.model.decode(params, out.z, x.shape[-1])
        loss, metrics = self._reconstruction_loss(params, frozen, out.z, x, y, valid, step)
        for name, value in out.losses.items():
            loss = loss + self.weights[name] * value
        metrics = metrics | out.losses | out.metrics
        averages = None
        if self.adversary is not None:
            discriminator, found, averages = self.adversary.discriminator_loss(
                params["discriminator"], stats["adversary"], x, y, valid, step
            )
            loss, metrics = loss + discriminator, metrics | found
        return loss, Aux(metrics, (out.update, averages))

    def _reconstruction_loss(
        self,
        params: Params,
        frozen: Frozen,
        z: Float[Array, "b *grid d"],
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        valid: Bool[Array, " b"],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], Named[Float[Array, ""]]]:
        """Returns the weighted loss of the reconstruction y, and its parts."""
        pixels = RECONSTRUCTION[self.reconstruction]
        losses = {"reconstruction": lambda y: masked_mean(pixels(x, y), valid)}
        weights: dict[str, Any] = {"reconstruction": 1.0}
        for loss in self.perceptual:
            distance = functools.partial(loss.distance, frozen[loss.name], x)
            losses[loss.name] = lambda y, distance=distance: masked_mean(distance(y), valid)
            weights[loss.name] = loss.weight
        if self.adversary is not None:
            adversary, discriminator = self.adversary, params["discriminator"]
            losses["generator"] = lambda y: adversary.generator_loss(discriminator, y, valid)
        values, gradients = at_output(losses, y)
        metrics = values
        if self.adversary is not None:
            weight = self.adversary.weight * self.adversary.playing(step)
            if self.adversary.adaptive:
                others = sum((weights[name] * gradients[name] for name in weights), jnp.zeros(()))
                weight *= self._adaptive_weight(params, z, others, gradients["generator"])
            weights["generator"] = weight
            metrics = metrics | {"generator_weight": weights["generator"]}
        weighted = {name: weights[name] * gradients[name] for name in gradients}
        total = sum((weights[name] * values[name] for name in losses), jnp.zeros(()))
        if len(weighted) > 1:
            parts = shares(weighted)
            metrics = metrics | {f"gradient_share_{name}": parts[name] for name in parts}
        return total + with_gradient(y, sum(weighted.values(), jnp.zeros(()))), metrics

    def _adaptive_weight(
        self,
        params: Params,
        z: Float[Array, "b *grid d"],
        gradient: Float[Array, "b *size c"],
        adversarial: Float[Array, "b *size c"],
    ) -> Float[Array, ""]:
        params, z = jax.lax.stop_gradient((params, z))
        path, channels = self.model.last_layer, gradient.shape[-1]

        def last_layer(kernel: Array) -> Float[Array, "b *size c"]:
            return self.model.decode(_replaced(params, path, kernel), z, channels)

        kernel = functools.reduce(lambda part, name: part[name], path, params)
        return adaptive_weight(last_layer, kernel, gradient, adversarial)

    def update(
        self, params: Params, stats: Stats, aux: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        update, averages = aux
        stats = self.bottleneck_stats(stats)
        params, stats = self.update_bottleneck(params, stats, update, key, step)
        if self.adversary is None:
            return params, stats
        return params, {"bottleneck": stats, "adversary": averages}

    def evaluate(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Metrics:
        del key
        x = self.modality.standardize(batch.data[self.name])
        valid = batch.valid & batch.present[self.name]
        h = self.model.encode(params, x, self.width)
        tokens = self.tokens(params, self.bottleneck_stats(stats), h)
        y = self.decode_standardized(params, stats, tokens)
        distances = {loss.name: loss.distance(frozen[loss.name], x, y) for loss in self.perceptual}
        distances |= {"l1": l1(x, y), "l2": l2(x, y), "psnr": psnr(x, y)}
        if len(self.modality.grid) == 2 and min(self.modality.grid) >= SSIM_WINDOW:
            distances["ssim"] = ssim(x, y)
        means = {name: Mean.of(values, valid) for name, values in distances.items()}
        return self.measure(params, self.bottleneck_stats(stats), h, tokens, valid) | means

    def preview(
        self, params: Params, stats: Stats, frozen: Frozen, batch: Batch, key: Key[Array, ""]
    ) -> Named[Array]:
        del frozen, key
        raw = batch.data[self.name][:16]
        return Named(
            original=raw, result=self.decode(params, stats, self.encode(params, stats, raw))
        )

    def write_preview(self, preview: Named[np.ndarray], path: Path) -> Path:
        file = path.with_suffix(".png")
        drawn = {name: self.modality.draw(stored) for name, stored in preview.items()}
        save_png(file, side_by_side(drawn["original"], drawn["result"]))
        return file


def _without_discriminator(params: Params) -> Params:
    return {name: part for name, part in params.items() if name != "discriminator"}


def at_positions(valid: Bool[Array, " b"], z: Float[Array, "b *grid d"]) -> Bool[Array, "b *grid"]:
    """Returns, for every position of z, whether its example is valid."""
    return jnp.broadcast_to(valid.reshape(-1, *(1,) * (z.ndim - 2)), z.shape[:-1])


def _replaced(tree: Params, path: tuple[str, ...], leaf: Array) -> Params:
    """Returns a tree of dicts with the leaf at a path replaced."""
    if not path:
        return leaf
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], leaf)}
