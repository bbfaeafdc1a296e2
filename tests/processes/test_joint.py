"""How the times of several modalities go together: by count, over 20,000 draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from vqdit.processes import (
    Conditional,
    Independent,
    JointTimeDistribution,
    LogitNormal,
    Shared,
    Unbalanced,
    Uniform,
)
from vqdit.processes.base import strata
from vqdit.random import stream
from vqdit.typing import Named

N = 20_000
DISTRIBUTIONS = Named(a=Uniform(), b=LogitNormal(mean=0.5), c=Uniform(low=0.1))
NAMES = tuple(DISTRIBUTIONS)
KEY = jax.random.key(3)
TABLE = [
    pytest.param(Independent, id="Independent"),
    pytest.param(Shared, id="Shared"),
    pytest.param(Unbalanced, id="Unbalanced"),
]


def presence(*, some=False):
    """All modalities in every example; or each in four of five, and none at all in some rows."""
    coins = np.random.default_rng(0).random((3, N)) < (0.8 if some else 2.0)
    return Named({name: jnp.asarray(row) for name, row in zip(NAMES, coins, strict=True)})


def draw(joint, present=None, distributions=DISTRIBUTIONS, index=None):
    index = jnp.arange(N) if index is None else index
    # Not compiled: all of them are of the same few operations, each of which compiles once.
    times = joint.sample(KEY, index, distributions, presence() if present is None else present)
    assert all(t.shape == (len(index), 1) for t in times.values())
    return {name: np.asarray(t)[:, 0] for name, t in times.items()}


def stacked(times):
    return np.stack([times[name] for name in NAMES])  # modality, example


def assert_share(found, expected, count=N):
    """Within four standard errors of a share of that many independent draws."""
    error = math.sqrt(expected * (1.0 - expected) / count)
    assert abs(np.mean(found) - expected) <= 4.0 * error, (np.mean(found), expected, error)


def test_independent_times_are_those_of_each_modalitys_own_distribution():
    times = draw(Independent())
    for name, distribution in DISTRIBUTIONS.items():
        own = distribution.sample(stream(KEY, f"{name}/time"), jnp.arange(N), N)
        np.testing.assert_array_equal(times[name], own[:, 0])


def test_shared_times_have_one_quantile():
    times = draw(Shared())
    u = np.asarray(strata(stream(KEY, "time"), jnp.arange(N), N), np.float64)
    np.testing.assert_allclose(times["a"], 1e-3 + (1.0 - 1e-3) * u, atol=2e-7)
    np.testing.assert_allclose(times["c"], 0.1 + 0.9 * u, atol=2e-7)
    logit = np.log(times["b"]) - np.log1p(-times["b"].astype(np.float64))
    np.testing.assert_allclose(norm.cdf(logit - 0.5), u, atol=2e-5)
    for name in "bc":
        assert (np.diff(times[name][np.argsort(times["a"])]) >= 0).all()


def test_every_joint_distribution_keeps_the_marginals_of_its_modalities():
    for joint in (Independent(), Shared(), Unbalanced(shared=1.0)):
        times = draw(joint)
        assert kstest(times["a"], "uniform", (1e-3, 1 - 1e-3)).pvalue > 1e-4
        assert kstest(times["c"], "uniform", (0.1, 0.9)).pvalue > 1e-4
        logit = np.log(times["b"]) - np.log1p(-times["b"].astype(np.float64))
        assert kstest(logit - 0.5, "norm").pvalue > 1e-4


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_unbalanced_times_are_shared_in_a_share_and_one_is_ahead_in_the_others(shared):
    distributions = Named(a=Uniform(low=0.0), b=Uniform(low=0.0), c=Uniform(low=0.0))
    times = stacked(draw(Unbalanced(shared=shared), distributions=distributions))
    together = times.max(axis=0)
    u = np.asarray(strata(stream(KEY, "time"), jnp.arange(N), N))
    np.testing.assert_array_equal(together, u)  # the shared time is a stratified draw
    is_ahead = times < together
    assert (is_ahead.sum(axis=0) <= 1).all()
    assert_share(~is_ahead.any(axis=0), shared)
    if shared == 1.0:
        return
    some = is_ahead.any(axis=0)
    for row in is_ahead:
        assert_share(row[some], 1 / 3, some.sum())
    share = (times.min(axis=0) / together)[some]  # of the shared time
    assert kstest(share, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(share, together[some])[0, 1]) < 4.0 / math.sqrt(some.sum())


@pytest.mark.parametrize("joint", TABLE)
def test_single_is_at_most_one_modality_known_and_the_others_unknown_or_at_their_times(joint):
    present = presence(some=True)
    has = stacked(present)
    times, own = stacked(draw(joint(p_one_known=1.0), present)), stacked(draw(joint()))
    known = times == 0.0
    assert (known.sum(axis=0) <= 1).all()
    assert not (known & ~has).any()
    rest = ~known & has
    unknown, at_own = (times == 1.0) | ~rest, (times == own) | ~rest
    assert (unknown.all(axis=0) | at_own.all(axis=0)).all()  # the others go together
    assert_share(unknown.all(axis=0)[rest.any(axis=0)], 0.5, rest.any(axis=0).sum())
    # Any of those that are there, or none, each as likely.
    for count in (1, 2, 3):
        some = has.sum(axis=0) == count
        assert_share(~known.any(axis=0)[some], 1 / (count + 1), some.sum())
        for row, there in zip(known, has, strict=True):
            assert_share(row[some & there], 1 / (count + 1), (some & there).sum())


@pytest.mark.parametrize("joint", TABLE)
@pytest.mark.parametrize(
    "fields",
    [
        {"p_one_known": 0.5, "p_known": 0.9, "p_dropped": 0.5, "max_known_time": 0.5},
        {"p_known": 1.0},
    ],
)
def test_what_an_example_lacks_is_never_known_but_wholly_unknown(joint, fields):
    present = presence(some=True)
    times = draw(joint(**fields), present)
    for name in NAMES:
        assert (times[name][~np.asarray(present[name])] == 1.0).all()
        assert ((times[name] >= 0.0) & (times[name] <= 1.0)).all()


@pytest.mark.parametrize("joint", TABLE)
def test_clamping_never_leaves_nothing_to_learn(joint):
    present = presence(some=True)
    has = stacked(present)
    for clamp in (0.7, 1.0):
        known = stacked(draw(joint(p_known=clamp), present)) == 0.0
        left = (has & ~known).sum(axis=0)
        assert (left[has.any(axis=0)] >= 1).all()
        if clamp == 1.0:
            assert (left[has.any(axis=0)] == 1).all()
            full = has.all(axis=0)
            for row in ~known:
                assert_share(row[full], 1 / 3, full.sum())


@pytest.mark.parametrize("joint", TABLE)
@pytest.mark.parametrize(
    ("single", "clamp", "drop"),
    [(0.0, 0.4, 0.25), (0.3, 0.0, 0.0), (0.5, 0.2, 0.1)],
)
def test_the_situations_have_their_shares(joint, single, clamp, drop):
    times = stacked(draw(joint(p_one_known=single, p_known=clamp, p_dropped=drop)))
    clamped = 2 / 3 * clamp  # one of three is never clamped
    for row in times:
        assert_share(row == 0.0, single / 4 + (1 - single) * clamped)
        assert_share(row == 1.0, single * 3 / 4 / 2 + (1 - single) * (1 - clamped) * drop)
    # Coins of the others fall for each modality by itself.
    nothing_known = single / 4 / 2 + (1 - single) * (1 - clamp) ** 2 * drop**3
    assert_share((times == 1.0).all(axis=0), nothing_known)


@pytest.mark.parametrize("joint", TABLE)
@pytest.mark.parametrize("fields", [{"p_known": 1.0}, {"p_one_known": 1.0}])
def test_what_is_known_is_known_in_part_in_half_of_the_examples(joint, fields):
    whole, part = (stacked(draw(joint(**fields, max_known_time=partial))) for partial in (0.0, 0.3))
    known = whole == 0.0
    np.testing.assert_array_equal(part[~known], whole[~known])
    assert_share(part[known] == 0.0, 0.5, known.sum())
    assert kstest(part[known & (part > 0.0)], "uniform", (0.0, 0.3)).pvalue > 1e-4
    # Each modality for itself.
    both = known[0] & known[1]
    if both.any():
        assert_share((part[:2, both] == 0.0).all(axis=0), 0.25, both.sum())


@pytest.mark.parametrize("joint", [*TABLE, lambda **f: Conditional(given=("b",), **f)])
def test_a_time_depends_on_the_index_and_not_on_the_order_of_the_batch(joint):
    joint = joint(p_one_known=0.3, p_known=0.3, p_dropped=0.3, max_known_time=0.2)
    order = np.random.default_rng(1).permutation(N)
    present = presence(some=True)
    plain = draw(joint, present)
    moved = draw(joint, jax.tree.map(lambda row: row[order], present), index=jnp.asarray(order))
    for name in NAMES:
        np.testing.assert_array_equal(moved[name], plain[name][order])


@pytest.mark.parametrize("joint", TABLE)
def test_the_batches_of_an_evaluation_draw_different_situations_at_the_same_strata(joint):
    joint = joint(p_dropped=0.5)
    first, second = (draw(joint, index=start + jnp.arange(N)) for start in (0, N))
    both = {name: (first[name] < 1.0) & (second[name] < 1.0) for name in NAMES}
    for name in NAMES:
        assert ((first[name] == 1.0) != (second[name] == 1.0)).any()
        if not isinstance(joint, Unbalanced):
            np.testing.assert_array_equal(first[name][both[name]], second[name][both[name]])


@pytest.mark.parametrize("joint", TABLE)
def test_jit_changes_nothing(joint):
    joint, present = (
        joint(p_one_known=0.3, p_known=0.3, p_dropped=0.3, max_known_time=0.2),
        presence(some=True),
    )
    compiled = jax.jit(lambda: joint.sample(KEY, jnp.arange(N), DISTRIBUTIONS, present))()
    plain = draw(joint, present)
    for name in NAMES:
        # The last bit of u is worth more where the quantile of the normal distribution is steep.
        np.testing.assert_allclose(compiled[name][:, 0], plain[name], atol=1e-5)


@pytest.mark.parametrize("joint", TABLE)
def test_another_step_draws_other_times(joint):
    joint, index = joint(p_known=0.5), jnp.arange(64)
    present = Named({name: jnp.ones(64, bool) for name in NAMES})
    one, other = (
        joint.sample(key, index, DISTRIBUTIONS, present) for key in map(jax.random.key, (0, 1))
    )
    assert all((one[name] != other[name]).any() for name in NAMES)


def test_one_modality_alone_is_at_its_own_time_unless_it_is_dropped():
    present, distributions = Named(a=jnp.ones(N, bool)), Named(a=Uniform())
    own = draw(Independent(), present, distributions)["a"]
    np.testing.assert_array_equal(draw(Independent(p_known=1.0), present, distributions)["a"], own)
    known = draw(Independent(p_one_known=1.0), present, distributions)["a"] == 0.0
    assert_share(known, 0.5)
    dropped = draw(Independent(p_dropped=0.2), present, distributions)["a"]
    assert ((dropped == 1.0) | (dropped == own)).all()
    assert_share(dropped == 1.0, 0.2)


def test_conditional_times_are_zero_for_what_is_given_and_own_for_the_rest():
    present = presence(some=True)
    times, own = draw(Conditional(given=("b",)), present), draw(Independent())
    assert (times["b"][np.asarray(present["b"])] == 0.0).all()
    assert (times["b"][~np.asarray(present["b"])] == 1.0).all()
    for name in "ac":
        has = np.asarray(present[name])
        np.testing.assert_array_equal(times[name][has], own[name][has])
    dropped = draw(Conditional(given=("b",), p_dropped=0.1))["b"]
    assert set(np.unique(dropped)) == {0.0, 1.0}
    assert_share(dropped == 1.0, 0.1)


def test_weights_say_how_often_each_is_the_one_that_is_known():
    joint = Independent(p_one_known=1.0, weights=Named(a=3.0, b=2.0))
    assert joint.names == ("a", "b") and Conditional(given=("c",)).names == ("c",)
    times = draw(joint)
    shares = {"a": 3 / 7, "b": 2 / 7, "c": 1 / 7}  # and of none, 1 / 7
    for name, share in shares.items():
        assert_share(times[name] == 0.0, share)
    with pytest.raises(ValueError, match="Independent needs weights > 0, got"):
        Independent(weights=Named(a=0.0))


@pytest.mark.parametrize("joint", [Independent, Shared, Unbalanced, Conditional])
@pytest.mark.parametrize("field", ["p_one_known", "p_known", "max_known_time", "p_dropped"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_out_of_range_are_refused_by_value(joint, field, value):
    with pytest.raises(ValueError) as error:
        joint(**{field: value})
    assert str(error.value) == f"{joint.__name__} needs {field} in [0, 1], got {value}"


def test_the_share_of_shared_times_is_one_too():
    with pytest.raises(ValueError, match=r"Unbalanced needs shared in \[0, 1\], got 2.0"):
        Unbalanced(shared=2.0)
    with pytest.raises(TypeError, match="JointTimeDistribution must define the method 'together'"):
        draw(JointTimeDistribution())
