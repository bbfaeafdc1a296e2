"""DiT: a transformer over the tokens of one modality or several, which knows their times.

Every modality is embedded, all tokens are concatenated and go through the blocks, and each modality
has its own head; every token is modulated by the time of its own modality. The output is exactly 0
at the start. Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv:2212.09748. What a
block is stands in `vqdit.models.blocks`, how they are put together in `vqdit.models.network`.
"""

import difflib
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vqdit.models.blocks import Kind, Layers
from vqdit.models.network import Network, Positions
from vqdit.models.tokens import Tokens, routed, spans
from vqdit.nn.attention import Implementation
from vqdit.nn.dense import XAVIER
from vqdit.nn.embeddings import positions
from vqdit.nn.mlp import MLP
from vqdit.nn.norms import Norm
from vqdit.nn.rope import rotation
from vqdit.nn.stack import Remat
from vqdit.processes.base import X
from vqdit.random import stream
from vqdit.typing import Array, Bool, Component, Float, Key, Named, Params

SIZES = {
    "S": {"depth": 12, "dim": 384, "heads": 6},
    "B": {"depth": 12, "dim": 768, "heads": 12},
    "L": {"depth": 24, "dim": 1024, "heads": 16},
    "XL": {"depth": 28, "dim": 1152, "heads": 16},
}
"""The published sizes."""


class DiT(Component):
    """The diffusion transformer.

    Attributes:
        depth: number of blocks.
        dim: width of the tokens.
        heads: attention heads; divides `dim`.
        patch: edge of the square (cube) of positions that makes one token; divides every grid.
        mlp_ratio: hidden width of the MLP over `dim`.
        dtype: precision of the matrix products. Parameters, norms and softmax stay float32.
        remat: recompute each block in the backward pass, all of it or what is not kept; see
            `vqdit.nn.stack`. "dots" costs little time and saves much of the memory.
        block: how time and condition come in; see `vqdit.models.blocks`.
        positions: "sincos" is added to the tokens, "rope" turns queries and keys.
        norm: layer norm, or RMS norm.
        qk_norm: normalise queries and keys, so that scores cannot grow: against NaN in bfloat16.
        mlp: of the blocks.
        registers: learned tokens beside the others. Darcet et al., arXiv:2309.16588.
        attention: what computes it; "auto" goes by what the program is compiled for.
        time_shift: 0, or 1 for the frequencies of the time embedding that diffusers has.
        mlp_eps: epsilon of the norm before the MLP of a modulated block; all others have 1e-6.
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

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(
                f"DiT needs heads that divide dim, got heads={self.heads} dim={self.dim}"
            )
        for field in ("depth", "dim", "heads", "patch", "mlp_ratio"):
            if getattr(self, field) < 1:
                raise ValueError(f"DiT needs {field} >= 1, got {getattr(self, field)}")
        if self.mlp_eps <= 0.0:
            raise ValueError(f"DiT needs mlp_eps > 0, got {self.mlp_eps}; 1e-6 is usual")
        if self.registers < 0:
            raise ValueError(f"DiT needs registers >= 0, got {self.registers}")
        if self.registers and self.block == "mm_dit":
            raise ValueError(
                f"mm_dit has weights for every modality and none for registers, got "
                f"registers={self.registers}; use 0, or another block"
            )
        width = self.dim // self.heads
        if self.attention == "cudnn" and (self.dtype == "float32" or width % 8 or width > 128):
            raise ValueError(
                "attention='cudnn' needs dtype='bfloat16' and heads of up to 128 channels that "
                f"divide by 8, got dtype={self.dtype!r} and {width} channels; use 'auto'"
            )

    @classmethod
    def named(cls, name: str, **fields: Any) -> "DiT":
        """Returns a published size such as "XL/2": the size, then the patch.

        Raises:
            ValueError: for an unknown name.
        """
        size, _, patch = name.partition("/")
        if size not in SIZES or patch not in {"1", "2", "4", "8"}:
            known = [f"{size}/{patch}" for size in SIZES for patch in (1, 2, 4, 8)]
            near = difflib.get_close_matches(name.upper(), known, n=1)
            raise ValueError(
                f"unknown DiT {name!r}; names are a size of {', '.join(SIZES)}, a slash and a "
                f"patch of 1, 2, 4, 8, such as {(near or ['XL/2'])[0]!r}"
            )
        return cls(**{**SIZES[size], "patch": int(patch), **fields})

    def check(self, inputs: Named[Tokens]) -> None:
        """Raises ValueError if the network cannot take these modalities."""
        for name, tokens in inputs.items():
            if tokens.route != "tokens" and tokens.output:
                raise ValueError(
                    f"{name!r} enters by the route {tokens.route!r}, which has no head, and needs "
                    f"output=0, got {tokens.output}; use route='tokens'"
                )
            if tokens.route == "adaln":
                continue
            patch = tokens.patch or self.patch
            if any(size % patch for size in tokens.grid):
                sizes = [
                    (size // patch * patch or patch, -(-size // patch) * patch)
                    for size in tokens.grid
                ]
                near = " or ".join(
                    "x".join(map(str, choice)) for choice in zip(*sizes, strict=True)
                )
                raise ValueError(
                    f"the grid of {name!r}, {'x'.join(map(str, tokens.grid))}, does not divide by "
                    f"the DiT's patch {patch}; nearest grids: {near}, or use patch=1"
                )
            if self.positions != "rope" or tokens.route == "cross":
                positions(tokens.grid, self.dim)
        if self.block == "mm_dit" and self.depth < 2 and routed(inputs, "cross"):
            raise ValueError(
                f"mm_dit needs depth >= 2 for {routed(inputs, 'cross')[0]!r}, which its last block "
                f"only looks at, got {self.depth}"
            )
        if self.positions != "sincos":
            turned = routed(inputs, "tokens")
            if self.block == "mm_dit":
                turned += routed(inputs, "cross")
            rotation(tuple(inputs[n].folded(self.patch) for n in turned), self.dim // self.heads)

    def init(
        self,
        key: Key[Array, ""],
        inputs: Named[Tokens],
        vectors: Named[Float[Array, "q k e"]] | None = None,
    ) -> Params:
        """Returns fresh parameters for these modalities.

        Args:
            key: of everything random.
            inputs: what the modalities are.
            vectors: of the codes of some modalities. Their embeddings start as a linear map of
                them, as latents are embedded, so that codes that look alike start alike.
        """
        self.check(inputs)
        x, t = {}, {}
        for name, tokens in inputs.items():
            length = math.prod(tokens.grid)
            x[name] = (
                jnp.zeros((1, length, tokens.codebooks), jnp.int32)
                if tokens.codes
                else jnp.zeros((1, length, tokens.width))
            )
            t[name] = jnp.zeros((1, 1))
        params: Any = self._network(inputs).init(key, Named(x), Named(t))["params"]
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
        t: Named[Float[Array, "b _"]],
        *,
        mask: Named[Bool[Array, "b _"]] | None = None,
    ) -> Named[Float[Array, "b _ _"]]:
        """Returns the prediction for every modality that has a head, in float32.

        Args:
            params: parameters of `init`.
            inputs: what the modalities are.
            x: codes (-1: masked or dropped) or latents of every modality.
            t: their times, as the network embeds them: one per example, or one per position.
            mask: True where a position is real, for modalities of variable length.
        """
        out: Any = self._network(inputs).apply({"params": params}, x, t, mask)
        return out[0]

    def features(
        self,
        params: Params,
        inputs: Named[Tokens],
        x: Named[X],
        t: Named[Float[Array, "b _"]],
        *,
        after: tuple[int, ...],
        mask: Named[Bool[Array, "b _"]] | None = None,
    ) -> tuple[Named[Float[Array, "b _ _"]], Named[Float[Array, "n b _ d"]]]:
        """Returns what `apply` does, and the tokens of every modality after n of the blocks.

        Args:
            params: parameters of `init`.
            inputs: what the modalities are.
            x: as in `apply`.
            t: as in `apply`.
            after: numbers of the blocks, from 1 to `depth`.
            mask: as in `apply`.

        Raises:
            ValueError: there is no such block.
        """
        wrong = [number for number in after if not 1 <= number <= self.depth]
        if wrong:
            raise ValueError(f"the DiT has blocks 1 to {self.depth}, got {wrong[0]}")
        network = self._network(inputs, taps=after)
        out: Any = network.apply({"params": params}, x, t, mask)
        tokens = {name: out[2][:, :, span] for name, span in self.spans(inputs).items()}
        return out[0], Named(tokens)

    def attend(
        self,
        params: Params,
        inputs: Named[Tokens],
        x: Named[X],
        t: Named[Float[Array, "b _"]],
    ) -> Float[Array, "n b l l"]:
        """Returns how much each token looks at each other, in each layer, averaged over heads.

        The tokens are those of `spans`; the arguments those of `apply`.
        """
        network = self._network(inputs, is_watched=True)
        out: Any = network.apply({"params": params}, x, t)
        return out[1]

    def spans(self, inputs: Named[Tokens]) -> dict[str, slice]:
        """Returns where the tokens of every modality are in the sequence."""
        return spans(inputs, self.patch)

    def _network(self, inputs: Named[Tokens], **watch: Any) -> Network:
        layers = Layers(
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
        return Network(
            layers=layers,
            depth=self.depth,
            patch=self.patch,
            positions=self.positions,
            registers=self.registers,
            remat=self.remat,
            time_shift=self.time_shift,
            inputs=inputs,
            **watch,
        )


def _linear(key: Key[Array, ""], vectors: Float[Array, "q k e"], dim: int) -> Float[Array, "q k d"]:
    """Maps code vectors to `dim` channels at random, once they are standardised."""
    centred = vectors - jnp.mean(vectors, axis=(0, 1))
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred**2) + 1e-12)
    return scaled @ XAVIER(key, (vectors.shape[-1], dim), jnp.float32)
