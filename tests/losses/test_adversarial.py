"""Adversarial losses against closed forms, torch, and the swapped one that others ship."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.losses.adversarial import GAMES, discriminator_loss, generator_loss, lecam, r1
from vqdit.losses.gradients import adaptive_weight, at_output, shares, with_gradient

REAL = jnp.asarray([[2.0, -1.0], [0.5, 0.5]], jnp.float32)
FAKE = jnp.asarray([[-2.0, 1.0], [0.0, -0.5]], jnp.float32)


def softplus(x):
    return np.log1p(np.exp(x))


@pytest.mark.parametrize(
    ("kind", "d", "g"),
    [
        ("hinge", [0.25 * 2 + 0.25 * 2, 0.25 * 1 + 0.25 * 1.5], [0.5, 0.25]),
        (
            "non_saturating",
            softplus(-REAL).mean(1) + softplus(FAKE).mean(1),
            softplus(-FAKE).mean(1),
        ),
        (
            "least_squares",
            0.5 * ((REAL - 1) ** 2).mean(1) + 0.5 * (FAKE**2).mean(1),
            0.5 * ((FAKE - 1) ** 2).mean(1),
        ),
    ],
)
def test_each_kind_has_its_closed_form(kind, d, g):
    np.testing.assert_allclose(discriminator_loss(kind, REAL, FAKE), d, rtol=1e-6)
    np.testing.assert_allclose(generator_loss(kind, FAKE), g, rtol=1e-6)


@pytest.mark.parametrize("kind", GAMES)
def test_both_players_move_logits_to_their_side(kind):
    """A discriminator that swaps its arguments, as one published does, would move them apart."""
    real = fake = jnp.zeros((1, 3))
    down, up = jax.grad(
        lambda pair: jnp.sum(discriminator_loss(kind, *pair)),
    )((real + 0.1, fake + 0.4))
    assert (down < 0).all()  # descending raises the logits of what is real
    assert (up > 0).all()
    assert (jax.grad(lambda f: jnp.sum(generator_loss(kind, f)))(fake) < 0).all()


@pytest.mark.peers
def test_the_non_saturating_loss_is_torch_s_cross_entropy():
    torch = pytest.importorskip("torch")
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    real, fake = (torch.tensor(np.asarray(logits)) for logits in (REAL, FAKE))
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    found = jnp.mean(discriminator_loss("non_saturating", REAL, FAKE))
    assert found == pytest.approx(float(expected), rel=1e-6)
    expected = bce(fake, torch.ones_like(fake))
    assert jnp.mean(generator_loss("non_saturating", FAKE)) == pytest.approx(float(expected))


def test_lecam_by_numpy():
    found = lecam(REAL, FAKE, jnp.float32(0.25), jnp.float32(-0.75))
    expected = (np.maximum(REAL + 0.75, 0) ** 2).mean(1) + (np.maximum(0.25 - FAKE, 0) ** 2).mean(1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_penalty_of_a_linear_discriminator_is_half_its_slope_squared():
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2)), jnp.float32)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3, 3, 2)), jnp.float32)
    slope = float(jnp.sum(weight**2))

    def one_logit(x):
        return jnp.einsum("b h w c, h w c -> b", x, weight)

    np.testing.assert_allclose(r1(one_logit, x), [slope / 2] * 4, rtol=1e-5)
    # Of patches, D is the mean: two patches, one of which sees nothing, halve the slope.
    pair = r1(lambda x: jnp.stack([one_logit(x), jnp.zeros(4)], axis=1), x)
    np.testing.assert_allclose(pair, [slope / 8] * 4, rtol=1e-5)


def test_losses_at_the_output_give_the_gradient_of_their_sum():
    y = jnp.asarray([[1.0, -2.0, 3.0]])
    losses = {"square": lambda y: jnp.sum(y**2), "line": lambda y: jnp.sum(4.0 * y)}
    values, gradients = at_output(losses, y)
    assert (float(values["square"]), float(values["line"])) == (14.0, 8.0)
    np.testing.assert_array_equal(gradients["square"], [[2.0, -4.0, 6.0]])
    zero, through = jax.value_and_grad(lambda y: with_gradient(2.0 * y, gradients["line"]))(y)
    assert zero == 0.0
    np.testing.assert_array_equal(through, [[8.0, 8.0, 8.0]])
    found = shares(gradients)
    norms = np.sqrt(56.0), np.sqrt(48.0)
    assert found["square"] == pytest.approx(norms[0] / sum(norms), rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(2.0, 0.5, 4.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1e4), (1e9, 1e-3, 1e4)],
)
def test_the_adaptive_weight_is_a_clipped_ratio(first, second, expected):
    h = jnp.asarray([[3.0, 4.0]])
    scale = 1e4  # so that the guard of 1e-4 does not matter
    found = adaptive_weight(
        lambda kernel: h @ kernel,
        jnp.ones((2, 1)),
        jnp.full((1, 1), first * scale),
        jnp.full((1, 1), second * scale),
    )
    assert found == pytest.approx(expected, rel=1e-4)
