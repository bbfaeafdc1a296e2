"""Every way of guiding against its formula in NumPy, and what leaves predictions as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.processes import DDPM, Flow, Masked
from vqdit.samplers import Branch, Guide, autoguided, guided, sharpened
from vqdit.typing import Named

BATCH = 3


def at(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), (BATCH, *shape))


GOOD = Named(image=at(5, 4), text=at(6, 3, seed=1))
BAD = Named(image=at(5, 4, seed=2) + 0.3, text=at(6, 3, seed=3))
PROCESSES = Named(image=Flow(), text=Masked())
SCALE = Named(image=jnp.float32(2.5), text=jnp.float32(3.0))
X = Named(image=at(5, 4, seed=4), text=jnp.zeros((BATCH, 6, 1), jnp.int32))


class Learned(Flow):
    """A process of which the network also learns a variance, of one channel."""

    def split(self, prediction):
        return prediction[..., :-1], prediction[..., -1:]


def times(t):
    return Named(image=jnp.full((BATCH, 1), t), text=jnp.full((BATCH, 1), t))


def run(guide, t=0.5, scale=SCALE, processes=PROCESSES):
    good, bad = (lambda x, t, found=found: found for found in (GOOD, BAD))
    return autoguided(good, bad, scale, guide, processes)(X, times(t))


def numpy():
    return (np.asarray(part["image"], np.float64) for part in (GOOD, BAD))


def test_a_bad_network_guides_as_a_branch_does():
    out = run(Guide())
    for name in GOOD:
        expected = BAD[name] + SCALE[name] * (GOOD[name] - BAD[name])
        np.testing.assert_allclose(out[name], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("t", "acts"), [(0.1, False), (0.2, True), (0.7, True), (0.71, False)])
def test_guidance_acts_in_its_interval_alone(t, acts):
    out = run(Guide(interval=(0.2, 0.7)), t)
    full = run(Guide())
    for name in GOOD:
        np.testing.assert_array_equal(out[name], (full if acts else GOOD)[name])


def test_an_interval_is_one_of_each_tokens_own_time():
    t = jnp.broadcast_to(jnp.asarray([0.1, 0.5, 0.9, 0.5, 0.0]), (BATCH, 5))
    good, bad = (lambda x, t, found=found: Named(image=found["image"]) for found in (GOOD, BAD))
    out = autoguided(good, bad, SCALE, Guide(interval=(0.2, 0.7)), PROCESSES)(X, Named(image=t))
    acts = np.asarray([False, True, False, True, False])
    np.testing.assert_array_equal(out["image"][:, acts], run(Guide())["image"][:, acts])
    np.testing.assert_array_equal(out["image"][:, ~acts], GOOD["image"][:, ~acts])


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_rescaling_gives_each_example_back_its_spread(share):
    good, bad = numpy()
    moved = bad + 2.5 * (good - bad)
    ratio = good.std(axis=(1, 2), keepdims=True) / moved.std(axis=(1, 2), keepdims=True)
    out = run(Guide(rescale=share))
    expected = share * moved * ratio + (1 - share) * moved
    np.testing.assert_allclose(out["image"], expected, rtol=1e-5)
    np.testing.assert_array_equal(out["text"], run(Guide())["text"])  # logits are not rescaled
    if share == 1.0:
        np.testing.assert_allclose(out["image"].std(axis=(1, 2)), good.std(axis=(1, 2)), rtol=1e-5)


def test_zero_star_moves_away_from_the_nearest_multiple_of_the_bad_prediction():
    good, bad = numpy()
    flat = good.reshape(BATCH, -1), bad.reshape(BATCH, -1)
    best = (np.sum(flat[0] * flat[1], axis=1) / np.sum(flat[1] ** 2, axis=1))[:, None, None]
    out = run(Guide(zero_star=True))
    expected = best * bad + 2.5 * (good - best * bad)
    np.testing.assert_allclose(out["image"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(out["text"], run(Guide())["text"])


def test_zero_init_moves_nothing_at_first():
    guide = Guide(zero_init=0.04)
    assert not run(guide, t=1.0)["image"].any() and not run(guide, t=0.98)["image"].any()
    np.testing.assert_array_equal(run(guide, t=0.96)["image"], run(Guide())["image"])
    for process, name in (
        (DDPM(), "DDPM"),
        (Flow(prediction="x_0"), "Flow.*x_0"),
    ):
        with pytest.raises(ValueError, match=f"zero_init is only for Flow.* got {name}"):
            guide.check([process])
    guide.check([Flow()])
    guide.check([Masked(), Flow()])
    # Also of channels that are not guided: nothing moves.
    out = run(Guide(zero_init=0.04, channels=3), t=1.0)["image"]
    assert not out.any()


@pytest.mark.parametrize(
    "guide",
    [Guide(rescale=0.7), Guide(zero_star=True), Guide(zero_init=0.04), Guide(channels=3)],
)
def test_what_changes_no_logits_is_refused_for_logits_alone(guide):
    with pytest.raises(
        ValueError, match=r"is only for Gaussian processes, but all processes are discrete"
    ):
        guide.check([Masked()])
    Guide(interval=(0.2, 0.8)).check([Masked()])


def test_the_first_channels_alone_may_be_guided():
    out = run(Guide(channels=3))["image"]
    np.testing.assert_array_equal(out[..., :3], run(Guide())["image"][..., :3])
    np.testing.assert_array_equal(out[..., 3:], GOOD["image"][..., 3:])


@pytest.mark.parametrize("guide", [Guide(), Guide(rescale=0.7, zero_star=True), Guide(channels=2)])
def test_a_learned_variance_stays_that_of_the_good_prediction(guide):
    out = run(guide, processes=Named(image=Learned()))["image"]
    np.testing.assert_array_equal(out[..., 3], GOOD["image"][..., 3])
    assert (np.asarray(out[..., :2]) != np.asarray(GOOD["image"][..., :2])).all()


@pytest.mark.parametrize(
    "guide",
    [
        Guide(),
        Guide(interval=(0.0, 1.0), rescale=0.0, zero_init=0.0, channels=0),
        Guide(interval=(0.3, 0.6)),
        Guide(rescale=0.7),
        Guide(zero_star=True),
        Guide(channels=3),
    ],
)
def test_a_scale_of_one_leaves_the_prediction_as_it_is(guide):
    out = run(guide, scale=Named(image=jnp.float32(1.0), text=jnp.float32(1.0)))
    for name in GOOD:
        np.testing.assert_allclose(out[name], GOOD[name], rtol=1e-6)


def test_branches_are_guided_by_the_same_rules():
    """Two branches, one of which hides the text: the formula of each, added up."""

    def predict(x, t):
        hidden = (t["text"] == 1.0)[..., None]
        both = jnp.tile(GOOD["image"], (3, 1, 1)), jnp.tile(BAD["image"], (3, 1, 1))
        return Named(image=jnp.where(hidden, both[1], both[0]))

    def branch(scale):
        hidden = Named(image=jnp.asarray(False), text=jnp.asarray(True))
        return Branch(hidden, Named(image=jnp.float32(scale)))

    guide = Guide(zero_star=True, rescale=0.5, channels=3)
    out = guided(predict, X, (branch(1.5), branch(2.0)), guide, PROCESSES)(X, times(0.5))
    expected = run(guide, scale=Named(image=jnp.float32(2.5), text=jnp.float32(1.0)))
    np.testing.assert_allclose(out["image"], expected["image"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 0.6), (0.5, 1.0), (2.0, 0.9)])
def test_logits_are_sharpened_by_temperature_and_top_p(temperature, top_p):
    predict = sharpened(lambda x, t: GOOD, ("text",), temperature=temperature, top_p=top_p)
    out = predict(X, times(0.5))
    np.testing.assert_array_equal(out["image"], GOOD["image"])
    logits = np.asarray(GOOD["text"], np.float64) / temperature
    expected = np.full_like(logits, -np.inf)
    for place in np.ndindex(BATCH, 6):
        p = np.exp(logits[place]) / np.exp(logits[place]).sum()
        total = 0.0
        for code in np.argsort(-p):
            if total >= top_p:
                break
            expected[place][code] = logits[place][code]
            total += p[code]
    np.testing.assert_allclose(out["text"], expected, rtol=1e-5)
    assert np.isinf(expected).any() == (top_p < 1.0)


def test_temperature_and_top_p_of_one_change_nothing():
    out = sharpened(lambda x, t: GOOD, ("text",))(X, times(0.5))
    np.testing.assert_array_equal(out["text"], GOOD["text"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Guide(interval=(0.5, 0.5)), r"0 <= low < high <= 1, got \(0.5, 0.5\)"),
        (lambda: Guide(rescale=1.5), r"rescale in \[0, 1\], got 1.5"),
        (lambda: Guide(zero_init=-0.1), r"zero_init in \[0, 1\], got -0.1"),
        (lambda: Guide(channels=-1), "channels >= 0, got -1; 0 is all"),
        (lambda: sharpened(dict, (), temperature=0.0), "temperature > 0, got 0.0"),
        (lambda: sharpened(dict, (), top_p=0.0), r"top_p in \(0, 1\], got 0.0"),
    ],
)
def test_bad_fields_are_refused_by_value(build, message):
    with pytest.raises(ValueError, match=message):
        build()
