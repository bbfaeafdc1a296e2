"""CoarseToFine: masked diffusion of one codebook after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import CoarseToFine, Masked
from vqdit.processes.categorical import MASK
from vqdit.samplers import DiscreteAncestral, ReMDM, Unmasking, trajectory
from vqdit.typing import Named

Q, K, L, B = 3, 5, 12, 4
PROCESS = CoarseToFine(codebooks=Q)
ENDS = np.asarray([11 / 11, 5 / 11, 2 / 11, 0.0])  # shares 1, 1/2 and 1/3 of 11/6


def codes(number=0, shape=(B, L, Q)):
    return jax.random.randint(jax.random.key(number), shape, 0, K)


def test_the_parts_are_harmonic_and_the_coarsest_is_the_last():
    begin, end = PROCESS.parts()
    np.testing.assert_allclose(end, ENDS[:-1], rtol=1e-6)
    np.testing.assert_allclose(begin, ENDS[1:], rtol=1e-6)
    assert CoarseToFine().bind((K,) * Q) == PROCESS
    with pytest.raises(ValueError, match="codebooks >= 1, got 0; use process.bind"):
        CoarseToFine().parts()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("level", range(Q))
def test_within_a_part_one_codebook_is_masked_as_in_masked_diffusion(level, schedule):
    process = CoarseToFine(codebooks=Q, schedule=schedule)
    own = 0.3
    t = ENDS[level + 1] + own * (ENDS[level] - ENDS[level + 1])
    x_t, _ = process.noise(
        jax.random.split(jax.random.key(0), 64), codes(shape=(64, 256, Q)), jnp.full((64, 1), t)
    )
    share = np.mean(np.asarray(x_t) == MASK, axis=(0, 1))
    assert (share[:level] == 0.0).all() and (share[level + 1 :] == 1.0).all()
    expected = float(Masked(schedule=schedule).mask_probability(jnp.asarray(own)))
    np.testing.assert_allclose(share[level], expected, atol=0.01)


@pytest.mark.parametrize("weighting", ["elbo", "uniform"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_with_one_codebook_it_is_masked_diffusion(schedule, weighting):
    process = CoarseToFine(codebooks=1, schedule=schedule, weighting=weighting)
    masked = Masked(schedule=schedule, weighting=weighting)
    x_0, t = codes(shape=(B, L, 1)), jnp.asarray([[0.2], [0.6], [0.9], [1.0]])
    keys = jax.random.split(jax.random.key(1), B)
    x_t, _ = masked.noise(keys, x_0, t)
    np.testing.assert_array_equal(process.noise(jax.random.clone(keys), x_0, t)[0], x_t)
    logits = jax.random.normal(jax.random.key(2), (B, L, K))
    for loss in ("loss", "scoring_loss"):
        expected = getattr(masked, loss)(logits, x_0, x_t, None, t)
        np.testing.assert_allclose(
            getattr(process, loss)(logits, x_0, x_t, None, t), expected, rtol=1e-6
        )
    s = 0.5 * t
    expected = masked.posterior(logits[:, :, None], x_t, t[..., None], s[..., None])
    found = process.posterior(logits[:, :, None], x_t, t[..., None], s[..., None])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_bound_of_a_network_that_knows_nothing_is_log_k_of_every_code():
    """Each codebook's integral over its own part of the time is log K, whatever its share."""
    n = 2048
    x_0 = codes(shape=(n, 4, Q))
    t = (jnp.arange(n)[:, None] + 0.5) / n
    x_t, _ = PROCESS.noise(jax.random.split(jax.random.key(1), n), x_0, t)
    loss = PROCESS.scoring_loss(jnp.zeros((n, 4, Q * K)), x_0, x_t, None, t)
    np.testing.assert_allclose(loss.mean(), Q * np.log(K), rtol=0.03)


def test_the_bound_of_dependent_codes_is_their_entropy_only_in_the_right_order():
    """The fine code equals the coarse one: the oracle that looks at it pays log K once."""
    n = 2048
    x_0 = jnp.repeat(codes(shape=(n, 4, 1)), 2, axis=-1)
    process = CoarseToFine(codebooks=2)
    t = (jnp.arange(n)[:, None] + 0.5) / n
    x_t, _ = process.noise(jax.random.split(jax.random.key(1), n), x_0, t)
    coarse = x_t[..., :1]
    sure = 50.0 * jax.nn.one_hot(coarse, K)  # of the fine code; zeros while the coarse is masked
    logits = jnp.concatenate([jnp.zeros_like(sure), sure], axis=2).reshape(n, 4, -1)
    loss = process.scoring_loss(logits, x_0, x_t, None, t)
    np.testing.assert_allclose(loss.mean(), np.log(K), rtol=0.03)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_time_of_a_share_is_the_inverse(schedule):
    process = CoarseToFine(codebooks=Q, schedule=schedule)
    t = jnp.linspace(0.0, 1.0, 23)
    np.testing.assert_allclose(process.time_at(process.noise_share(t)), t, atol=1e-3)


@pytest.mark.parametrize(
    "sampler",
    [Unmasking(steps=22, noise=0.0), Unmasking(steps=5), Unmasking(steps=9, order="halton"),
     DiscreteAncestral(steps=11)],
)  # fmt: skip
def test_samplers_reveal_all_coarse_codes_before_the_finer_ones(sampler):
    x_0 = codes(shape=(B, L, Q))

    @jax.jit
    def run():
        keys = jax.random.split(jax.random.key(3), B)
        x_1 = Named(a=PROCESS.prior(keys, (L, Q)))

        def predict(x, t):
            return Named(a=PROCESS.oracle(x_0, x["a"], None, t["a"], (K,) * Q))

        times = Named(a=jnp.linspace(1.0, 0.0, sampler.steps + 1))
        samplers = Named(a=sampler)
        return trajectory(jax.random.clone(keys), predict, samplers, Named(a=PROCESS), x_1, times)

    found, before = (np.asarray(x["a"]) for x in run())
    np.testing.assert_array_equal(found, x_0)
    masked = before == MASK  # n b l q
    some, every = masked.any(axis=2), masked.all(axis=2)
    assert (every[..., 1:] | ~some[..., :-1]).all()  # fine codes wait for the coarser ones
    if sampler.steps == 22:  # 6/11 of the steps are of the first codebook
        np.testing.assert_array_equal(masked.sum(axis=2)[:12, :, 0].T, [range(12, 0, -1)] * B)


def test_samplers_with_one_time_for_all_codebooks_refuse_it():
    with pytest.raises(ValueError, match="ReMDM needs one time for all codebooks"):
        ReMDM().check(PROCESS)


def test_the_network_is_told_the_time_also_if_positions_are_known():
    t = jnp.full((2,), 0.7)
    np.testing.assert_allclose(PROCESS.time_seen(t, jnp.asarray([0.25, 0.0])), [0.7, 0.0])
    half = Masked().time_seen(t, jnp.asarray([0.5, 0.5]), jnp.asarray([0.0, 0.2]))
    np.testing.assert_allclose(half, [0.35, 0.55], rtol=1e-6)
