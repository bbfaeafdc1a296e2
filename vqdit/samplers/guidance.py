"""Guidance: transforms of `Predict`, for both continuous predictions and logits.

Let c be the conditional prediction, u_i the prediction in which the modalities of branch i are
hidden, and w the prediction of a weak model for the same input. A scale of 1 disables guidance:

    guidance                         function      prediction
    classifier-free                  `guided`      u + scale (c - u)  =  c + (scale - 1) (c - u)
    several branches                 `guided`      c + sum_i (scale_i - 1) (c - u_i)
    autoguidance                     `autoguided`  c + (scale - 1) (c - w)
    in an interval of t              `Guide`       c outside of it
    rescaled to c's deviation        `Guide`       g (rescale std(c) / std(g) + 1 - rescale)
    CFG-Zero*                        `Guide`       (c.u / u.u) u in the place of u
    zero-init                        `Guide`       0 for t > 1 - zero_init
    first channels only              `Guide`       c in the other channels

g is the guided prediction of the rows above; standard deviations and dot products are per example.
Ho & Salimans, "Classifier-Free Diffusion Guidance", arXiv:2207.12598; several branches as in Li et
al., "OmniFlow", arXiv:2412.01169; Karras et al., "Guiding a Diffusion Model with a Bad Version of
Itself", arXiv:2406.02507. A learned variance is not guided; the variance of c is used.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp

from vqdit.processes import Flow, Gaussian
from vqdit.processes.base import Latents, Prediction, Process, Time, X
from vqdit.samplers.base import Predict
from vqdit.samplers.drawing import check_drawing, tempered
from vqdit.typing import Array, Bool, Component, Float, Named


class Guide(Component):
    """Options of guidance: when it is used, how predictions are corrected, and on which channels.

    All options except `interval` are for predictions of Gaussian processes, not for logits.

    Attributes:
        interval: the first and the last t at which predictions are guided. Kynkaanniemi et al.,
            "Applying Guidance in a Limited Interval", arXiv:2404.07724.
        rescale: in [0, 1]; 0 leaves the standard deviation of a guided prediction unchanged, 1
            replaces it by that of the conditional prediction; 0.7 is usual. Lin et al., "Common
            Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891, eq. 15 and 16.
        zero_star: whether to scale each unconditional prediction by the factor that brings it
            nearest to the conditional prediction. Fan et al., "CFG-Zero*", arXiv:2503.18886.
        zero_init: in [0, 1], length of the interval of t, ending at t = 1, in which the velocity is
            set to 0; only for Flow, where 0.02 or 0.04 are usual. From the same paper.
        channels: number of channels, from the first, that are guided; 0 guides all. Published DiT
            results guide 3 of 4 channels because of a bug in their code.
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
        self.require("rescale in [0, 1]", 0.0 <= self.rescale <= 1.0)
        self.require("zero_init in [0, 1]", 0.0 <= self.zero_init <= 1.0)
        self.require("channels >= 0", self.channels >= 0, "0 is all")

    def check(self, processes: Iterable[Process]) -> None:
        """Raises ValueError if these options are invalid for the processes."""
        gaussian = [process for process in processes if isinstance(process, Gaussian)]
        for field in ("rescale", "zero_star", "zero_init", "channels"):
            if getattr(self, field) and not gaussian:
                raise ValueError(
                    f"Guide.{field}={getattr(self, field)} is only for Gaussian processes, but "
                    "all processes are discrete; leave it out"
                )
        for process in gaussian:
            if self.zero_init and not (isinstance(process, Flow) and process.prediction == "v"):
                raise ValueError(
                    "Guide.zero_init is only for Flow, whose prediction is a velocity; got "
                    f"{process}; leave it at 0"
                )

    def combine(
        self,
        process: Process | None,
        conditional: Prediction,
        unconditional: tuple[Prediction, ...],
        scales: tuple[Float[Array, ""], ...],
        t: Time,
    ) -> Prediction:
        """Returns the guided prediction of one modality.

        Args:
            process: the modality's process; None treats the predictions as logits.
            conditional: the prediction to be guided.
            unconditional: predictions to guide away from: unconditional predictions, or the
                prediction of a weak model.
            scales: one guidance scale for each of these predictions.
            t: the modality's times.
        """
        if not isinstance(process, Gaussian):
            return self._moved(conditional, unconditional, scales, t)
        target, variance = process.split(conditional)
        others = tuple(process.split(prediction)[0] for prediction in unconditional)
        if self.zero_star:
            others = tuple(optimal_scale(target, other) * other for other in others)
        guided = self._moved(target, others, scales, t)
        if self.rescale:
            guided = rescaled(guided, target, self.rescale)
        if self.channels:
            parts = guided[..., : self.channels], target[..., self.channels :]
            guided = jnp.concatenate(parts, axis=-1)
        if self.zero_init:
            guided = jnp.where(t[..., None] > 1.0 - self.zero_init, 0.0, guided)
        return guided if variance is None else jnp.concatenate([guided, variance], axis=-1)

    def _moved(
        self,
        conditional: Prediction,
        unconditional: tuple[Prediction, ...],
        scales: tuple[Float[Array, ""], ...],
        t: Time,
    ) -> Prediction:
        low, high = self.interval
        is_inside = ((t >= low) & (t <= high))[..., None]
        return conditional + sum(
            jnp.where(is_inside, scale - 1.0, 0.0) * (conditional - other)
            for scale, other in zip(scales, unconditional, strict=True)
        )


def optimal_scale(conditional: Latents, unconditional: Latents) -> Float[Array, "b 1 1"]:
    """Returns, per example, the factor that brings `unconditional` nearest to `conditional`."""
    dot = jnp.sum(conditional * unconditional, axis=(1, 2), keepdims=True)
    return dot / (jnp.sum(unconditional**2, axis=(1, 2), keepdims=True) + 1e-8)


def rescaled(guided: Latents, conditional: Latents, share: float) -> Latents:
    """Scales each guided example g by share std(c) / std(g) + 1 - share; c is `conditional`."""
    old, new = (jnp.std(x, axis=(1, 2), keepdims=True) for x in (conditional, guided))
    return share * guided * (old / jnp.maximum(new, 1e-8)) + (1.0 - share) * guided


class Branch(NamedTuple):
    """One direction of guidance: away from the prediction in which some modalities are hidden.

    Attributes:
        hidden: True for the modalities that are hidden in the unconditional prediction.
        scale: guidance scale of each target; 1 disables guidance.
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
    """Returns `predict` with classifier-free guidance.

    Args:
        predict: the network. It runs once, on a batch with a copy of the examples for each branch
            and the conditional prediction.
        unknown: values of all modalities at t = 1; they replace the values of hidden modalities.
        branches: the directions; if there are none, `predict` is returned unchanged.
        guide: the options of guidance.
        processes: processes of the targets; predictions of other targets are treated as logits.
    """
    if not branches:
        return predict

    def transformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        predictions = predict(*with_branches(x, t, unknown, branches))
        result = {}
        for name, prediction in predictions.items():
            conditional, *others = jnp.split(prediction, 1 + len(branches))
            scales = tuple(branch.scale[name] for branch in branches)
            result[name] = guide.combine(
                processes.get(name), conditional, tuple(others), scales, t[name]
            )
        return Named(result)

    return transformed


def with_branches(
    x: Named[X], t: Named[Float[Array, "b _"]], unknown: Named[X], branches: tuple[Branch, ...]
) -> tuple[Named[X], Named[Float[Array, "n _"]]]:
    """Returns x and t with one copy per branch appended to the batch; a copy hides modalities."""
    parts = [(x, t), *(_hide(x, t, unknown, branch.hidden) for branch in branches)]
    xs, ts = zip(*parts, strict=True)
    return _stack(xs), _stack(ts)


def autoguided(
    predict: Predict,
    weak: Predict,
    scale: Named[Float[Array, ""]],
    guide: Guide = Guide(),  # noqa: B008 (a component is immutable)
    processes: Named[Process] = Named(),  # noqa: B008 (as above)
) -> Predict:
    """Returns `predict` guided away from the prediction of a weak model for the same input.

    Args:
        predict: the network.
        weak: a smaller or less trained network of the same task.
        scale: guidance scale of each target; 1 disables guidance.
        guide: the options of guidance.
        processes: processes of the targets; predictions of other targets are treated as logits.
    """

    def transformed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Float[Array, "b _ _"]]:
        strong, other = predict(x, t), weak(x, t)
        return Named(
            {
                n: guide.combine(processes.get(n), strong[n], (other[n],), (scale[n],), t[n])
                for n in strong
            }
        )

    return transformed


def sharpened(
    predict: Predict, names: tuple[str, ...], *, temperature: float = 1.0, top_p: float = 1.0
) -> Predict:
    """Returns `predict` with a temperature and a nucleus on the logits of some modalities.

    This must be the last transform, as codes outside the nucleus get the logit minus infinity.

    Args:
        predict: the network.
        names: names of discrete modalities.
        temperature: divisor of the logits, > 0; 1 leaves them unchanged.
        top_p: in (0, 1]; the most likely codes that together reach this probability are kept.

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
