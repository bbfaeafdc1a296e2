"""Augmentation of training examples; every example has its own random generator."""

import numpy as np

from vqdit.typing import Component

Pixels = np.ndarray
Pair = tuple[np.ndarray, np.ndarray]


class Augmentation(Component):
    """Base class of random augmentations of one stored image, uint8 [h, w, c]."""

    def apply(self, image: Pixels, generator: np.random.Generator) -> Pixels:
        """Returns the augmented image; all randomness comes from `generator`."""
        raise TypeError(f"{type(self).__name__} must define the method 'apply'")

    def exchange(self, pair: Pair, generator: np.random.Generator) -> Pair:
        """Applies a mirroring augmentation to encoded images, with the same draws as `apply`.

        Args:
            pair: tokens of an image, and tokens of its mirror image.
            generator: source of the randomness.

        Returns:
            The pair, swapped if `apply` would mirror the image.
        """
        raise TypeError(
            f"{type(self).__name__} changes pixels and cannot be applied to tokens; use "
            "HorizontalFlip"
        )

    @property
    def mirrors(self) -> bool:
        """True if the augmentation only mirrors images, so that `exchange` supports tokens."""
        return False


class HorizontalFlip(Augmentation):
    """Swaps left and right at random.

    Attributes:
        probability: probability that an image is mirrored.
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
    """Rotates, scales and shifts with bilinear interpolation; uncovered pixels become black.

    Attributes:
        rotate: largest rotation in degrees, in either direction.
        scale: largest relative change of size; 0.1 means factors from 1 / 1.1 to 1.1.
        shift: largest shift along each axis, as a fraction of the axis.
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
