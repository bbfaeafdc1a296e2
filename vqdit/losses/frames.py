"""Losses of clips: losses of images on every frame, and the change from frame to frame."""

import jax.numpy as jnp

from vqdit.losses.perceptual import Data, Perceptual
from vqdit.typing import Array, Float, Params


class PerFrame(Perceptual):
    """Applies a loss between images to each frame, and averages over the frames.

    Attributes:
        loss: the loss between images; its `weight` is ignored, the weight of `PerFrame` is used.
    """

    loss: Perceptual

    @property
    def name(self) -> str:
        return self.loss.name

    def check(self, size: tuple[int, ...], channels: int) -> None:
        require_clips(self, size)
        self.loss.check(size[1:], channels)

    def load(self) -> Params:
        return self.loss.load()

    def like(self) -> Params:
        return self.loss.like()

    def distance(self, params: Params, x: Data, y: Data) -> Float[Array, " b"]:
        images = (data.reshape(-1, *data.shape[2:]) for data in (x, y))
        return jnp.mean(self.loss.distance(params, *images).reshape(x.shape[:2]), axis=1)


class TemporalDifference(Perceptual):
    """The mean absolute error of the change from frame to frame, |(y_t+1 - y_t) - (x_t+1 - x_t)|.

    It is 0 if y - x is the same image in every frame, and high if y flickers.
    """

    @property
    def name(self) -> str:
        return "temporal_difference"

    def check(self, size: tuple[int, ...], channels: int) -> None:
        del channels
        require_clips(self, size)
        if size[0] < 2:
            raise ValueError(
                f"{type(self).__name__} needs clips of 2 frames or more, got {size[0]}"
            )

    def load(self) -> Params:
        return {}

    def like(self) -> Params:
        return {}

    def distance(self, params: Params, x: Data, y: Data) -> Float[Array, " b"]:
        del params
        return jnp.mean(jnp.abs(jnp.diff(y - x, axis=1)), axis=tuple(range(1, x.ndim)))


def require_clips(loss: Perceptual, size: tuple[int, ...]) -> None:
    """Raises ValueError unless data of this size are clips."""
    if len(size) != 3:
        raise ValueError(
            f"{type(loss).__name__} needs clips of frames, rows and columns, got size "
            f"{'x'.join(map(str, size))}"
        )
