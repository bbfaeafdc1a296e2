"""DiT: a diffusion transformer over the tokens of one or several modalities.

The network embeds every modality, concatenates the tokens of all modalities, applies the blocks,
and applies one head per modality. The time of a modality modulates its tokens. The output is
exactly 0 at initialisation. `vqdit.models.blocks` defines the blocks and `vqdit.models.network` the
network around them. Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748.
"""

import difflib
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vqdit.models.blocks import BlockConfig, Kind
from vqdit.models.network import Network, Predictions
from vqdit.models.sequence import Documents, Mask, Positions, Times, check_blocks
from vqdit.models.tokens import Tokens, doubled, routed, spans
from vqdit.nn.attention import Implementation
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import positions
from vqdit.nn.mlp import MLP
from vqdit.nn.norms import Norm
from vqdit.nn.patches import nearest
from vqdit.nn.rope import rotation
from vqdit.nn.stack import Remat
from vqdit.processes.base import X
from vqdit.random import stream
from vqdit.typing import Array, Component, Float, Key, Named, Params

Vectors = Named[Float[Array, "q k e"]]
SIZES = {
    "S": {"depth": 12, "dim": 384, "heads": 6},
    "B": {"depth": 12, "dim": 768, "heads": 12},
    "L": {"depth": 24, "dim": 1024, "heads": 16},
    "XL": {"depth": 28, "dim": 1152, "heads": 16},
}
"""The model sizes of the paper."""


class DiT(Component):
    """The diffusion transformer.

    Attributes:
        depth: number of blocks.
        dim: width of the tokens.
        heads: number of attention heads; must divide `dim`.
        patch: edge of the square (or cube) of positions that forms one token; must divide every
            grid.
        mlp_ratio: hidden width of the MLP divided by `dim`.
        dtype: precision of the matrix products. Parameters, norms and softmax stay float32.
        remat: which activations of a block the backward pass recomputes; see `vqdit.nn.stack`.
        block: kind of block, which determines the use of the time and the condition; see
            `vqdit.models.blocks`.
        positions: "sincos" adds position embeddings to the tokens, "rope" rotates queries and
            keys, "both" does both.
        norm: "layer" for layer norm, "rms" for RMS norm.
        qk_norm: True normalises queries and keys. This bounds the attention scores, which can
            otherwise grow until training in bfloat16 gives NaN.
        mlp: kind of MLP in the blocks.
        registers: number of learned extra tokens. Darcet et al., arXiv:2309.16588.
        attention: implementation of attention; "auto" chooses one for the target devices.
        time_shift: 0, or 1 for the frequencies that diffusers uses in its time embedding.
        mlp_eps: epsilon of the norm before the MLP in modulated blocks; all other norms use 1e-6.
        embedders: "shared" embeds time and label once for all blocks. "per_block", for adaln_zero,
            has separate embedders in each block, as in a DiT trained by diffusers; the heads use
            the embedders of the first block.
    """

    depth: int = 12
    dim: int = 384
    heads: int = 6
    patch: int = 2
    mlp_ratio: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = False
    block: Kind = "adaln_zero"
    positions: Positions = "sincos"
    norm: Norm = "layer"
    qk_norm: bool = False
    mlp: MLP = "gelu"
    registers: int = 0
    attention: Implementation = "auto"
    time_shift: Literal[0, 1] = 0
    mlp_eps: float = 1e-6
    embedders: Literal["shared", "per_block"] = "shared"

    def __post_init__(self) -> None:
        for field in ("depth", "dim", "heads", "patch", "mlp_ratio"):
            self.require(f"{field} >= 1", getattr(self, field) >= 1)
        self.require(f"heads to divide dim={self.dim}", self.dim % self.heads == 0)
        self.require("mlp_eps > 0", self.mlp_eps > 0.0, "1e-6 is usual")
        self.require("registers >= 0", self.registers >= 0)
        if self.registers and self.block == "mm_dit":
            raise ValueError(
                f"block='mm_dit' does not support registers, got registers={self.registers}; use "
                "registers=0 or another block"
            )
        if self.embedders == "per_block" and self.block != "adaln_zero":
            raise ValueError(
                f"embedders='per_block' needs block='adaln_zero', got block={self.block!r}; use "
                "embedders='shared'"
            )
        width = self.dim // self.heads
        if self.attention == "cudnn" and (self.dtype == "float32" or width % 8 or width > 128):
            raise ValueError(
                "attention='cudnn' needs dtype='bfloat16' and a head width (dim / heads) that is a "
                f"multiple of 8 and at most 128, got dtype={self.dtype!r} and head width {width}; "
                "use attention='auto'"
            )

    @classmethod
    def named(cls, name: str, **fields: Any) -> "DiT":
        """Returns a model of the paper by its size and patch, such as "XL/2".

        Args:
            name: one of `SIZES`, a slash and the patch (1, 2, 4 or 8).
            **fields: fields that override those of the published model.

        Raises:
            ValueError: if the name is unknown.
        """
        size, _, patch = name.partition("/")
        if size not in SIZES or patch not in {"1", "2", "4", "8"}:
            known = [f"{size}/{patch}" for size in SIZES for patch in (1, 2, 4, 8)]
            near = difflib.get_close_matches(name.upper(), known, n=1)
            raise ValueError(
                f"unknown DiT {name!r}; use one of the sizes {', '.join(SIZES)}, a slash and a "
                f"patch of 1, 2, 4 or 8, such as {(near or ['XL/2'])[0]!r}"
            )
        return cls(**{**SIZES[size], "patch": int(patch), **fields})

    def check(self, inputs: Named[Tokens]) -> None:
        """Raises ValueError unless the network supports these modalities."""
        check_blocks(inputs, self._config, self.patch)
        for name, tokens in inputs.items():
            if tokens.route != "tokens" and tokens.output:
                raise ValueError(
                    f"modality {name!r} has route={tokens.route!r}, which cannot have "
                    f"predictions, but output={tokens.output}; use route='tokens' or output=0"
                )
            if tokens.route == "adaln":
                continue
            patch = tokens.patch or self.patch
            if any(size % patch for size in tokens.grid):
                grid, near = "x".join(map(str, tokens.grid)), nearest(tokens.grid, patch)
                raise ValueError(
                    f"the grid of {name!r}, {grid}, is not divisible by the DiT's patch {patch}; "
                    f"use a grid of {near}, or patch=1"
                )
            if self.positions != "rope" or tokens.route == "cross":
                positions(tokens.grid, self.dim)
        if self.block == "mm_dit" and self.depth < 2 and routed(inputs, "cross"):
            raise ValueError(
                "mm_dit needs depth >= 2 if a modality has route='cross', as "
                f"{routed(inputs, 'cross')[0]!r} does, got depth={self.depth}"
            )
        if self.positions != "sincos":
            turned = routed(inputs, "tokens")
            if self.block == "mm_dit":
                turned += routed(inputs, "cross")
            rotation(tuple(inputs[n].folded(self.patch) for n in turned), self.dim // self.heads)

    def init(
        self, key: Key[Array, ""], inputs: Named[Tokens], vectors: Vectors | None = None
    ) -> Params:
        """Returns fresh parameters for these modalities.

        `vectors` are the code vectors of the tokenizers of some modalities. The code embeddings of
        these modalities are initialised as a random linear map of the vectors, so that similar
        codes have similar embeddings.
        """
        self.check(inputs)
        x, t = {}, {}
        for name, tokens in inputs.items():
            width, dtype = (tokens.codebooks, int) if tokens.codes else (tokens.width, float)
            x[name] = jnp.zeros((1, math.prod(tokens.grid), width), dtype)
            t[name] = jnp.zeros((1, 1))
        params: Any = self.network(inputs).init(key, Named(x), Named(t))["params"]
        for name, codes in (vectors or Named()).items():
            embed = params[f"{name}_embed"]
            start = _linear(stream(key, f"{name}_vectors"), codes, self.dim)
            params[f"{name}_embed"] = {"table": embed["table"].at[:, :-1].set(start)}
        return params

    def apply(
        self,
        params: Params,
        inputs: Named[Tokens],
        x: Named[X],
        t: Times,
        *,
        mask: Mask | None = None,
        documents: Documents | None = None,
    ) -> Predictions:
        """Returns the prediction for every modality that has a head, in float32.

        Args:
            params: parameters returned by `init`.
            inputs: description of every modality.
            x: codes (-1 where masked or dropped) or latents of every modality. In training, a
                modality with blocks has the noised codes followed by the clean codes [b, 2 l, q].
            t: time of every modality, scaled for the embedding: one per example, per block or per
                position.
            mask: True at positions that are not padding, for modalities of variable length.
            documents: for modalities with packed documents, number of the document at every
                position, or -1 for none. Tokens of different documents do not attend to each other.
                Tokens of other modalities attend to all documents, and all documents attend to
                them.
        """
        out: Any = self.network(inputs).apply({"params": params}, x, t, mask, documents)
        return out[0]

    def features(
        self,
        params: Params,
        inputs: Named[Tokens],
        x: Named[X],
        t: Times,
        *,
        after: tuple[int, ...],
        mask: Mask | None = None,
        documents: Documents | None = None,
    ) -> tuple[Predictions, Named[Float[Array, "n b _ d"]]]:
        """Returns the predictions of `apply`, and each modality's tokens after the blocks `after`.

        `after` has the numbers of the n blocks whose outputs are returned, from 1 to `depth`. The
        other arguments are those of `apply`.

        Raises:
            ValueError: if a number is not in [1, `depth`].
        """
        wrong = [number for number in after if not 1 <= number <= self.depth]
        if wrong:
            raise ValueError(f"the DiT has blocks 1 to {self.depth}, got {wrong[0]}")
        network = self.network(inputs, taps=after)
        out: Any = network.apply({"params": params}, x, t, mask, documents)
        found = spans(inputs, self.patch, doubled(inputs, x))
        return out[0], Named({name: out[2][:, :, span] for name, span in found.items()})

    def attend(
        self,
        params: Params,
        inputs: Named[Tokens],
        x: Named[X],
        t: Times,
        *,
        mask: Mask | None = None,
        documents: Documents | None = None,
    ) -> Float[Array, "n b l l"]:
        """Returns the attention weights of every block, averaged over heads.

        `out[n, b, i, j]` is the weight with which token i attends to token j in block n; `spans`
        has the tokens of each modality. The arguments are those of `apply`.
        """
        network = self.network(inputs, record="weights")
        out: Any = network.apply({"params": params}, x, t, mask, documents)
        return out[1]

    def spans(self, inputs: Named[Tokens]) -> dict[str, slice]:
        """Returns the slice of the sequence with the tokens of each modality."""
        return spans(inputs, self.patch)

    @property
    def _config(self) -> BlockConfig:
        return BlockConfig(
            block=self.block,
            dim=self.dim,
            heads=self.heads,
            hidden=self.mlp_ratio * self.dim,
            mlp=self.mlp,
            norm=self.norm,
            qk_norm=self.qk_norm,
            dtype=self.dtype,
            attention=self.attention,
            mlp_eps=self.mlp_eps,
        )

    def network(self, inputs: Named[Tokens], **watch: Any) -> Network:
        """Returns the Flax module over these modalities; `watch` are fields of `Network`."""
        return Network(
            config=self._config,
            depth=self.depth,
            patch=self.patch,
            positions=self.positions,
            registers=self.registers,
            remat=self.remat,
            time_shift=self.time_shift,
            embedders=self.depth if self.embedders == "per_block" else 0,
            inputs=inputs,
            **watch,
        )


def _linear(key: Key[Array, ""], vectors: Float[Array, "q k e"], dim: int) -> Float[Array, "q k d"]:
    """Standardises code vectors and maps them to `dim` channels by a random matrix."""
    centred = vectors - jnp.mean(vectors, axis=(0, 1))
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred**2) + 1e-12)
    return scaled @ XAVIER(key, (vectors.shape[-1], dim), jnp.float32)
