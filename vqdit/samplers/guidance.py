"""Guidance: transforms of `Predict`, for continuous predictions and for logits alike.

Classifier-free guidance moves a prediction away from the one that knows less,

    good + sum over branches of (scale - 1) * (good - bad),

on all channels (the published DiT tables used three of four by a slip). One branch is bad +
scale * (good - bad) of Ho & Salimans, "Classifier-Free Diffusion Guidance", arXiv:2207.12598.
Several branches, each without one modality, guide pair by pair, as in Li et al., "OmniFlow",
arXiv:2412.01169. With a worse network instead it is autoguidance: Karras et al., "Guiding a
Diffusion Model with a Bad Version of Itself", arXiv:2406.02507. What a prediction says of a
learned variance is not guided: it stays that of the good one.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp

from vqdit.processes import Flow, Gaussian
from vqdit.processes.base import Process, X
from vqdit.samplers.base import Predict
from vqdit.samplers.drawing import check_drawing, tempered
from vqdit.typing import Array, Bool, Component, Float, Named


class Guide(Component):
    """Where guidance acts, and how it is kept from overshooting.

    All but `interval` are for predictions of Gaussian processes, not for logits.

    Attributes:
        interval: the first and the last t in which a prediction is guided. Kynkaanniemi et al.,
            "Applying Guidance in a Limited Interval", arXiv:2404.07724.
        rescale: in [0, 1], how far an example gets back the standard deviation that it had before
            it was guided; 0.7 is usual. Lin et al., "Common Diffusion Noise Schedules and Sample
            Steps are Flawed", arXiv:2305.08891, eq. 15 and 16.
        zero_star: scales the bad prediction of each example to be nearest to the good one. Fan et
            al., "CFG-Zero*", arXiv:2503.18886.
        zero_init: in [0, 1], share of the time, from t = 1 on, in which the prediction is 0, so
            that nothing moves; for Flow, 0.02 or 0.04 are usual. Of the same paper.
        channels: how many channels, the first ones, are guided; 0 is all. 3 are those of the
            published DiT tables.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    zero_star: bool = False
    zero_init: float = 0.0
    channels: int = 0

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0.0 <= low < high <= 1.0:
            raise ValueError(
                f"Guide needs interval=(low, high) with 0 <= low < high <= 1, got {self.interval}"
            )
        for field in ("rescale", "zero_init"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"Guide needs {field} in [0, 1], got {getattr(self, field)}")
        if self.channels < 0:
            raise ValueError(f"Guide needs channels >= 0, got {self.channels}; 0 is all")

    def check(self, processes: Iterable[Process]) -> None:
        """Raises ValueError if predictions of these processes cannot be guided so."""
        gaussian = [process for process in processes if isinstance(process, Gaussian)]
        for field in ("rescale", "zero_star", "zero_init", "channels"):
            if getattr(self, field) and not gaussian:
                raise ValueError(
                    f"Guide.{field} changes predictions of Gaussian processes, not logits, and "
                    f"there are none; got {getattr(self, field)}, leave it out"
                )
        for process in gaussian:
            if self.zero_init and not (isinstance(process, Flow) and process.prediction == "v"):
                raise ValueError(
                    "Guide.zero_init is for the velocities of Flow, of which 0 moves nothing; got "
                    f"{process}; leave it at 0"
                )

    def combine(
        self,
        process: Process | None,
        good: Float[Array, "b l w"],
        bad: tuple[Float[Array, "b l w"], ...],
        scales: tuple[Float[Array, ""], ...],
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l w"]:
        """Returns the guided prediction of one modality; without a process, as one of logits."""
        if not isinstance(process, Gaussian):
            return self._moved(good, bad, scales, t)
        plain, variance = process.split(good)
        worse = tuple(process.split(prediction)[0] for prediction in bad)
        if self.zero_star:
            worse = tuple(optimal_scale(plain, part) * part for part in worse)
        guided = self._moved(plain, worse, scales, t)
        if self.rescale:
            guided = rescaled(guided, plain, self.rescale)
        if self.channels:
            parts = guided[..., : self.channels], plain[..., self.channels :]
            guided = jnp.concatenate(parts, axis=-1)
        if self.zero_init:
            guided = jnp.where(t[..., None] > 1.0 - self.zero_init, 0.0, guided)
        return guided if variance is None else jnp.concatenate([guided, variance], axis=-1)

    def _moved(
        self,
        good: Float[Array, "b l v"],
        bad: tuple[Float[Array, "b l v"], ...],
        scales: tuple[Float[Array, ""], ...],
        t: Float[Array, "b #l"],
    ) -> Float[Array, "b l v"]:
        low, high = self.interval
        is_inside = ((t >= low) & (t <= high))[..., None]
        return good + sum(
            jnp.where(is_inside, scale - 1.0, 0.0) * (good - worse)
            for scale, worse in zip(scales, bad, strict=True)
        )


def optimal_scale(good: Float[Array, "b l d"], bad: Float[Array, "b l d"]) -> Float[Array, "b 1 1"]:
    """Returns by what the bad prediction of each example is multiplied to be nearest the good."""
    dot = jnp.sum(good * bad, axis=(1, 2), keepdims=True)
    return dot / (jnp.sum(bad**2, axis=(1, 2), keepdims=True) + 1e-8)


def rescaled(
    guided: Float[Array, "b l d"], plain: Float[Array, "b l d"], share: float
) -> Float[Array, "b l d"]:
    """Returns `guided`, a share of it with the standard deviation of `plain`, by example."""
    old, new = (jnp.std(x, axis=(1, 2), keepdims=True) for x in (plain, guided))
    return share * guided * (old / jnp.maximum(new, 1e-8)) + (1.0 - share) * guided


class Branch(NamedTuple):
    """One direction of guidance.

    Attributes:
        hidden: which modalities the worse prediction does not know.
        scale: of every prediction; 1 leaves it as it is.
    """

    hidden: Named[Bool[Array, ""]]
    scale: Named[Float[Array, ""]]


def guided(
    predict: Predict,
    unknown: Named[X],
    branches: tuple[Branch, ...],
    guide: Guide = Guide(),  # noqa: B008 (a component is immutable)
    processes: Named[Process] = Named(),  # noqa: B008 (as above)
) -> Predict:
    """Returns the guided prediction.

    Args:
        predict: the network. All branches are one batch, so it runs once, on as many times more
            examples.
        unknown: what a modality is at t = 1.
        branches: the directions; none leaves `predict` as it is.
        guide: where guidance acts, and how it is kept in bounds.
        processes: of the targets; those not named are guided as logits are.
    """
    if not branches:
        return predict

    def transformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        parts = [(x, t), *(_hide(x, t, unknown, branch.hidden) for branch in branches)]
        xs, ts = zip(*parts, strict=True)
        predictions = predict(_stack(xs), _stack(ts))
        result = {}
        for name, prediction in predictions.items():
            good, *bad = jnp.split(prediction, len(parts))
            scales = tuple(branch.scale[name] for branch in branches)
            result[name] = guide.combine(processes.get(name), good, tuple(bad), scales, t[name])
        return Named(result)

    return transformed


def autoguided(
    good: Predict,
    bad: Predict,
    scale: Named[Float[Array, ""]],
    guide: Guide = Guide(),  # noqa: B008 (a component is immutable)
    processes: Named[Process] = Named(),  # noqa: B008 (as above)
) -> Predict:
    """Returns the prediction of a good network, guided away from a bad one that sees the same.

    Args:
        good: the network.
        bad: a smaller or less trained one of the same task.
        scale: of every prediction; 1 leaves it as it is.
        guide: where guidance acts, and how it is kept in bounds.
        processes: of the targets; those not named are guided as logits are.
    """

    def transformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        better, worse = good(x, t), bad(x, t)
        return Named(
            {
                n: guide.combine(processes.get(n), better[n], (worse[n],), (scale[n],), t[n])
                for n in better
            }
        )

    return transformed


def sharpened(
    predict: Predict, names: tuple[str, ...], *, temperature: float = 1.0, top_p: float = 1.0
) -> Predict:
    """Returns the prediction with the logits of some modalities less varied.

    It is the last of the transforms: what is left out has a logit of minus infinity.

    Args:
        predict: the network.
        names: of modalities of codes.
        temperature: what logits are divided by, > 0; 1 leaves them as they are.
        top_p: in (0, 1]: of each code only the likeliest values are left that together have at
            least this probability.

    Raises:
        ValueError: a number is out of range.
    """
    if temperature <= 0.0:
        raise ValueError(f"sharpened needs temperature > 0, got {temperature}")
    check_drawing("sharpened", temperature, top_p)

    def transformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        predictions = predict(x, t)
        result = {}
        for name in names:
            flat = predictions[name].astype(jnp.float32)
            logits = flat.reshape(*flat.shape[:2], x[name].shape[-1], -1)  # b l q k
            result[name] = tempered(logits, temperature, top_p).reshape(flat.shape)
        return predictions | result

    return transformed


def _hide(
    x: Named[X],
    t: Named[Float[Array, "b _"]],
    unknown: Named[X],
    hidden: Named[Bool[Array, ""]],
) -> tuple[Named[X], Named[Float[Array, "b _"]]]:
    x = x | {name: jnp.where(hide, unknown[name], x[name]) for name, hide in hidden.items()}
    t = t | {name: jnp.where(hide, 1.0, t[name]) for name, hide in hidden.items()}
    return x, t


def _stack(parts: tuple[Named[Array], ...]) -> Named[Array]:
    return Named({name: jnp.concatenate([part[name] for part in parts]) for name in parts[0]})
