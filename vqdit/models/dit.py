"""DiT: a transformer whose blocks are modulated by time and condition (adaLN-Zero).

    c = time(t) + label(y)
    shift, scale, gate = linear(silu(c))                     (zero at the start)
    x <- x + gate_1 * attention(norm(x) (1 + scale_1) + shift_1)
    x <- x + gate_2 *       mlp(norm(x) (1 + scale_2) + shift_2)

so that every block is the identity at first. Peebles & Xie, "Scalable Diffusion Models with
Transformers", arXiv:2212.09748. Every modality is embedded, all tokens are concatenated, every
token is modulated by the time of its own modality, and each modality has its own head.
"""

import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from vqdit.nn.attention import attention
from vqdit.nn.embeddings import CodeEmbedding, TimeEmbedding, positions
from vqdit.processes.base import X
from vqdit.typing import Array, Bool, Component, Float, Key, Named, Params

XAVIER = nn.initializers.xavier_uniform()
ZEROS = nn.initializers.zeros_init()
SHALLOW = 6
"""Stacks up to this depth are unrolled: faster on a CPU, and still quick to compile."""

SIZES = {
    "S": {"depth": 12, "dim": 384, "heads": 6},
    "B": {"depth": 12, "dim": 768, "heads": 12},
    "L": {"depth": 24, "dim": 1024, "heads": 16},
    "XL": {"depth": 28, "dim": 1152, "heads": 16},
}
"""The published sizes."""


class Tokens(Component):
    """How one modality enters the network, and what is predicted for it.

    Attributes:
        route: "tokens" joins the sequence; "adaln" is added to the condition of every block.
        grid: positions along each axis; (1,) for a label.
        codes: codebook size if the modality is codes, else 0.
        codebooks: codes per position.
        width: channels per position if the modality is latents, else 0.
        output: head outputs per position; 0 for a condition, which has no head.
    """

    route: Literal["tokens", "adaln"] = "tokens"
    grid: tuple[int, ...]
    codes: int = 0
    codebooks: int = 1
    width: int = 0
    output: int = 0


class DiT(Component):
    """The diffusion transformer.

    Attributes:
        depth: number of blocks.
        dim: width of the tokens.
        heads: attention heads; divides `dim`.
        patch: edge of the square (cube) of positions that makes one token; divides every grid.
        mlp_ratio: hidden width of the MLP over `dim`.
        dtype: precision of the matrix products. Parameters, norms and softmax stay float32.
        remat: recompute each block in the backward pass: much less memory, a third more time.
    """

    depth: int = 12
    dim: int = 384
    heads: int = 6
    patch: int = 2
    mlp_ratio: int = 4
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise ValueError(
                f"DiT needs heads that divide dim, got heads={self.heads} dim={self.dim}"
            )
        for field in ("depth", "dim", "heads", "patch", "mlp_ratio"):
            if getattr(self, field) < 1:
                raise ValueError(f"DiT needs {field} >= 1, got {getattr(self, field)}")

    @classmethod
    def named(cls, name: str, **fields: Any) -> "DiT":
        """Returns a published size such as "XL/2": the size, then the patch.

        Raises:
            ValueError: for an unknown name.
        """
        size, _, patch = name.partition("/")
        if size not in SIZES or patch not in {"1", "2", "4", "8"}:
            raise ValueError(
                f"unknown DiT {name!r}; names are a size of {', '.join(SIZES)}, a slash and a "
                "patch of 1, 2, 4, 8, such as 'XL/2'"
            )
        return cls(**{**SIZES[size], "patch": int(patch), **fields})

    def check(self, inputs: Named[Tokens]) -> None:
        """Raises ValueError if the network cannot take these modalities."""
        for name, tokens in inputs.items():
            if tokens.route == "adaln":
                continue
            if any(size % self.patch for size in tokens.grid):
                sizes = [
                    (
                        size // self.patch * self.patch or self.patch,
                        -(-size // self.patch) * self.patch,
                    )
                    for size in tokens.grid
                ]
                near = " or ".join(
                    "x".join(map(str, choice)) for choice in zip(*sizes, strict=True)
                )
                raise ValueError(
                    f"the grid of {name!r}, {'x'.join(map(str, tokens.grid))}, does not divide by "
                    f"the DiT's patch {self.patch}; nearest grids: {near}, or use patch=1"
                )
            positions(tokens.grid, self.dim)

    def init(self, key: Key[Array, ""], inputs: Named[Tokens]) -> Params:
        """Returns fresh parameters for these modalities."""
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
        return _Network(self, inputs).init(key, Named(x), Named(t))["params"]

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
        out: Any = _Network(self, inputs).apply({"params": params}, x, t, mask or Named())
        return out


class _Network(nn.Module):
    config: DiT
    inputs: Named[Tokens]

    @nn.compact
    def __call__(
        self,
        x: Named[X],
        t: Named[Float[Array, "b _"]],
        mask: Named[Bool[Array, "b _"]] | None = None,
    ) -> Named[Float[Array, "b _ _"]]:
        config, mask = self.config, mask or Named()
        sequence = [name for name, tokens in self.inputs.items() if tokens.route == "tokens"]
        condition = self._condition(x)
        h, c, rows, real = [], [], [], []
        for name in sequence:
            tokens = self.inputs[name]
            h.append(self._embed(name, x[name]))
            time = TimeEmbedding(config.dim, name=f"{name}_time")(self._token_times(name, t[name]))
            c.append(time if condition is None else time + condition)
            length, start = h[-1].shape[1], sum(part.shape[1] for part in c[:-1])
            rows.append(start + jnp.arange(length) % c[-1].shape[1])
            valid = mask.get(name)
            real.append(
                jnp.ones(h[-1].shape[:2], bool) if valid is None else self._token_mask(name, valid)
            )
        h = jnp.concatenate(h, axis=1)
        c = nn.silu(jnp.concatenate(c, axis=1))  # b r d: r = 1 row per modality, or per token
        row = None if c.shape[1] == 1 else jnp.concatenate(rows)
        real = jnp.concatenate(real, axis=1) if mask else None
        h = self._blocks(h, c, row, real)

        out, start = {}, 0
        for name in sequence:
            tokens = self.inputs[name]
            length = math.prod(tokens.grid) // config.patch ** len(tokens.grid)
            part = slice(start, start + length)
            if tokens.output:
                rows_of_part = c if row is None else c[:, row[part]]
                out[name] = self._head(name, h[:, part], rows_of_part)
            start += length
        return Named(out)

    def _condition(self, x: Named[X]) -> Float[Array, "b 1 d"] | None:
        parts = [
            CodeEmbedding(tokens.codes, tokens.codebooks, self.config.dim, name=f"{name}_embed")(
                x[name]
            )
            for name, tokens in self.inputs.items()
            if tokens.route == "adaln"
        ]
        return sum(parts[1:], parts[0]) if parts else None

    def _embed(self, name: str, x: X) -> Float[Array, "b l d"]:
        tokens, config = self.inputs[name], self.config
        dtype = jnp.dtype(config.dtype)
        if tokens.codes:
            x = CodeEmbedding(tokens.codes, tokens.codebooks, config.dim, name=f"{name}_embed")(x)
        if tokens.width or config.patch > 1:
            x = _fold(x, tokens.grid, config.patch)
            x = nn.Dense(config.dim, kernel_init=XAVIER, dtype=dtype, name=f"{name}_patch")(x)
        grid = tuple(size // config.patch for size in tokens.grid)
        return x.astype(jnp.float32) + positions(grid, config.dim)

    def _token_times(self, name: str, t: Float[Array, "b #l"]) -> Float[Array, "b #l"]:
        """A token of several positions takes their mean time."""
        if t.shape[1] == 1 or self.config.patch == 1:
            return t
        return jnp.mean(_fold(t[..., None], self.inputs[name].grid, self.config.patch), axis=-1)

    def _token_mask(self, name: str, real: Bool[Array, "b l"]) -> Bool[Array, "b l"]:
        return jnp.any(_fold(real[..., None], self.inputs[name].grid, self.config.patch), axis=-1)

    def _blocks(
        self,
        h: Float[Array, "b l d"],
        c: Float[Array, "b r d"],
        row: Any,
        real: Bool[Array, "b l"] | None,
    ) -> Float[Array, "b l d"]:
        config = self.config
        block = nn.remat(_Block, prevent_cse=False) if config.remat else _Block
        stack = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=config.depth,
            unroll=config.depth if config.depth <= SHALLOW else 1,
        )
        h, _ = stack(config, name="blocks")(h, c, row, real)
        return h

    def _head(
        self, name: str, h: Float[Array, "b l d"], c: Float[Array, "b #l d"]
    ) -> Float[Array, "b p w"]:
        tokens, config = self.inputs[name], self.config
        modulation = nn.Dense(
            2 * config.dim, kernel_init=ZEROS, dtype=config.dtype, name=f"{name}_modulation"
        )(c)
        shift, scale = jnp.split(modulation.astype(jnp.float32), 2, axis=-1)
        h = _norm(h) * (1.0 + scale) + shift
        outputs = tokens.output * config.patch ** len(tokens.grid)
        # The zero start makes the output exactly 0; the product is float32: it is the logits.
        h = nn.Dense(outputs, kernel_init=ZEROS, name=f"{name}_head")(h)
        return _unfold(h, tokens.grid, config.patch)


class _Block(nn.Module):
    """One adaLN-Zero block. The residual stream is float32; the products are `config.dtype`."""

    config: DiT

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        c: Float[Array, "b r d"],
        row: Any,
        real: Bool[Array, "b l"] | None,
    ) -> tuple[Float[Array, "b l d"], None]:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        modulation = nn.Dense(6 * config.dim, kernel_init=ZEROS, dtype=dtype, name="modulation")(c)
        if row is not None:
            modulation = modulation[:, row]  # b l 6d
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = jnp.split(
            modulation.astype(jnp.float32), 6, axis=-1
        )
        h = (_norm(x) * (1.0 + scale_1) + shift_1).astype(dtype)
        q, k, v = jnp.split(
            nn.Dense(3 * config.dim, kernel_init=XAVIER, dtype=dtype, name="qkv")(h), 3, axis=-1
        )
        q, k, v = (part.reshape(*part.shape[:2], config.heads, -1) for part in (q, k, v))  # b l h d
        h = attention(q, k, v, mask=real).reshape(x.shape)
        h = nn.Dense(config.dim, kernel_init=XAVIER, dtype=dtype, name="out")(h)
        x = x + gate_1 * h.astype(jnp.float32)

        h = (_norm(x) * (1.0 + scale_2) + shift_2).astype(dtype)
        h = nn.Dense(config.mlp_ratio * config.dim, kernel_init=XAVIER, dtype=dtype, name="mlp_in")(
            h
        )
        h = nn.gelu(h, approximate=True)
        h = nn.Dense(config.dim, kernel_init=XAVIER, dtype=dtype, name="mlp_out")(h)
        return x + gate_2 * h.astype(jnp.float32), None


def _norm(x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
    """Layer norm without affine parameters, epsilon 1e-6, in float32."""
    x = x.astype(jnp.float32)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-6)


def _fold(x: Array, grid: tuple[int, ...], patch: int) -> Array:
    """Gathers each patch of positions into one token: [b, l, c] -> [b, l / p^n, p^n c]."""
    shape = [part for size in grid for part in (size // patch, patch)]
    x = x.reshape(x.shape[0], *shape, x.shape[-1])
    axes = len(grid)
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    x = x.transpose(order)
    return x.reshape(x.shape[0], math.prod(grid) // patch**axes, -1)


def _unfold(x: Array, grid: tuple[int, ...], patch: int) -> Array:
    """The inverse of `_fold`."""
    axes = len(grid)
    x = x.reshape(x.shape[0], *(size // patch for size in grid), *(patch,) * axes, -1)
    order = [0, *(axis + part for axis in range(1, axes + 1) for part in (0, axes)), 2 * axes + 1]
    return x.transpose(order).reshape(x.shape[0], math.prod(grid), -1)
