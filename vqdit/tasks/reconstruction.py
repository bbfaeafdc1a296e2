"""Losses of a reconstruction: distance to the data, perceptual losses, and a discriminator.

If examples differ in length, every position that is not padding has the same weight. With L_i the
loss of example i alone, the loss of a batch is sum_i n_i L_i / sum_i n_i. For losses of the data,
n_i is the number of stored positions; for losses of the bottleneck, it is the number of tokens.
Evaluation weights its means in the same way.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vqdit.data.batch import Batch
from vqdit.data.sources import Feature
from vqdit.losses import Perceptual, l1, l2
from vqdit.losses.balance import Balance, Norms
from vqdit.losses.gradients import adaptive_weight, at_output, shares, with_gradient
from vqdit.losses.mel import spectral_distances
from vqdit.losses.reconstruction import RECONSTRUCTION, accuracy, cross_entropy
from vqdit.masked_mean import masked_mean
from vqdit.metrics import SSIM_WINDOW, flicker, frame_psnr, frame_ssim, psnr, si_sdr, ssim
from vqdit.modalities import Video
from vqdit.tasks.adversary import Adversary, Weights
from vqdit.tasks.autoencoder import AutoencoderTask, Mask
from vqdit.tasks.base import Frozen, Resolve, require
from vqdit.typing import Array, Float, Int, Named, Params


class ReconstructionTask(AutoencoderTask):
    """An autoencoder and the losses of its reconstruction.

    Attributes:
        reconstruction: "l1" (sharper), "l2" (best PSNR) or "huber" (between them), per element
            of standardised data; "cross_entropy" for data that are codes, such as text.
        perceptual: losses between features of original and reconstruction, such as `LPIPS`.
        adversary: discriminator that judges reconstructions; None trains without one.
        balance: scales the gradient of each loss at the decoder's output in proportion to its
            weight, as EnCodec does; None adds the weighted losses.
    """

    reconstruction: Literal["l1", "l2", "huber", "cross_entropy"] = "l2"
    perceptual: tuple[Perceptual, ...] = ()
    adversary: Adversary | None = None
    balance: Balance | None = None

    def __post_init__(self) -> None:
        names = [loss.name for loss in self.perceptual]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"perceptual has {twice[0]!r} twice; name it once, with a larger weight"
            )
        kind, are_codes = type(self.modality).__name__, bool(self.modality.vocabulary)
        if are_codes != (self.reconstruction == "cross_entropy"):
            use = "reconstruction='cross_entropy'" if are_codes else "'l1', 'l2' or 'huber'"
            raise ValueError(
                f"{type(self).__name__} of {kind} cannot use reconstruction="
                f"{self.reconstruction!r}; use {use}"
            )
        if are_codes and (self.perceptual or self.adversary):
            raise ValueError(
                f"{type(self).__name__} of {kind} has codes, which have no perceptual losses or "
                "adversary; leave both out"
            )
        if self.balance and self.adversary and self.adversary.adaptive:
            raise ValueError(
                f"{type(self).__name__} has a balance and an adaptive adversary, which both scale "
                "gradients; use one of them"
            )

    def load(
        self, resolve: Resolve, batches: Callable[[], Iterable[Batch]]
    ) -> "tuple[ReconstructionTask, Frozen]":
        del resolve, batches
        loaded = {loss.name: loss.load() for loss in self.perceptual}
        return self, jax.tree.map(jnp.asarray, loaded)

    def frozen_like(self) -> Frozen:
        return {loss.name: loss.like() for loss in self.perceptual}

    def check(self, features: Named[Feature]) -> None:
        _ = self.grid  # raises ValueError if the size does not divide
        lengths = self.modality.lengths
        require(features, self.name, self.modality.shape, ragged=lengths is not None)
        size = self.modality.grid if lengths is None else (lengths[0],)
        for loss in self.perceptual:
            edges = self.modality.size if isinstance(self.modality, Video) else size
            loss.check(edges, self.modality.channels)
            if lengths and not loss.any_length:
                raise ValueError(
                    f"{type(loss).__name__} needs data of a fixed length; remove it, or cut "
                    f"{self.name!r} to one length"
                )
            rates = [getattr(part, "rate", None) for part in (loss, self.modality)]
            if None not in rates and rates[0] != rates[1]:
                raise ValueError(
                    f"{type(loss).__name__} has rate={rates[0]}, but the sounds have "
                    f"rate={rates[1]}; set both rates to that of the data"
                )
        if self.adversary is not None:
            self.adversary.check(size, varies=lengths is not None)

    def real(self, batch: Batch) -> tuple[Weights, Mask]:
        """Returns the weight of each example, and the mask of its padding if lengths vary.

        The weight is 1 for valid examples and 0 for padding of the batch. If lengths vary, the
        weight of a valid example is its number of positions.
        """
        valid, mask = batch.valid & batch.present[self.name], batch.mask.get(self.name)
        if mask is None:
            return valid, None
        mask = mask & valid[:, None]
        return jnp.sum(mask, axis=1), mask

    def reconstruction_loss(
        self,
        params: Params,
        frozen: Frozen,
        z: Float[Array, "b *grid d"],
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        valid: Weights,
        step: Int[Array, ""],
        mask: Mask,
        norms: Norms | None = None,
    ) -> tuple[Float[Array, ""], Named[Float[Array, ""]], Norms | None]:
        """Returns the weighted loss of a reconstruction y, its terms, and the balancer's norms."""
        pixels = RECONSTRUCTION[self.reconstruction]
        losses = {"reconstruction": lambda y: masked_mean(pixels(x, y, mask), valid)}
        weights: dict[str, Any] = {"reconstruction": 1.0}
        for loss in self.perceptual:
            losses[loss.name] = lambda y, loss=loss: masked_mean(
                self._distance(loss, frozen, x, y, mask), valid
            )
            weights[loss.name] = loss.weight
        if self.adversary is not None:
            adversary, discriminator = self.adversary, params["discriminator"]
            losses["generator"] = lambda y: adversary.generator_loss(discriminator, y, valid, mask)
            if adversary.matching > 0.0:
                losses["matching"] = lambda y: adversary.matching_loss(
                    discriminator, x, y, valid, mask
                )
                weights["matching"] = adversary.matching * adversary.playing(step)
        values, gradients = at_output(losses, y)
        metrics = values
        if self.adversary is not None:
            weight = self.adversary.weight * self.adversary.playing(step)
            if self.adversary.adaptive:
                others = sum((weights[name] * gradients[name] for name in weights), jnp.zeros(()))
                weight *= self._adaptive_weight(params, z, others, gradients["generator"], mask)
            weights["generator"] = weight
            metrics = metrics | {"generator_weight": weights["generator"]}
        scales: Mapping[str, Any] = weights
        if self.balance is not None and norms is not None:
            scales, norms = self.balance.scales(gradients, weights, norms)
        weighted = {name: scales[name] * gradients[name] for name in gradients}
        total = sum((weights[name] * values[name] for name in losses), jnp.zeros(()))
        if len(weighted) > 1:
            parts = shares(weighted)
            metrics = metrics | {f"gradient_share_{name}": parts[name] for name in parts}
        return total + with_gradient(y, sum(weighted.values(), jnp.zeros(()))), metrics, norms

    @property
    def loss_names(self) -> list[str]:
        """Names of the losses of the reconstruction."""
        names = ["reconstruction", *(loss.name for loss in self.perceptual)]
        if self.adversary is not None:
            names += ["generator"] + ["matching"] * (self.adversary.matching > 0.0)
        return names

    def distances(
        self,
        frozen: Frozen,
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        mask: Mask,
    ) -> dict[str, Float[Array, " b"]]:
        """Returns the distance of the reconstruction y of each example from x, for evaluation."""
        if self.modality.vocabulary:
            return {"cross_entropy": cross_entropy(x, y, mask), "accuracy": accuracy(x, y, mask)}
        found = {loss.name: self._distance(loss, frozen, x, y, mask) for loss in self.perceptual}
        found |= {"l1": l1(x, y, mask), "l2": l2(x, y, mask), "psnr": psnr(x, y, mask)}
        if len(self.modality.grid) == 2 and min(self.modality.grid) >= SSIM_WINDOW:
            found["ssim"] = ssim(x, y)
        if isinstance(self.modality, Video):
            found |= {"psnr": frame_psnr(x, y), "flicker": flicker(x, y)}
            if min(self.modality.size) >= SSIM_WINDOW:
                found["ssim"] = frame_ssim(x, y)
        if rate := getattr(self.modality, "rate", 0):
            found["si_sdr"] = si_sdr(x, y, mask)
            found |= self._spectral(rate, x, y, mask)
        return found

    def _spectral(
        self, rate: int, x: Float[Array, "b n c"], y: Float[Array, "b n c"], mask: Mask
    ) -> dict[str, Float[Array, " b"]]:
        """Returns `spectral_distances`; empty if sounds may be shorter than their window."""
        losses, shortest = (
            spectral_distances(rate),
            (self.modality.lengths or self.modality.grid)[0],
        )
        if any(max(loss.windows) > shortest for loss in losses.values()):
            return {}
        return {name: loss.distance({}, x, y, mask) for name, loss in losses.items()}

    def _distance(
        self,
        loss: Perceptual,
        frozen: Frozen,
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        mask: Mask,
    ) -> Float[Array, " b"]:
        if isinstance(self.modality, Video):  # the mean over frames
            frames = (data.reshape(-1, *data.shape[2:]) for data in (x, y))
            return loss.distance(frozen[loss.name], *frames).reshape(x.shape[:2]).mean(axis=1)
        given = (x, y) if mask is None else (x, y, mask)
        return loss.distance(frozen[loss.name], *given)

    def _adaptive_weight(
        self,
        params: Params,
        z: Float[Array, "b *grid d"],
        gradient: Float[Array, "b *size c"],
        adversarial: Float[Array, "b *size c"],
        mask: Mask,
    ) -> Float[Array, ""]:
        params, z = jax.lax.stop_gradient((params, z))
        path, channels = self.model.last_layer, gradient.shape[-1]

        def last_layer(kernel: Array) -> Float[Array, "b *size c"]:
            return self.model.decode(_replaced(params, path, kernel), z, channels, mask)

        kernel = functools.reduce(lambda part, name: part[name], path, params)
        return adaptive_weight(last_layer, kernel, gradient, adversarial)


def _replaced(tree: Params, path: tuple[str, ...], leaf: Array) -> Params:
    """Returns a tree of dicts with the leaf at a path replaced."""
    if not path:
        return leaf
    return {**tree, path[0]: _replaced(tree[path[0]], path[1:], leaf)}
