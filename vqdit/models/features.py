"""Networks whose features say how alike two pictures look to a person."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Params

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Features(Component):
    """A network with fixed parameters, from data in [-1, 1] to one or several features.

    One of your own derives from this class: any function of arrays, any Flax module. Configs name
    it by `VQDIT_PARTS`; see docs/adding_a_quantizer.md.
    """

    def load(self) -> Params:
        """Returns the parameters, as arrays of NumPy or JAX; called once, before training."""
        raise TypeError(f"{type(self).__name__} must define load")

    def like(self) -> Params:
        """Returns arrays of the structure that `load` returns: for `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} must define like")

    def apply(self, params: Params, x: Float[Array, "b *size c"]) -> Sequence[Array]:
        """Returns features [b, ...], such as logits, or the activations of several layers."""
        raise TypeError(f"{type(self).__name__} must define apply")


class VGG16(nn.Module):
    """The convolutions of VGG-16: the activations at the end of its five stages.

    Simonyan & Zisserman, arXiv:1409.1556, configuration D.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ c"]]:
        """Returns the activations; the edge of each is half of the one before."""
        outputs = []
        for stage, widths in enumerate(VGG16_STAGES):
            if stage > 0:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for number, width in enumerate(widths):
                name = f"stage_{stage}_conv_{number}"
                x = nn.relu(nn.Conv(width, (3, 3), padding=1, name=name)(x))
            outputs.append(x)
        return outputs


def blank_vgg16() -> Params:
    """Returns zeros of the structure of the parameters of `VGG16`."""
    params, channels = {}, 3
    for stage, widths in enumerate(VGG16_STAGES):
        for number, width in enumerate(widths):
            params[f"stage_{stage}_conv_{number}"] = {
                "kernel": jnp.zeros((3, 3, channels, width)),
                "bias": jnp.zeros(width),
            }
            channels = width
    return params
