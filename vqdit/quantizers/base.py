"""The contract of a quantizer.

A quantizer replaces a vector z by an entry q of a finite set and names it by integer codes, so
that a decoder can be trained on q while gradients still reach whatever made z.

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937.
"""

from typing import NamedTuple

import jax.numpy as jnp

from vqdit.masked_mean import masked_mean
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named, Params, Stats

LARGEST = 2**31 - 1
"""Codes are int32: the largest number of codes that one codebook can have."""


class Quantized(NamedTuple):
    """What `Quantizer.quantize` returns.

    Attributes:
        z_q: the code vectors; the value is exactly the codebook's, the gradient reaches z.
        codes: int32 ids, one per codebook; -1 means "no code", whose look-up is 0.
        losses: unweighted scalars by name, such as "commitment".
    """

    z_q: Float[Array, "*b d"]
    codes: Int[Array, "*b q"]
    losses: Named[Float[Array, ""]]


class Quantizer(Component):
    """Turns vectors into codes and back. All methods are pure.

    `params` receive gradients, `stats` do not: what a quantizer learns by itself (an averaged
    codebook, counts) lives in `stats` and changes in `update`, once a step.
    """

    @property
    def dim(self) -> int:
        """Width of the vectors. Where it can be chosen, it is a field."""
        raise TypeError(f"{type(self).__name__} must define dim")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each of the q codebooks."""
        raise TypeError(f"{type(self).__name__} must define codebook_sizes")

    @property
    def weights(self) -> Named[float]:
        """Weight of each of the losses of `quantize`; where there are any, a field.

        The defaults are the published ones.
        """
        return Named()

    @property
    def start(self) -> int:
        """First step that quantizes. Before it z passes unchanged; `update` places the codes."""
        return 0

    @property
    def residual_scale(self) -> tuple[float, ...]:
        """How much smaller what is left is than what was quantized: one for all, or one per axis.

        `RVQ` blows the residual up by it before the next level. A codebook that is learned finds
        the size of its residuals by itself: 1.
        """
        return (1.0,)

    def init(
        self, key: Key[Array, ""], z: Float[Array, "*b d"] | None = None
    ) -> tuple[Params, Stats]:
        """Returns fresh params and stats; `z` (a batch of vectors) allows a start from data."""
        raise TypeError(f"{type(self).__name__} must define init")

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Float[Array, "*b d"],
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Bool[Array, "*b"] | None = None,
    ) -> Quantized:
        """Quantizes z.

        Args:
            params: parameters of `init`.
            stats: statistics of `init` or of the last `update`.
            z: vectors.
            key: for stochastic quantizers in training; None means deterministic.
            step: training step, for schedules; None means fully trained.
            mask: True where a vector is real; padding takes no part in losses.
        """
        raise TypeError(f"{type(self).__name__} must define quantize")

    def update(
        self,
        params: Params,
        stats: Stats,
        z: Float[Array, "*b d"],
        codes: Int[Array, "*b q"],
        key: Key[Array, ""],
        step: Int[Array, ""],
        *,
        mask: Bool[Array, "*b"] | None = None,
    ) -> tuple[Params, Stats]:
        """Returns params and stats after a step that quantized z to codes. Default: unchanged."""
        del z, codes, key, step, mask
        return params, stats

    def lookup(
        self, params: Params, stats: Stats, codes: Int[Array, "*b q"]
    ) -> Float[Array, "*b d"]:
        """Returns the vectors of codes; a code of -1 gives the zero vector."""
        raise TypeError(f"{type(self).__name__} must define lookup")

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        """Returns how often each code is used, averaged over steps, as far as `stats` keep it.

        One array for each codebook, or for several of one size. Default: nothing is kept.
        """
        del stats
        return ()

    def check(self, z: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Returns z in float32.

        Raises:
            ValueError: z has another width than this quantizer.
        """
        if z.shape[-1] != self.dim:
            raise ValueError(
                f"{type(self).__name__} quantizes vectors of width {self.dim}, z has width "
                f"{z.shape[-1]}; make the encoder's output as wide as the quantizer's dim"
            )
        return z.astype(jnp.float32)


def squared_error(
    x: Float[Array, "*b d"], y: Float[Array, "*b d"], mask: Bool[Array, "*b"] | None
) -> Float[Array, ""]:
    """Returns the mean over real vectors and their elements of (x - y)^2."""
    return masked_mean(jnp.mean((x - y) ** 2, axis=-1), mask)


def rows_of(codebook: Float[Array, "k d"], codes: Int[Array, "*b"]) -> Float[Array, "*b d"]:
    """Returns the rows of codes; the zero vector for a code of -1."""
    return zero_without_code(codebook[jnp.maximum(codes, 0)], codes >= 0)


def zero_without_code(q: Float[Array, "*b d"], has_code: Bool[Array, "*b"]) -> Float[Array, "*b d"]:
    """Returns q with zero vectors where there is no code."""
    return jnp.where(has_code[..., None], q, 0.0)


def rows(z: Float[Array, "*b d"]) -> Float[Array, "n d"]:
    """Returns the vectors in one list."""
    return z.reshape(-1, z.shape[-1])


def require_size(name: str, size: int, what: str) -> None:
    """Raises ValueError unless a codebook of that many codes has int32 ids."""
    if size < 2:
        raise ValueError(f"{name} needs at least 2 codes, {what} gives {size}")
    if size > LARGEST:
        raise ValueError(
            f"{name} names codes by int32 ids, at most {LARGEST} of them; {what} gives {size}; "
            "split it: GroupedVQ quantizes groups of channels, each with ids of its own"
        )


def require_codebook(name: str, size: int, dim: int, shards: int) -> None:
    """Raises ValueError unless a table of `size` codes of width `dim` can be laid over shards."""
    require_size(name, size, f"codebook_size={size}")
    if dim < 1:
        raise ValueError(f"{name} needs dim >= 1, got {dim}")
    if shards < 1 or size % shards:
        raise ValueError(
            f"{name} lays its codes over shards in equal parts: codebook_size={size} does not "
            f"divide by shards={shards}"
        )


def require_weights(name: str, weights: Named[float], losses: tuple[str, ...]) -> None:
    """Raises ValueError unless each of the losses, and nothing else, has a weight >= 0."""
    if set(weights) != set(losses) or any(weight < 0.0 for weight in weights.values()):
        raise ValueError(
            f"{name} needs weights >= 0 of its losses, {', '.join(losses)}; got {weights}"
        )
