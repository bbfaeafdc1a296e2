"""Transformer tokenizers, whose codes form the grid of patches or a short sequence.

They support images, and signals with one axis.

ViTTokenizer: Yu et al., "ViT-VQGAN", arXiv:2110.04627. Encoder and decoder are transformers over
patches, and every patch has one latent vector.

TiTok: Yu et al., "An Image is Worth 32 Tokens", arXiv:2406.07550. The encoder appends n learned
queries to the patches and returns only the outputs at the queries. The decoder appends the n
latents to one mask token per patch and returns only the outputs at the mask tokens.
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from vqdit.models.base import Autoencoder
from vqdit.nn.conv import Mask
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import positions
from vqdit.nn.mlp import MLP
from vqdit.nn.patches import fold, unfold
from vqdit.nn.transformer import Transformer
from vqdit.typing import Array, Float

SIZES = {
    "S": {"depth": 8, "width": 512, "heads": 8},
    "B": {"depth": 12, "width": 768, "heads": 12},
    "L": {"depth": 24, "width": 1024, "heads": 16},
}
"""The published sizes of TiTok; ViT-VQGAN also uses S and B."""
NORMAL = nn.initializers.normal(0.02)


class PatchTransformers(Autoencoder):
    """Base class of autoencoders whose encoder and decoder are transformers over patches.

    Attributes:
        patch: edge of a patch in pixels or samples; must divide the size of the data.
        depth: number of blocks of the encoder, and also of the decoder.
        width: width of the tokens; a multiple of `heads` and, for the position embeddings, of 4.
        heads: number of attention heads.
        mlp_ratio: hidden width of the MLP divided by `width`.
        mlp: "gelu" as published, or the gated "swiglu" with the same number of parameters.
        dtype: precision of the matrix products; parameters, norms and residual stream stay float32.
        remat: True recomputes each block in the backward pass, which needs much less memory and a
            third more time.
    """

    patch: int = 8
    depth: int = 8
    width: int = 512
    heads: int = 8
    mlp_ratio: int = 4
    mlp: MLP = "gelu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        for field in ("patch", "depth", "width", "heads", "mlp_ratio"):
            self.require(f"{field} >= 1", getattr(self, field) >= 1)
        rule = f"width to be a multiple of 4 and of heads={self.heads}"
        self.require(rule, self.width % 4 == 0 and self.width % self.heads == 0)

    @classmethod
    def named(cls, name: str, **fields: Any) -> Any:
        """Returns a published model by its size and patch, such as "B/16".

        Raises:
            ValueError: if the name is unknown.
        """
        size, _, patch = name.partition("/")
        if size not in SIZES or not patch.isdigit():
            raise ValueError(
                f"unknown {cls.__name__} {name!r}; use a size of {', '.join(SIZES)}, a slash "
                "and a patch, such as 'B/16'"
            )
        return cls(**{**SIZES[size], "patch": int(patch), **fields})

    @property
    def downsampling(self) -> int:
        return self.patch

    @property
    def reason(self) -> str:
        return "the patch size"

    @property
    def last_layer(self) -> tuple[str, ...]:
        return ("decoder", "pixels", "kernel")

    def transformer(self) -> Transformer:
        """Returns the module of the transformer blocks; to be called in compact methods."""
        hidden = self.mlp_ratio * self.width
        fields = (self.depth, self.heads, hidden, self.mlp, self.dtype, self.remat)
        return Transformer(*fields, name="transformer")

    def embed(self, x: Float[Array, "b *size c"]) -> Float[Array, "b l d"]:
        """Returns one token per patch, with position embedding; to be called in compact methods."""
        size = x.shape[1:-1]
        grid = tuple(edge // self.patch for edge in size)
        h = fold(x.reshape(x.shape[0], -1, x.shape[-1]), size, self.patch)
        h = nn.Dense(self.width, kernel_init=XAVIER, dtype=self.dtype, name="patch")(h)
        return h.astype(jnp.float32) + positions(grid, self.width)

    def pixels(
        self, h: Float[Array, "b l d"], grid: tuple[int, ...], channels: int
    ) -> Float[Array, "b *size c"]:
        """Maps one token per patch to float32 data; to be called in compact methods."""
        h = nn.Dense(channels * self.patch ** len(grid), kernel_init=XAVIER, name="pixels")(h)
        size = tuple(edge * self.patch for edge in grid)
        return unfold(h, size, self.patch).reshape(h.shape[0], *size, channels)


class ViTTokenizer(PatchTransformers):
    """A transformer autoencoder with one code per patch.

    Its position embeddings are sines and cosines, so it can tokenize sequences of any length, and
    images of any size that is a multiple of the patch.
    """

    def encoder(self, width: int) -> nn.Module:
        return _GridEncoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _GridDecoder(self, channels)


class _GridEncoder(nn.Module):
    config: ViTTokenizer
    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *size c"], mask: Mask = None
    ) -> Float[Array, "b *grid e"]:
        config = self.config
        h = config.transformer()(config.embed(x), mask)
        grid = (edge // config.patch for edge in x.shape[1:-1])
        return nn.Dense(self.width, kernel_init=XAVIER, name="out")(h).reshape(len(x), *grid, -1)


class _GridDecoder(nn.Module):
    config: ViTTokenizer
    channels: int

    @nn.compact
    def __call__(
        self, z: Float[Array, "b *grid d"], mask: Mask = None
    ) -> Float[Array, "b *size c"]:
        config, grid = self.config, z.shape[1:-1]
        h = z.reshape(len(z), -1, z.shape[-1])
        h = nn.Dense(config.width, kernel_init=XAVIER, name="in")(h)
        h = config.transformer()(h + positions(grid, config.width), mask)
        return config.pixels(h, grid, self.channels)


class TiTok(PatchTransformers):
    """A transformer autoencoder with a short sequence of codes, whose grid is (tokens,).

    Attributes:
        size: height and width of the images, or length of the sequences, which the decoder cannot
            infer from the codes.
        tokens: number of codes per example. Published: 32, 64 or 128 for 256x256 pixels.
    """

    size: tuple[int, ...] = (32, 32)
    tokens: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("tokens >= 1", self.tokens >= 1)
        self.require("size to be positive", min(self.size, default=0) >= 1)
        super().grid(self.size)

    def grid(self, size: tuple[int, ...]) -> tuple[int, ...]:
        if size != self.size:
            given, own = ("x".join(map(str, edges)) for edges in (size, self.size))
            raise ValueError(
                f"this TiTok is for images of {own} pixels, not {given}; set its size to {size}"
            )
        return (self.tokens,)

    def real(self, length: Any) -> Any:
        raise ValueError(
            f"TiTok has {self.tokens} tokens for every length, so it cannot represent the end of "
            "a sequence; use ConvAutoencoder or ViTTokenizer for varying lengths"
        )

    @property
    def last_layer(self) -> tuple[str, ...]:
        return ("decoder", "smooth", "kernel")

    @property
    def patches(self) -> tuple[int, ...]:
        """The grid of patches."""
        return super().grid(self.size)

    def encoder(self, width: int) -> nn.Module:
        return _SequenceEncoder(self, width)

    def decoder(self, channels: int) -> nn.Module:
        return _SequenceDecoder(self, channels)


class _SequenceEncoder(nn.Module):
    config: TiTok
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b *size c"], mask: None = None) -> Float[Array, "b n e"]:
        del mask  # `TiTok.real` rejects varying lengths
        config = self.config
        config.grid(x.shape[1:-1])
        queries = self.param("queries", NORMAL, (config.tokens, config.width))
        queries = jnp.broadcast_to(queries, (len(x), *queries.shape))
        h = config.transformer()(jnp.concatenate([config.embed(x), queries], axis=1))
        return nn.Dense(self.width, kernel_init=XAVIER, name="out")(h[:, -config.tokens :])


class _SequenceDecoder(nn.Module):
    config: TiTok
    channels: int

    @nn.compact
    def __call__(self, z: Float[Array, "b n d"], mask: None = None) -> Float[Array, "b *size c"]:
        del mask  # `TiTok.real` rejects varying lengths
        config, kernel = self.config, (3,) * len(self.config.size)
        hidden = self.param("mask", NORMAL, (config.width,))
        hidden = hidden + positions(config.patches, config.width)
        h = nn.Dense(config.width, kernel_init=XAVIER, name="in")(z)
        h = h + self.param("positions", NORMAL, (config.tokens, config.width))
        h = jnp.concatenate([jnp.broadcast_to(hidden, (len(z), *hidden.shape)), h], axis=1)
        h = config.transformer()(h)[:, : len(hidden)]
        x = config.pixels(h, config.patches, self.channels)
        # As published, smooths the borders between patches; it is the identity at initialisation.
        return nn.Conv(self.channels, kernel, kernel_init=_identity, name="smooth")(x)


def _identity(_: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """Initialises a convolution of width 3 as the identity."""
    centre = (1,) * (len(shape) - 2)
    return jnp.zeros(shape, dtype).at[centre].set(jnp.eye(*shape[-2:], dtype=dtype))
