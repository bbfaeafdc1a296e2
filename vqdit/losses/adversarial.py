"""Losses of a generator and its discriminator, as functions of the discriminator's logits.

With the logits r of real and f of generated data, the discriminator minimises
mean d_real(r) + mean d_fake(f), and the generator minimises mean g(f):

    hinge            relu(1 - r) / 2     relu(1 + f) / 2     -f
    non_saturating   softplus(-r)        softplus(f)         softplus(-f)
    least_squares    (r - 1)^2 / 2       f^2 / 2             (f - 1)^2 / 2

Lim & Ye, arXiv:1705.02894, with the factor 1/2 of Esser et al. (VQGAN), arXiv:2012.09841, which
other implementations omit; Goodfellow et al., arXiv:1406.2661; Mao et al., arXiv:1611.04076, eq. 2.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from vqdit.masked_mean import mean_of_each
from vqdit.typing import Array, Bool, Float

Logits = Float[Array, "b *grid"]
Mask = Bool[Array, "b _"] | None
"""False at logits of padding, for sequences of different lengths; None without padding."""


class Game(NamedTuple):
    """A row of the module's table, and the logit that means real with probability 1/2."""

    d_real: Callable[[Array], Array]
    d_fake: Callable[[Array], Array]
    g: Callable[[Array], Array]
    threshold: float


Kind = Literal["hinge", "non_saturating", "least_squares"]

GAMES: dict[Kind, Game] = {
    "hinge": Game(
        lambda r: 0.5 * jax.nn.relu(1.0 - r), lambda f: 0.5 * jax.nn.relu(1.0 + f), jnp.negative, 0
    ),
    "non_saturating": Game(
        lambda r: jax.nn.softplus(-r), jax.nn.softplus, lambda f: jax.nn.softplus(-f), 0
    ),
    "least_squares": Game(
        lambda r: 0.5 * (r - 1.0) ** 2, lambda f: 0.5 * f**2, lambda f: 0.5 * (f - 1.0) ** 2, 0.5
    ),
}


def generator_loss(kind: Kind, fake: Logits, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the generator's loss of each example; low for a fake classified as real."""
    return per_example(GAMES[kind].g(fake), mask)


def discriminator_loss(
    kind: Kind, real: Logits, fake: Logits, mask: Mask = None
) -> Float[Array, " b"]:
    """Returns the discriminator's loss of each pair; low if both are classified correctly."""
    game = GAMES[kind]
    return per_example(game.d_real(real), mask) + per_example(game.d_fake(fake), mask)


def accuracy(kind: Kind, real: Logits, fake: Logits, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the fraction of correctly classified logits of each pair; guessing gives 0.5."""
    threshold = GAMES[kind].threshold
    right = (real > threshold).astype(jnp.float32), (fake < threshold).astype(jnp.float32)
    return 0.5 * (per_example(right[0], mask) + per_example(right[1], mask))


def feature_matching(
    real: Sequence[tuple[Array, Mask]], fake: Sequence[tuple[Array, Mask]]
) -> Float[Array, " b"]:
    """Returns mean_layers mean |D_l(x) - D_l(y)| / mean |D_l(x)| of each pair.

    Each layer l gives its features D_l [b, n, ...] and their mask [b, n]. Défossez et al.,
    "EnCodec", arXiv:2210.13438, section 3.4; but the mean |D_l(x)| is taken over each example, not
    over the batch, so that the loss of an example does not depend on the batch.
    """
    total = jnp.zeros(len(real[0][0]), jnp.float32)
    for (first, mask), (second, _) in zip(real, fake, strict=True):
        first, second = first.astype(jnp.float32), second.astype(jnp.float32)
        size = jax.lax.stop_gradient(per_example(jnp.abs(first), mask))
        total += per_example(jnp.abs(first - second), mask) / jnp.maximum(size, 1e-8)
    return total / len(real)


def lecam(
    real: Logits,
    fake: Logits,
    mean_real: Float[Array, ""],
    mean_fake: Float[Array, ""],
    mask: Mask = None,
) -> Float[Array, " b"]:
    """Returns relu(r - m_fake)^2 + relu(m_real - f)^2 of each pair, which keeps logits bounded.

    m_real and m_fake are moving averages of the mean logits. Tseng et al., "Regularizing GANs under
    Limited Data", arXiv:2104.03310; the relus are from their code.
    """
    return per_example(jax.nn.relu(real - mean_fake) ** 2, mask) + per_example(
        jax.nn.relu(mean_real - fake) ** 2, mask
    )


def r1(
    discriminator: Callable[[Float[Array, "b *size c"]], Logits],
    x: Float[Array, "b *size c"],
    mask: Mask = None,
) -> Float[Array, " b"]:
    """Returns |d D(x_i) / d x_i|^2 / 2 of each real example; D(x_i) is the mean of its logits.

    Mescheder et al., arXiv:1801.04406, eq. 9, where gamma is the weight of this loss.
    """
    gradient = jax.grad(lambda x: jnp.sum(per_example(discriminator(x), mask)))(x)
    return 0.5 * jnp.sum(gradient**2, axis=tuple(range(1, x.ndim)))


def per_example(values: Logits, mask: Mask = None) -> Float[Array, " b"]:
    """Returns the mean of each example over the positions that are not padding."""
    if mask is not None:
        return mean_of_each(values, mask)
    return jnp.mean(values.reshape(values.shape[0], -1), axis=-1)
