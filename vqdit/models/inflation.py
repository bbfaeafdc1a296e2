"""Initialises an autoencoder of clips with the parameters of an autoencoder of images.

A kernel of the image network becomes the newest slice in time of the kernel of the video network,
whose other slices are zero. Parts that exist only in the video network begin as identities. So a
clip of one frame has the tokens and pixels of the image network, and a clip of equal frames has
copies of these in every frame. Yu et al., "MAGVIT", arXiv:2212.05199, section 3.1, uses the centre
slice, which is not causal.
"""

from typing import Any

import jax.numpy as jnp

from vqdit.models.autoencoder import LeveledAutoencoder
from vqdit.models.base import Autoencoder
from vqdit.models.video import VideoAutoencoder
from vqdit.typing import Array, Params

SHARED = ("channels", "patch", "groups")
"""Fields that both networks must have in common."""


def can_inflate(model: Autoencoder, source: Any) -> bool:
    """Returns whether a network of clips can start from this network of images."""
    is_image = isinstance(source, LeveledAutoencoder) and not isinstance(source, VideoAutoencoder)
    return isinstance(model, VideoAutoencoder) and is_image


def inflated(model: Autoencoder, source: Autoencoder, fresh: Params, found: Params) -> Params:
    """Returns the parameters of an autoencoder of clips.

    Args:
        model: the autoencoder of clips.
        source: the autoencoder of images; see `can_inflate`.
        fresh: initial parameters of `model`.
        found: parameters of `source`.

    Raises:
        ValueError: if the widths or other fields of the two networks do not fit.
    """
    _check(model, source)
    merged, left = _merged(fresh, found, "")
    if left:
        raise ValueError(
            f"a {type(model).__name__} cannot start from this {type(source).__name__}: the layer "
            f"{left[0]} of the latter is missing in the former, or has another size there; use the "
            "same fields in both networks"
        )
    return merged


def _check(model: Autoencoder, source: Autoencoder) -> None:
    wanted = {name: getattr(source, name) for name in SHARED} | {"norm": "group"}
    strides = (2,) * (len(wanted["channels"]) - 1)
    for axis in ("space_strides", "decoder_space_strides"):
        if getattr(model, axis) not in ((), strides):
            wanted[axis] = strides
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise ValueError(
                f"a {type(model).__name__} that starts from this {type(source).__name__} needs "
                f"{name}={value!r}, got {getattr(model, name)!r}"
            )


def _merged(fresh: Any, found: Any, path: str) -> tuple[Any, list[str]]:
    """Returns the parameters at a path, and the paths of the parameters that do not fit."""
    if not isinstance(fresh, dict) or not isinstance(found, dict):
        if isinstance(fresh, dict) or isinstance(found, dict) or not _fits(fresh, found):
            return fresh, [path]
        return _placed(fresh, found), []
    result, left = dict(fresh), [f"{path}{name}" for name in found if name not in fresh]
    for name, part in fresh.items():
        if name in found:
            result[name], more = _merged(part, found[name], f"{path}{name}/")
            left += more
        elif "attention" in name or "quant" in name:  # others begin as identities
            left.append(f"{path}{name}")
    return result, left


def _kernel(shape: tuple[int, ...], axes: int) -> tuple[int, ...]:
    """Returns the shape of a kernel, with leading axes of length 1 up to `axes` axes."""
    return (1,) * (axes - len(shape)) + shape if len(shape) > 1 else shape


def _fits(fresh: Array, found: Array) -> bool:
    axes = max(fresh.ndim, found.ndim)
    mine, theirs = _kernel(fresh.shape, axes), _kernel(found.shape, axes)
    pairs = zip(mine[:-2], theirs[:-2], strict=False)
    is_within = all(a % 2 == b % 2 == 1 and a >= b for a, b in pairs)
    return is_within and mine[-2:] == theirs[-2:] and len(mine) == len(theirs)


def _placed(fresh: Array, found: Array) -> Array:
    """Pads a kernel with zeros to the shape of `fresh`: it is last in time and centred in space."""
    axes = max(fresh.ndim, found.ndim)
    mine, theirs = _kernel(fresh.shape, axes), _kernel(found.shape, axes)
    kernel = jnp.asarray(found).reshape(theirs)
    around = [(0, 0)] * len(mine)
    for axis, (large, small) in enumerate(zip(mine[:-2], theirs[:-2], strict=True)):
        before = large - small if axis == 0 and len(mine) == 5 else (large - small) // 2
        around[axis] = (before, large - small - before)
    return jnp.pad(kernel, around).reshape(fresh.shape).astype(fresh.dtype)
