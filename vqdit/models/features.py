"""Networks whose features measure the perceptual similarity of two images."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from vqdit.typing import Array, Component, Float, Params

VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class Features(Component):
    """Base class of networks with frozen parameters that map data in [-1, 1] to features.

    A subclass can wrap any function of arrays or any Flax module. Configs can name your own
    subclasses if `VQDIT_PARTS` lists them; see docs/adding_a_quantizer.md.
    """

    def load(self) -> Params:
        """Returns the parameters as NumPy or JAX arrays; called once, before training."""
        raise TypeError(f"{type(self).__name__} must define the method 'load'")

    def like(self) -> Params:
        """Returns arrays with the structure and shapes of `load`, for `jax.eval_shape`."""
        raise TypeError(f"{type(self).__name__} must define the method 'like'")

    def apply(self, params: Params, x: Float[Array, "b *size c"]) -> Sequence[Array]:
        """Returns features [b, ...], such as logits, or the activations of several layers."""
        raise TypeError(f"{type(self).__name__} must define the method 'apply'")


class VGG16(nn.Module):
    """The convolutional part of VGG-16, which returns the activations of its five stages.

    Simonyan & Zisserman, arXiv:1409.1556, configuration D.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b _ _ c"]]:
        """Returns the activations of the stages, each with half the edge of the previous one."""
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
    """Returns parameters of `VGG16` that are all zero."""
    params, channels = {}, 3
    for stage, widths in enumerate(VGG16_STAGES):
        for number, width in enumerate(widths):
            params[f"stage_{stage}_conv_{number}"] = {
                "kernel": jnp.zeros((3, 3, channels, width)),
                "bias": jnp.zeros(width),
            }
            channels = width
    return params
