"""What all tokenizers share: an encoder, a bottleneck, a decoder, and how their result is judged.

    y = D(b(E(x))),        L = |x - y|  +  the losses of the bottleneck b
                               +  perceptual losses  +  what an adversary says of y.

The bottleneck is what tells tokenizers apart: codes of a codebook (`TokenizerTask`), or continuous
latents (`KLTask`). *Tokens* are either.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from vqdit.modalities import Image, Modality
from vqdit.modalities.image import grid as tile
from vqdit.modalities.image import save
from vqdit.models.autoencoder import Autoencoder, ConvAutoencoder
from vqdit.optim import Optimizer
from vqdit.random import stream
from vqdit.tasks.adversary import Adversary
from vqdit.tasks.base import Aux, Frozen, Load, Resolve, Task, Trees, require
from vqdit.typing import Array, Bool, Float, Int, Key, Named, Params, Stats


class BottleneckOutput(NamedTuple):
    """What comes out of a bottleneck.

    Attributes:
        z: what the decoder takes.
        losses: unweighted scalars by name.
        metrics: further scalars to log.
        update: whatever the bottleneck's own update needs.
    """

    z: Float[Array, "b *grid d"]
    losses: Named[Float[Array, ""]]
    metrics: Named[Float[Array, ""]]
    update: Any


class AutoencoderTask(Task):
    """An autoencoder of one modality; subclasses say what its bottleneck is.

    Attributes:
        name: which column of the data is tokenized.
        modality: what that column is.
        model: encoder and decoder.
        reconstruction: "l1" (sharper), "l2" (best PSNR) or "huber" (between them), per element
            of standardised data.
        perceptual: losses between features of original and reconstruction, such as `LPIPS`.
        adversary: a discriminator to train against; None trains without one.
    """

    name: str = "image"
    modality: Modality = Image()
    model: Autoencoder = ConvAutoencoder()
    reconstruction: Literal["l1", "l2", "huber"] = "l2"
    perceptual: tuple[Perceptual, ...] = ()
    adversary: Adversary | None = None

    def __post_init__(self) -> None:
        names = [loss.name for loss in self.perceptual]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"perceptual has {twice[0]!r} twice; give it once, with more weight")

    @property
    def weights(self) -> Named[float]:
        """Weight of each of the bottleneck's losses."""
        raise TypeError(f"{type(self).__name__} must define weights")

    @property
    def dim(self) -> int:
        """Width d of the latents that the decoder takes."""
        raise TypeError(f"{type(self).__name__} must define dim")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Sizes of the q codebooks; none if the tokens are latents."""
        return ()

    @property
    def width(self) -> int:
        """Channels that the encoder gives."""
        return self.dim

    @property
    def grid(self) -> tuple[int, ...]:
        """Positions of the tokens along each axis."""
        return self.model.grid(self.modality.grid)

    @property
    def encoded_shape(self) -> tuple[int, ...]:
        """Shape of an example in encoded data: its codes, or mean and deviation of its latents."""
        return *self.grid, len(self.codebook_sizes) or 2 * self.dim

    def start(
        self, key: Key[Array, ""], params: Params, x: Float[Array, "b *size c"]
    ) -> tuple[Params, Stats]:
        """Returns the parameters with those of the bottleneck, and its fresh statistics."""
        del key, x
        return params, {}

    def bottleneck(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        mask: Bool[Array, "b *grid"],
    ) -> BottleneckOutput:
        """Passes the encoder's output through the bottleneck, in training."""
        raise TypeError(f"{type(self).__name__} must define bottleneck")

    def tokens(self, params: Params, stats: Stats, h: Float[Array, "b *grid w"]) -> Array:
        """Returns the tokens of the encoder's output."""
        raise TypeError(f"{type(self).__name__} must define tokens")

    def lookup(self, params: Params, stats: Stats, tokens: Array) -> Float[Array, "b *grid d"]:
        """Returns what the decoder takes for tokens."""
        raise TypeError(f"{type(self).__name__} must define lookup")

    def checked(self, tokens: np.ndarray) -> np.ndarray:
        """Returns tokens from outside, in the type that `decode` takes.

        Raises:
            ValueError: they are no tokens of this task.
        """
        raise TypeError(f"{type(self).__name__} must define checked")

    def measure(
        self,
        params: Params,
        stats: Stats,
        h: Float[Array, "b *grid w"],
        tokens: Array,
        valid: Bool[Array, " b"],
    ) -> Metrics:
        """Returns accumulators of the bottleneck."""
        raise TypeError(f"{type(self).__name__} must define measure")

    def update_bottleneck(
        self, params: Params, stats: Stats, update: Any, key: Key[Array, ""], step: Int[Array, ""]
    ) -> tuple[Params, Stats]:
        """Returns the parameters and the bottleneck's statistics after a step."""
        del update, key, step
        return params, stats

    def bottleneck_stats(self, stats: Stats) -> Stats:
        """Returns the bottleneck's part of the statistics: with an adversary, that has another."""
        return stats if self.adversary is None else stats["bottleneck"]

    def for_inference(
        self, params: Params, stats: Stats
    ) -> "tuple[AutoencoderTask, Params, Stats]":
        """Returns the tokenizer as it is used: without what only its training needs."""
        task = dataclasses.replace(self, perceptual=(), adversary=None)
        kept = {name: part for name, part in params.items() if name != "discriminator"}
        return task, kept, self.bottleneck_stats(stats)

    def warm_start(self, source: Task, params: Params, stats: Stats, load: Load) -> Trees:
        """Also from or for a run without adversary; a discriminator that is not lent is fresh."""
        has, lent = (getattr(task, "adversary", None) is not None for task in (self, source))
        if has == lent:
            return load(params, stats)
        bare = {name: part for name, part in params.items() if name != "discriminator"}
        if lent:
            found, nested = load(bare, {"bottleneck": stats})
            return found, nested["bottleneck"]
        found, bottleneck = load(bare, stats["bottleneck"])
        return {**params, **found}, {**stats, "bottleneck": bottleneck}

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[AutoencoderTask, Frozen]":
        del resolve, batches
        loaded = {loss.name: loss.load() for loss in self.perceptual}
        return self, jax.tree.map(jnp.asarray, loaded)

    def frozen_like(self) -> Frozen:
        return {loss.name: loss.like() for loss in self.perceptual}

    @property
    def modalities(self) -> Named[Modality]:
        return Named({self.name: self.modality})

    def check(self, features: Named[Feature]) -> None:
        _ = self.grid  # sizes that do not divide
        require(features, self.name, self.modality.shape)
        for loss in self.perceptual:
            loss.check(self.modality.grid, self.modality.channels)
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
        # A bottleneck draws for a batch as a whole: its parts must not all draw the same.
        own_key = jax.random.fold_in(key, batch.index[0])
        narrowed = self.bottleneck(params, self.bottleneck_stats(stats), h, own_key, step, mask)
        y = self.model.decode(params, narrowed.z, x.shape[-1])
        loss, metrics = self._judged(params, frozen, narrowed.z, x, y, valid, step)
        for name, value in narrowed.losses.items():
            loss = loss + self.weights[name] * value
        metrics = metrics | narrowed.losses | narrowed.metrics
        averages = None
        if self.adversary is not None:
            discriminator, found, averages = self.adversary.discriminator_loss(
                params["discriminator"], stats["adversary"], x, y, valid, step
            )
            loss, metrics = loss + discriminator, metrics | found
        return loss, Aux(metrics, (narrowed.update, averages))

    def _judged(
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
                weight *= self._adaptive(params, z, others, gradients["generator"])
            weights["generator"] = weight
            metrics = metrics | {"generator_weight": weights["generator"]}
        weighted = {name: weights[name] * gradients[name] for name in gradients}
        total = sum((weights[name] * values[name] for name in losses), jnp.zeros(()))
        if len(weighted) > 1:
            parts = shares(weighted)
            metrics = metrics | {f"gradient_share_{name}": parts[name] for name in parts}
        return total + with_gradient(y, sum(weighted.values(), jnp.zeros(()))), metrics

    def _adaptive(
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
        params, own = self.update_bottleneck(
            params, self.bottleneck_stats(stats), update, key, step
        )
        if self.adversary is None:
            return params, own
        return params, {"bottleneck": own, "adversary": averages}

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

    def encode(self, params: Params, stats: Stats, raw: Array) -> Array:
        """Returns the tokens of stored examples."""
        return self.encode_standardized(params, stats, self.modality.standardize(raw))

    def moments(self, params: Params, stats: Stats, raw: Array) -> tuple[Array, Array]:
        """Returns mean and standard deviation of the normal posterior of stored examples.

        For tokenizers with one; their tokens are its mean.
        """
        raise TypeError(f"a {type(self).__name__} has no posterior")

    def encode_standardized(
        self, params: Params, stats: Stats, x: Float[Array, "b *size c"]
    ) -> Array:
        """Returns the tokens of standardised examples."""
        h = self.model.encode(params, x, self.width)
        return self.tokens(params, self.bottleneck_stats(stats), h)

    def decode(self, params: Params, stats: Stats, tokens: Array) -> Array:
        """Returns stored examples from tokens."""
        return self.modality.restore(self.decode_standardized(params, stats, tokens))

    def decode_latents(self, params: Params, stats: Stats, z: Float[Array, "b *grid d"]) -> Array:
        """Returns stored examples from generated latents."""
        raise TypeError(f"{type(self).__name__} must define decode_latents")

    def decode_standardized(
        self, params: Params, stats: Stats, tokens: Array
    ) -> Float[Array, "b *size c"]:
        """Returns standardised examples from tokens, as the decoder gives them: not clipped."""
        z = self.lookup(params, self.bottleneck_stats(stats), tokens)
        return self.model.decode(params, z, self.modality.channels)

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
        save(file, side_by_side(drawn["original"], drawn["result"]))
        return file


def side_by_side(originals: np.ndarray, results: np.ndarray, columns: int = 8) -> np.ndarray:
    """Tiles uint8 pictures so that each row of originals stands above its reconstructions."""
    columns = min(columns, len(originals))
    rows = []
    for start in range(0, len(originals), columns):
        for images in (originals, results):
            row = images[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), 127, np.uint8)
            rows.append(np.concatenate([row, blank]))
    return tile(np.concatenate(rows), columns)


def at_positions(valid: Bool[Array, " b"], z: Float[Array, "b *grid d"]) -> Bool[Array, "b *grid"]:
    """Returns, for every position of z, whether its example is valid."""
    return jnp.broadcast_to(valid.reshape(-1, *(1,) * (z.ndim - 2)), z.shape[:-1])


def _replaced(tree: Params, path: tuple[str, ...], leaf: Array) -> Params:
    """Returns a tree of dicts with another leaf at that path."""
    if not path:
        return leaf
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], leaf)}
