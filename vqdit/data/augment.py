"""Augmentation of training examples, each drawn from its own generator."""

import numpy as np

from vqdit.typing import Component

Pixels = np.ndarray
Pair = tuple[np.ndarray, np.ndarray]


class Augmentation(Component):
    """Changes one stored image, uint8 [h, w, c], at random."""

    def apply(self, image: Pixels, generator: np.random.Generator) -> Pixels:
        """Returns the changed image; draws only from `generator`."""
        raise TypeError(f"{type(self).__name__} must define apply")

    def exchange(self, pair: Pair, generator: np.random.Generator) -> Pair:
        """Returns the tokens of an image and of its mirror image, those of the changed one first.

        The draws are those of `apply`. Only what does nothing but mirror an image can do this.
        """
        raise TypeError(f"{type(self).__name__} changes pixels, and tokens have none")

    @property
    def mirrors(self) -> bool:
        """True if it does nothing but mirror, so that `exchange` can do the same to tokens."""
        return False


class HorizontalFlip(Augmentation):
    """Mirrors left and right in a share of the examples.

    Attributes:
        probability: of a mirrored image.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"HorizontalFlip needs probability in [0, 1], got {self.probability}")

    def apply(self, image: Pixels, generator: np.random.Generator) -> Pixels:
        return image[:, ::-1] if generator.random() < self.probability else image

    def exchange(self, pair: Pair, generator: np.random.Generator) -> Pair:
        return (pair[1], pair[0]) if generator.random() < self.probability else pair

    @property
    def mirrors(self) -> bool:
        return True


class Affine(Augmentation):
    """Turns, scales and shifts, with bilinear interpolation; what comes in from outside is black.

    Attributes:
        rotate: largest angle in degrees, either way.
        scale: largest change of size, as a share: 0.1 is from 1 / 1.1 to 1.1.
        shift: largest shift along each axis, as a share of its length.
    """

    rotate: float = 10.0
    scale: float = 0.1
    shift: float = 0.05

    def __post_init__(self) -> None:
        if min(self.rotate, self.scale, self.shift) < 0.0:
            raise ValueError(
                "Affine needs rotate, scale and shift >= 0, got "
                f"rotate={self.rotate} scale={self.scale} shift={self.shift}"
            )

    def apply(self, image: Pixels, generator: np.random.Generator) -> Pixels:
        from scipy import ndimage

        angle = np.deg2rad(generator.uniform(-self.rotate, self.rotate))
        size = np.exp(generator.uniform(-1, 1) * np.log1p(self.scale))
        edge = np.asarray(image.shape[:2])
        shift = generator.uniform(-self.shift, self.shift, 2) * edge
        turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / size
        centre = (edge - 1) / 2
        offset = centre - turn @ (centre + shift)
        channels = [
            ndimage.affine_transform(
                image[..., channel].astype(np.float32), turn, offset, order=1, mode="constant"
            )
            for channel in range(image.shape[-1])
        ]
        return np.clip(np.round(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)
