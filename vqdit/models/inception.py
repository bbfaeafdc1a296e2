"""The Inception network of 2015 whose features define FID, as a function of its parameters.

Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567, in the version of
TensorFlow's file inception-2015-12-05: 1008 classes, averages that do not count padding, and a
maximum instead of an average in the last block. Batch normalisation is part of the convolutions.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from vqdit.typing import Array, Float, Params

EDGE = 299
"""Height and width of the input in pixels."""
SPATIAL_CHANNELS = 7
"""Number of channels of the spatial features."""
WINDOW, ONE, TWO = (1, 3, 3, 1), (1, 1, 1, 1), (1, 2, 2, 1)


class InceptionOutput(NamedTuple):
    """What the network gives for pictures.

    Attributes:
        features: last activations, averaged over positions; FID compares their distributions.
        logits: logits of the classes without the bias, as the Inception Score uses them.
        spatial: the first seven channels of the first branch of the block Mixed_6d at each of 17 x
            17 positions; sFID compares their distributions.
    """

    features: Float[Array, "b 2048"]
    logits: Float[Array, "b 1008"]
    spatial: Float[Array, "b 2023"]


def inception(params: Params, x: Float[Array, "b 299 299 3"]) -> InceptionOutput:
    """Applies the network to pictures in about [-1, 1].

    Args:
        params: `kernel` and `bias` by name of the convolution, as in torchvision, and `fc`, the
            kernel of the layer of the logits.
        x: pictures.
    """
    conv = functools.partial(_conv, params)
    x = conv("Conv2d_1a_3x3", x, stride=2)
    x = conv("Conv2d_2a_3x3", x, padding="VALID")
    x = _max(conv("Conv2d_2b_3x3", x))
    x = conv("Conv2d_3b_1x1", x)
    x = _max(conv("Conv2d_4a_3x3", x, padding="VALID"))
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = _block(params, name, x, ["1x1"], ["5x5_1", "5x5_2"], _numbered("3x3dbl", 3))
    x = _halved(params, "Mixed_6a", x, ["3x3"], _numbered("3x3dbl", 3))
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d"):
        x = _block(params, name, x, ["1x1"], _numbered("7x7", 3), _numbered("7x7dbl", 5))
    spatial = x[..., :SPATIAL_CHANNELS].reshape(len(x), -1)
    x = _block(params, "Mixed_6e", x, ["1x1"], _numbered("7x7", 3), _numbered("7x7dbl", 5))
    x = _halved(params, "Mixed_7a", x, _numbered("3x3", 2), _numbered("7x7x3", 4))
    for name, pool in (("Mixed_7b", _average), ("Mixed_7c", _max_same)):
        x = _last(params, name, x, pool)
    features = jnp.mean(x, axis=(1, 2))
    return InceptionOutput(features, features @ params["fc"], spatial)


def _numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(1, count + 1)]


def _conv(params: Params, name: str, x: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """Applies a convolution and a ReLU; strides of 2 have no padding."""
    weights = params[name]
    y = lax.conv_general_dilated(
        x,
        weights["kernel"],
        (stride, stride),
        padding if stride == 1 else "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return jax.nn.relu(y + weights["bias"])


def _branch(params: Params, block: str, x: Array, names: list[str], stride: int = 1) -> Array:
    """Applies a chain of convolutions, of which the last one has the stride."""
    for name in names:
        last = stride if name == names[-1] else 1
        x = _conv(params, f"{block}.branch{name}", x, stride=last)
    return x


def _block(params: Params, block: str, x: Array, *branches: list[str]) -> Array:
    pooled = _branch(params, block, _average(x), ["_pool"])
    parts = [_branch(params, block, x, names) for names in branches]
    return jnp.concatenate([*parts, pooled], axis=-1)


def _halved(params: Params, block: str, x: Array, *branches: list[str]) -> Array:
    parts = [_branch(params, block, x, names, stride=2) for names in branches]
    return jnp.concatenate([*parts, _max(x)], axis=-1)


def _last(params: Params, block: str, x: Array, pool: Callable[[Array], Array]) -> Array:
    """Applies a block whose wide branches end in a 1x3 and a 3x1 convolution, concatenated."""
    parts = [_branch(params, block, x, ["1x1"])]
    for names, ends in ((["3x3_1"], "3x3_2"), (["3x3dbl_1", "3x3dbl_2"], "3x3dbl_3")):
        wide = _branch(params, block, x, names)
        parts += [_branch(params, block, wide, [f"{ends}{end}"]) for end in "ab"]
    parts.append(_branch(params, block, pool(x), ["_pool"]))
    return jnp.concatenate(parts, axis=-1)


def _max(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, WINDOW, TWO, "VALID")


def _max_same(x: Array) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, WINDOW, ONE, "SAME")


def _average(x: Array) -> Array:
    """Returns the mean of each 3x3 window, without positions outside the image."""
    counts = lax.reduce_window(jnp.ones((1, *x.shape[1:3], 1)), 0.0, lax.add, WINDOW, ONE, "SAME")
    return lax.reduce_window(x, 0.0, lax.add, WINDOW, ONE, "SAME") / counts
