"""Soft assignment of vectors to codes, p_t = softmax_k(logit_tk), in chunks of codes.

The mean vector and the entropies of p are sums over k. They are accumulated chunk by chunk, and the
backward pass recomputes the chunks. No matrix of size tokens x K is stored, so the memory is
proportional to tokens x CHUNK for any K.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.quantizers.nearest import chunked
from vqdit.typing import Array, Float, Int, Key

CHUNK = 1024
"""Number of codes per chunk."""


class CodeChunks(NamedTuple):
    """The codes, divided into chunks for `lax.scan`; the last chunk is padded.

    Attributes:
        ids: ids of the codes.
        rows: one vector per code.
        bias: added to the code's logits; -inf for padding.
    """

    ids: Int[Array, "chunks shards chunk"]
    rows: Float[Array, "chunks shards chunk d"]
    bias: Float[Array, "chunks shards chunk"]


class Logits(NamedTuple):
    """Logits of n vectors for K codes, (z . row_k + bias_k + noise_k) / temperature.

    Attributes:
        z: vectors.
        codes: rows and biases of the codes.
        temperature: divisor of the logits.
        key: key of the standard Gumbel noise, drawn per vector and code; None adds no noise.
    """

    z: Float[Array, "n d"]
    codes: CodeChunks
    temperature: Float[Array, ""] | float = 1.0
    key: Key[Array, ""] | None = None

    def chunk(self, codes: CodeChunks) -> Float[Array, "n s c"]:
        """Returns the logits for one chunk of codes."""
        product = jnp.einsum(
            "n d, s c d -> n s c", self.z, codes.rows, precision=jax.lax.Precision.HIGHEST
        )
        if self.key is not None:
            key = jax.random.fold_in(self.key, codes.ids[0, 0])
            product = product + jax.random.gumbel(key, product.shape, jnp.float32, mode="high")
        return (product + codes.bias) / self.temperature


def logits(
    z: Float[Array, "n d"],
    rows: Float[Array, "k d"],
    bias: Float[Array, " k"] | None = None,
    shards: int = 1,
) -> Logits:
    """Returns the logits z . row + bias, with the codes divided among `shards` devices."""
    bias = jnp.zeros(rows.shape[0], jnp.float32) if bias is None else bias
    ids = jnp.arange(rows.shape[0], dtype=jnp.int32)
    view = functools.partial(chunked, shards=shards, chunk=CHUNK)
    return Logits(z, CodeChunks(view(ids), view(rows), view(bias, fill=-jnp.inf)))


class Normalizer(NamedTuple):
    """The sums that define a softmax p over the codes.

    Attributes:
        largest: the largest logit of each vector, which has no gradient.
        total: sum_k exp(logit_k - largest).
        weighted: sum_k exp(logit_k - largest) (logit_k - largest).
    """

    largest: Float[Array, " n"]
    total: Float[Array, " n"]
    weighted: Float[Array, " n"]

    def probabilities(self, logits: Float[Array, "n s c"]) -> Float[Array, "n s c"]:
        """Returns the softmax of a chunk."""
        return jnp.exp(logits - self.largest[:, None, None]) / self.total[:, None, None]

    @property
    def entropy(self) -> Float[Array, " n"]:
        """Entropy of each vector's distribution over the codes, in nats."""
        return jnp.log(self.total) - self.weighted / self.total


@jax.jit
def best(logits: Logits) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
    """Returns the code with the largest logit of each vector (ties: the lowest id), and this logit.

    Both results have no gradient.
    """
    logits = jax.lax.stop_gradient(logits)

    def compare(found: tuple[Array, Array], codes: CodeChunks) -> tuple[tuple[Array, Array], None]:
        values = logits.chunk(codes)
        value = jnp.max(values, axis=(1, 2))
        is_best = values >= value[:, None, None]
        code = jnp.min(jnp.where(is_best, codes.ids, jnp.iinfo(jnp.int32).max), axis=(1, 2))
        better = (value > found[1]) | ((value == found[1]) & (code < found[0]))
        return (jnp.where(better, code, found[0]), jnp.where(better, value, found[1])), None

    count = logits.z.shape[0]
    start = (jnp.zeros(count, jnp.int32), jnp.full(count, -jnp.inf, jnp.float32))
    return jax.lax.scan(compare, start, logits.codes)[0]


@jax.jit
def normalizer(logits: Logits, largest: Float[Array, " n"]) -> Normalizer:
    """Returns the softmax's normalizer, given the largest logit of each vector."""

    def part(codes: CodeChunks) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        shifted = logits.chunk(codes) - largest[:, None, None]
        finite = jnp.where(jnp.isinf(shifted), 0.0, shifted)  # padding would give 0 * -inf
        share = jnp.exp(shifted)
        return jnp.sum(share, axis=(1, 2)), jnp.sum(share * finite, axis=(1, 2))

    return Normalizer(largest, *_accumulate(part, logits.codes))


@jax.jit
def mean_row(logits: Logits, norm: Normalizer, values: Float[Array, "k d"]) -> Float[Array, "n d"]:
    """Returns sum_k p_k value_k; no gradient flows to the values."""
    _, shards, chunk = logits.codes.ids.shape
    values = chunked(jax.lax.stop_gradient(values), shards, chunk)

    def part(codes: CodeChunks, values: Float[Array, "s c d"]) -> Float[Array, "n d"]:
        p = norm.probabilities(logits.chunk(codes))
        return jnp.einsum("n s c, s c d -> n d", p, values, precision=jax.lax.Precision.HIGHEST)

    return _accumulate(part, logits.codes, values)


def choose(
    logits: Logits, codebook: Float[Array, "k d"]
) -> tuple[Int[Array, " n"], Float[Array, " n"], Float[Array, "n d"]]:
    """Returns each vector's best code, the code's logit, and z_q = (onehot + p - sg(p)) E.

    p is the softmax of the logits, sg stops the gradient, E is the codebook. The value of z_q is a
    row of the codebook. Gradients flow to the logits through p, and to the chosen row of the
    codebook.
    """
    codes, largest = best(logits)
    mean = mean_row(logits, normalizer(logits, largest), codebook)
    return codes, largest, codebook[codes] + (mean - jax.lax.stop_gradient(mean))


@jax.jit
def entropy_of_mean(
    logits: Logits, norm: Normalizer, weight: Float[Array, " n"]
) -> Float[Array, ""]:
    """Returns H(sum_t weight_t p_t) in nats; the weights add up to 1."""

    def part(codes: CodeChunks) -> Float[Array, ""]:
        p = norm.probabilities(logits.chunk(codes))
        mean = jnp.einsum("n, n s c -> s c", weight, p, precision=jax.lax.Precision.HIGHEST)
        used = jnp.where(mean > 0.0, mean, 1.0)  # 0 log 0 is 0, also in the gradient
        return -jnp.sum(used * jnp.log(used))

    return _accumulate(part, logits.codes)


def _accumulate(part: Callable[..., Any], *chunks: Any) -> Any:
    """Returns the sum of part(*chunk) over the first axis of the arrays `chunks`.

    The backward pass recomputes part(*chunk), so that nothing of it must be stored.
    """
    remade = jax.checkpoint(part)
    shapes = jax.eval_shape(part, *jax.tree.map(lambda array: array[0], chunks))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: Any, chunk: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, remade(*chunk)), None

    return jax.lax.scan(add, zeros, chunks)[0]
