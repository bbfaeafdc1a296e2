"""The interface of quantizers.

A quantizer replaces a vector z by an element q of a finite set; integer codes identify the element.
A decoder is trained on q, and gradients still flow to the encoder that produced z.

van den Oord et al., "Neural Discrete Representation Learning", arXiv:1711.00937.
"""

from typing import NamedTuple

import jax.numpy as jnp

from vqdit.masked_mean import masked_mean
from vqdit.typing import Array, Bool, Component, Float, Int, Key, Named, Params, Stats

LARGEST = 2**31 - 1
"""The largest number of codes of one codebook: codes are int32."""
Vectors = Float[Array, "*b d"]
Codes = Int[Array, "*b q"]
"""int32 ids, one per codebook; -1 means "no code"."""
Mask = Bool[Array, "*b"] | None
"""True for valid vectors, False for padding; None if there is no padding."""


class Quantized(NamedTuple):
    """The result of `Quantizer.quantize`.

    Attributes:
        z_q: the code vectors, bitwise equal to `lookup` of the codes, with gradients with respect
            to z.
        codes: int32 ids, one per codebook; -1 means "no code", whose vector is 0.
        losses: unweighted scalar losses by name, such as "commitment".
    """

    z_q: Vectors
    codes: Codes
    losses: Named[Float[Array, ""]]


class Quantizer(Component):
    """Maps vectors to codes and back. All methods are pure.

    `params` are trained by gradients. `stats` are arrays that the quantizer updates itself, such as
    an averaged codebook and counts of codes; `update` changes them once per step.
    """

    @property
    def dim(self) -> int:
        """Width d of the vectors; a field in quantizers that support any width."""
        raise TypeError(f"{type(self).__name__} must define the property 'dim'")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of codes of each of the q codebooks."""
        raise TypeError(f"{type(self).__name__} must define the property 'codebook_sizes'")

    @property
    def weights(self) -> Named[float]:
        """Weights of the losses of `quantize`; a field in quantizers with losses."""
        return Named()

    @property
    def start(self) -> int:
        """First step that quantizes. Before, z_q is z, and `update` initializes the codebook."""
        return 0

    def started(self) -> "Quantizer":
        """Returns the quantizer with `start` 0, for an already learned codebook."""
        return self

    @property
    def residual_scale(self) -> tuple[float, ...]:
        """Scale of the residual z - z_q relative to z: one number, or one number per channel.

        `RVQ` divides the residual by this scale before the next level. It is 1 for learned
        codebooks, as they adapt to the scale of the residuals.
        """
        return (1.0,)

    def init(
        self, key: Key[Array, ""], z: Vectors | None = None, mask: Mask = None
    ) -> tuple[Params, Stats]:
        """Returns initial params and stats.

        Args:
            key: random key.
            z: a batch of vectors from which the codes are initialized; None draws them at random.
            mask: False for vectors that are padding.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'init'")

    def quantize(
        self,
        params: Params,
        stats: Stats,
        z: Vectors,
        *,
        key: Key[Array, ""] | None = None,
        step: Int[Array, ""] | None = None,
        mask: Mask = None,
    ) -> Quantized:
        """Quantizes z and computes the losses.

        Args:
            params: parameters, from `init` or the optimizer.
            stats: statistics, from `init` or the last `update`.
            z: vectors.
            key: random key of stochastic quantizers in training; None quantizes deterministically.
            step: training step, for schedules; None means fully trained.
            mask: False for vectors that are padding, which do not contribute to the losses.
        """
        raise TypeError(f"{type(self).__name__} must define the method 'quantize'")

    def encode(self, params: Params, stats: Stats, z: Vectors) -> Codes:
        """Returns only the codes of z, which equal the codes of `quantize(params, stats, z)`.

        Default: calls `quantize`. Quantizers override this method to avoid computing losses.
        """
        return self.quantize(params, stats, z).codes

    def update(
        self,
        params: Params,
        stats: Stats,
        z: Vectors,
        codes: Codes,
        key: Key[Array, ""],
        step: Int[Array, ""],
        *,
        mask: Mask = None,
    ) -> tuple[Params, Stats]:
        """Returns params and stats after a step with these z and codes. Default: no change.

        Vectors that are not finite are ignored, like padding.
        """
        del z, codes, key, step, mask
        return params, stats

    def lookup(self, params: Params, stats: Stats, codes: Codes) -> Vectors:
        """Returns the vectors of the codes; the vector of the code -1 is 0."""
        raise TypeError(f"{type(self).__name__} must define the method 'lookup'")

    def use(self, stats: Stats) -> tuple[Float[Array, "*g k"], ...]:
        """Returns the moving averages of the codes' counts from `stats`. Default: none.

        Returns:
            One array per codebook, or per group of codebooks of one size.
        """
        del stats
        return ()

    def check(self, z: Vectors) -> Vectors:
        """Returns z in float32.

        Raises:
            ValueError: the width of z is not `dim`.
        """
        if z.shape[-1] != self.dim:
            raise ValueError(
                f"{type(self).__name__} quantizes vectors of width {self.dim}, got width "
                f"{z.shape[-1]}; make the encoder's output width equal to the quantizer's dim"
            )
        return z.astype(jnp.float32)


def squared_error(x: Vectors, y: Vectors, mask: Mask) -> Float[Array, ""]:
    """Returns the mean of (x - y)^2 over all elements of the vectors that are not padding."""
    return masked_mean(jnp.mean((x - y) ** 2, axis=-1), mask)


def rows_of(codebook: Float[Array, "k d"], codes: Int[Array, "*b"]) -> Vectors:
    """Returns the codebook rows of the codes; the zero vector for the code -1."""
    return zero_without_code(codebook[jnp.maximum(codes, 0)], codes >= 0)


def zero_without_code(q: Vectors, has_code: Bool[Array, "*b"]) -> Vectors:
    """Replaces vectors without a code by zero vectors."""
    return jnp.where(has_code[..., None], q, 0.0)


def rows(z: Vectors) -> Float[Array, "n d"]:
    """Flattens all axes but the last."""
    return z.reshape(-1, z.shape[-1])


def require_size(name: str, size: int, what: str) -> None:
    """Raises ValueError unless a codebook has at least 2 codes, and its ids fit into int32."""
    if size < 2:
        raise ValueError(f"{name} needs at least 2 codes, {what} gives {size}")
    if size > LARGEST:
        raise ValueError(
            f"{name} has int32 codes, so at most {LARGEST} codes, but {what} gives {size}; use "
            "GroupedVQ, which has separate codes for groups of channels"
        )


def require_codebook(name: str, size: int, dim: int, shards: int) -> None:
    """Raises ValueError unless `size` codes of width `dim` can be divided equally among shards."""
    require_size(name, size, f"codebook_size={size}")
    if dim < 1:
        raise ValueError(f"{name} needs dim >= 1, got {dim}")
    if shards < 1 or size % shards:
        raise ValueError(
            f"{name} divides its codes equally among the shards: codebook_size={size} must be a "
            f"multiple of shards={shards}"
        )


def require_weights(name: str, weights: Named[float], losses: tuple[str, ...]) -> None:
    """Raises ValueError unless `weights` has exactly these losses, with values >= 0."""
    if set(weights) != set(losses) or any(weight < 0.0 for weight in weights.values()):
        raise ValueError(
            f"{name} needs one weight >= 0 for each of its losses ({', '.join(losses)}), got "
            f"{weights}"
        )
