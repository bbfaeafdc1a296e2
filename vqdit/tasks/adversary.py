"""A discriminator of reconstructions, trained in the same step as the tokenizer.

    L = L_rec + ... + w L_g(D'(y))   +   L_d(D(x), D(y'))  + lecam + r1,       y' = sg(y),

where D' is D with a stop-gradient on its parameters. The first part trains only the autoencoder,
and the second only the discriminator, so the gradient of the sum has both gradients. Each network
has its own optimizer.

Esser et al., "Taming Transformers" (VQGAN), arXiv:2012.09841, section 3.1.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vqdit.losses import adversarial
from vqdit.masked_mean import masked_mean
from vqdit.models.discriminators import Discriminator, PatchGAN
from vqdit.optim import AdamW, Optimizer
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named, Params

Weights = Bool[Array, " b"] | Int[Array, " b"]
"""Weight of each example: whether it is valid, or its number of positions without padding."""
Mask = Bool[Array, "b n"] | None
"""True at positions of variable-length examples that are not padding; None for a fixed length."""
LECAM_DECAY = 0.999
"""Decay of the moving averages of the mean logits, as published."""


class Averages(NamedTuple):
    """Moving averages of the mean logits on originals and on reconstructions, for LeCAM."""

    real: Float[Array, ""]
    fake: Float[Array, ""]


class Adversary(Component):
    """A discriminator and the settings of adversarial training.

    Attributes:
        discriminator: the network.
        loss: adversarial loss of discriminator and generator; see `vqdit.losses.adversarial`.
        weight: weight of the generator's loss; the reconstruction has weight 1.
        matching: weight of the distance between the discriminator's features of original and
            reconstruction (`feature_matching`), for discriminators that have features; 2 to 4 is
            usual for sounds.
        start: first step in which the discriminator is trained and the generator's loss counts.
        adaptive: whether the generator's loss is also scaled so that its gradient at the decoder's
            last layer is as large as the gradient of the reconstruction, as in VQGAN.
        lecam: weight of LeCAM regularisation, which keeps the logits near their moving averages;
            0.001 to 0.05 is usual.
        r1: gamma of the gradient penalty on originals; 10 is usual for `StyleGAN`.
        r1_every: steps between penalties; each penalty is multiplied by this number.
        optimizer: optimizer of the discriminator, for the steps from `start` on.
    """

    discriminator: Discriminator = PatchGAN()
    loss: adversarial.Kind = "hinge"
    weight: float = 0.1
    matching: float = 0.0
    start: int = 0
    adaptive: bool = False
    lecam: float = 0.0
    r1: float = 0.0
    r1_every: int = 16
    optimizer: Optimizer = AdamW(b1=0.5, b2=0.9)

    def __post_init__(self) -> None:
        if self.weight <= 0.0:
            raise ValueError(
                f"Adversary needs weight > 0, got {self.weight}; use adversary=None to train "
                "without one"
            )
        if min(self.lecam, self.r1) < 0.0:
            raise ValueError(
                f"Adversary needs lecam >= 0 and r1 >= 0, got lecam={self.lecam} and r1={self.r1}"
            )
        self.require("matching >= 0", self.matching >= 0.0)
        if self.matching and not self.discriminator.has_features:
            name = type(self.discriminator).__name__
            raise ValueError(
                f"{name} has no features for matching; use matching=0, or the discriminator "
                "MultiPeriod or MultiSTFT"
            )
        if self.start < 0 or self.r1_every < 1:
            raise ValueError(
                "Adversary needs start >= 0 and r1_every >= 1, got "
                f"{self.start} and {self.r1_every}"
            )

    def check(self, size: tuple[int, ...], varies: bool = False) -> None:
        """Raises ValueError if the discriminator does not support data of this size.

        Args:
            size: size of the data; if lengths vary, size of the shortest example.
            varies: whether lengths vary.
        """
        if varies:
            self.discriminator.real(jnp.ones((1, *size), bool))
        smallest = self.discriminator.smallest
        if min(size) < smallest:
            raise ValueError(
                f"{type(self.discriminator).__name__} needs data with edges of at least "
                f"{smallest}, got {'x'.join(map(str, size))}; give the discriminator fewer "
                "layers, or use larger data"
            )

    def init(self, key: Key[Array, ""], x: Float[Array, "b *size c"]) -> tuple[Params, Averages]:
        """Returns initial parameters, and averages that start at 0."""
        return self.discriminator.init(key, x), Averages(jnp.zeros(()), jnp.zeros(()))

    def playing(self, step: Int[Array, ""]) -> Float[Array, ""]:
        """Returns 1 if adversarial training has begun (from step `start` on), else 0."""
        return (step >= self.start).astype(jnp.float32)

    def generator_loss(
        self,
        params: Params,
        y: Float[Array, "b *size c"],
        valid: Weights,
        mask: Mask = None,
    ) -> Float[Array, ""]:
        """Returns the unweighted loss of reconstructions; no gradient reaches `params`."""
        fakes = self.discriminator.judge(jax.lax.stop_gradient(params), y, mask)
        losses = [adversarial.generator_loss(self.loss, fake.logits, fake.mask) for fake in fakes]
        return masked_mean(_mean(losses), valid)

    def matching_loss(
        self,
        params: Params,
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        valid: Weights,
        mask: Mask = None,
    ) -> Float[Array, ""]:
        """Returns the feature matching distance of y from x, as a mean over networks.

        See `vqdit.losses.adversarial.feature_matching`. No gradient reaches `params`.
        """
        params = jax.lax.stop_gradient(params)
        pairs = zip(*(self.discriminator.judge(params, data, mask) for data in (x, y)), strict=True)
        return masked_mean(
            _mean([adversarial.feature_matching(one.features, two.features) for one, two in pairs]),
            valid,
        )

    def discriminator_loss(
        self,
        params: Params,
        averages: Averages,
        x: Float[Array, "b *size c"],
        y: Float[Array, "b *size c"],
        valid: Weights,
        step: Int[Array, ""],
        mask: Mask = None,
    ) -> tuple[Float[Array, ""], Named[Float[Array, ""]], Averages]:
        """Returns the loss, its metrics, and the new averages; no gradient reaches x and y."""
        x, y = jax.lax.stop_gradient((x, y))
        pairs = list(
            zip(*(self.discriminator.judge(params, data, mask) for data in (x, y)), strict=True)
        )

        def mean(loss: Callable[..., Float[Array, " b"]], *others: Any) -> Float[Array, ""]:
            """Returns the mean of a loss over networks and examples."""
            each = [loss(real.logits, fake.logits, *others, real.mask) for real, fake in pairs]
            return masked_mean(_mean(each), valid)

        loss = mean(functools.partial(adversarial.discriminator_loss, self.loss))
        per_example = jax.lax.stop_gradient(
            [
                [adversarial.per_example(one.logits, one.mask) for one in judged]
                for judged in zip(*pairs, strict=True)
            ]
        )
        logits = Averages(*(masked_mean(_mean(means), valid) for means in per_example))
        metrics = {
            "discriminator": loss,
            "discriminator_accuracy": mean(functools.partial(adversarial.accuracy, self.loss)),
            "logits_real": logits.real,
            "logits_fake": logits.fake,
        }
        if self.lecam > 0.0:
            metrics["lecam"] = mean(adversarial.lecam, *averages)
            loss = loss + self.lecam * metrics["lecam"]
        if self.r1 > 0.0:
            metrics["r1"] = self._r1(params, x, valid, step, mask)
            loss = loss + self.r1 * metrics["r1"]
        return loss, Named(metrics), self._averaged(averages, logits, step)

    def _r1(
        self,
        params: Params,
        x: Float[Array, "b *size c"],
        valid: Weights,
        step: Int[Array, ""],
        mask: Mask,
    ) -> Float[Array, ""]:
        """Returns n times the penalty in every n-th step, n = `r1_every`; 0 in all other steps."""

        def penalty(params: Params) -> Float[Array, ""]:
            def logits(x: Float[Array, "b *size c"]) -> Float[Array, " b"]:
                judged = self.discriminator.judge(params, x, mask)
                return _mean([adversarial.per_example(one.logits, one.mask) for one in judged])

            each = adversarial.r1(logits, x)
            return self.r1_every * masked_mean(each, valid)

        due = (step - self.start) % self.r1_every == 0
        return jax.lax.cond(due, penalty, lambda params: jnp.zeros(()), params)

    def _averaged(self, averages: Averages, logits: Averages, step: Int[Array, ""]) -> Averages:
        rate = (1.0 - LECAM_DECAY) * self.playing(step)
        return jax.tree.map(lambda old, new: old + rate * (new - old), averages, logits)

    def build(self, steps: int) -> optax.GradientTransformation:
        """Returns the discriminator's optimizer, which begins at step `start` of a run."""
        return starting_at(self.start, self.optimizer.build(max(steps - self.start, 1)))


def _mean(values: list[Float[Array, " b"]]) -> Float[Array, " b"]:
    """Returns the mean over the networks of a discriminator."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / len(values) if len(values) > 1 else total


class Waiting(NamedTuple):
    """State of an optimizer with a delayed start."""

    count: Int[Array, ""]
    inner: Any


def starting_at(start: int, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns an optimizer that skips the first `start` updates; they leave its state unchanged.

    Zero gradients would not be equivalent: weight decay would change the parameters, Adam's
    averages would include zeros, and the schedule would advance.
    """

    def init(params: Params) -> Waiting:
        return Waiting(jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Params, state: Any, params: Params = None) -> tuple[Params, Waiting]:
        begun = state.count >= start
        moved, after = inner.update(updates, state.inner, params)
        moved = jax.tree.map(lambda u: jnp.where(begun, u, jnp.zeros_like(u)), moved)
        after = jax.tree.map(lambda new, old: jnp.where(begun, new, old), after, state.inner)
        return moved, Waiting(state.count + 1, after)

    return optax.GradientTransformation(init, update)
