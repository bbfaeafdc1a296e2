"""Distances of sets of features: closed forms, other implementations, directions, intervals."""

import math

import numpy as np
import pytest

from vqdit.evaluation.frechet import Gaussian, Moments, frechet_distance, frechet_estimate
from vqdit.evaluation.inception_score import inception_score
from vqdit.evaluation.mmd import gaussian_mmd, kid
from vqdit.evaluation.neighbours import manifolds


@pytest.fixture
def random():
    return np.random.default_rng(0)


def set_with(random, count, mean, variances):
    """Features whose mean and covariance are exactly these, along random axes from seed 7."""
    white = random.standard_normal((count, len(variances)))
    white -= white.mean(axis=0)
    white = np.linalg.qr(white)[0] * math.sqrt(count - 1)
    axes = np.linalg.qr(np.random.default_rng(7).standard_normal((len(mean), len(mean))))[0]
    return white * np.sqrt(variances) @ axes[: len(variances)] + mean


@pytest.mark.parametrize(("rank", "count"), [(48, 200), (20, 60), (9, 10)])
def test_frechet_distance_of_known_gaussians(random, rank, count):
    """Full rank, constant directions, and fewer examples than features."""
    mean = random.standard_normal(48)
    a, b = random.uniform(0.1, 9.0, (2, rank))
    first, second = set_with(random, count, mean, a), set_with(random, 2 * count, -mean, b)
    expected = 4 * (mean**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_estimate(first, second).value == pytest.approx(expected, rel=1e-10)
    apart = np.concatenate([np.zeros((count, 48)), first], axis=1)  # in another subspace
    second = np.concatenate([first, np.zeros((count, 48))], axis=1)
    expected = 2 * (mean**2).sum() + 2 * a.sum()
    assert frechet_estimate(apart, second).value == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_by_eigenvalues(random):
    """The covariances do not commute; the trace is the sum of roots of eigenvalues of C_a C_b."""
    a, b = (random.standard_normal((300, 30)) @ random.standard_normal((30, 30)) for _ in "ab")
    first, second = np.cov(a.T), np.cov(b.T)
    shared = np.sqrt(np.linalg.eigvals(first @ second).real).sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    expected = means + np.trace(first) + np.trace(second) - 2 * shared
    assert frechet_distance(Moments.of(a).gaussian(), Moments.of(b).gaussian()) == pytest.approx(
        expected
    )
    given = Gaussian(b.mean(axis=0), second)
    assert frechet_estimate(a, given).value == pytest.approx(expected)


def test_moments_of_parts_are_those_of_the_whole(random):
    """Batches of any sizes, merged as a tree of processes merges them, far from 0."""
    features = (random.standard_normal((2500, 8)) + 1e5).astype(np.float32)
    parts = np.split(features, [1, 700, 700, 1900])
    a, b, c, d, e = map(Moments.of, parts)
    found = a.merge(b.merge(c)).merge(e.merge(d))
    assert found.count == 2500
    np.testing.assert_allclose(found.mean, features.mean(axis=0, dtype=np.float64), rtol=1e-14)
    whole = np.cov(features.T.astype(np.float64))
    np.testing.assert_allclose(found.gaussian().covariance, whole, rtol=1e-10, atol=1e-12)


def test_kid_written_out(random):
    """Of one full subset, and of subsets that the package torch-fidelity draws."""
    a, b = random.standard_normal((70, 12)), random.standard_normal((90, 12)) * 1.1 + 0.2

    def unbiased(x, y):
        n = len(x)
        xx, yy, xy = ((z @ w.T / 12 + 1) ** 3 for z, w in ((x, x), (y, y), (x, y)))
        own = xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)
        return own / (n * (n - 1)) - 2 * xy.mean()

    assert kid(a, b[:70]).value == pytest.approx(unbiased(a, b[:70]), rel=1e-10)
    drawn = np.random.RandomState(2020)
    parts = [[z[drawn.choice(len(z), 20, replace=False)] for z in (a, b)] for _ in range(7)]
    expected = np.mean([unbiased(x, y) for x, y in parts])
    assert kid(a, b, 7, 20).value == pytest.approx(expected, rel=1e-10)


def test_inception_score_written_out(random):
    logits = 3 * random.standard_normal((60, 7))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = np.split(p[np.random.RandomState(2020).permutation(60)], 3)
    expected = [np.exp((q * np.log(q / q.mean(axis=0))).sum(axis=1).mean()) for q in parts]
    assert inception_score(logits, 3).value == pytest.approx(np.mean(expected))


@pytest.mark.peers
def test_manifolds_are_those_of_prdc(random):
    prdc = pytest.importorskip("prdc")
    a, b = random.standard_normal((70, 12)), random.standard_normal((90, 12)) * 1.2 + 0.3
    expected = prdc.compute_prdc(b, a, nearest_k=4)
    found = {name: estimate.value for name, estimate in manifolds(a, b, k=4).items()}
    assert found == pytest.approx(expected, abs=1e-12)
    assert len(set(found.values())) == 4


def test_distances_written_out(random):
    """Over more rows than a block has, without the packages."""
    a, b = random.standard_normal((1100, 3)), random.standard_normal((1030, 3)) + 0.1
    square = ((a[:, None] - b) ** 2).sum(axis=-1)
    own = [((z[:, None] - z) ** 2).sum(axis=-1) for z in (a, b)]
    reach = [np.sort(distances, axis=1)[:, 5] for distances in own]  # the first is its own, 0
    found = manifolds(a, b)
    is_in = square < reach[1]
    expected = {
        "precision": is_in.any(axis=1).mean(),
        "recall": (square < reach[0][:, None]).any(axis=0).mean(),
        "density": is_in.sum(axis=1).mean() / 5,
        "coverage": is_in.any(axis=0).mean(),
    }
    assert {name: found[name].value for name in found} == pytest.approx(expected)
    kernels = [np.exp(-distances / 8.0).mean() for distances in (*own, square)]
    expected = 1000 * (kernels[0] + kernels[1] - 2 * kernels[2])
    assert gaussian_mmd(a, b, sigma=2.0).value == pytest.approx(expected)


def test_equal_sets_and_directions(random):
    """Noise, a shift and a missing class each increase the distances of a mixture of classes."""
    classes = np.arange(600) % 4
    centres = 3 * random.standard_normal((4, 6))
    real = centres[classes] + random.standard_normal((600, 6))
    for distance in (frechet_estimate, gaussian_mmd):
        assert distance(real, real).value == pytest.approx(0.0, abs=1e-9)
    same = manifolds(real, real)
    assert same["precision"].value == same["recall"].value == same["coverage"].value == 1.0

    def small_kid(a, b):
        return kid(a / 5.0, b / 5.0)  # its kernel is for features of about this size

    fresh = centres[classes] + random.standard_normal((600, 6))
    spoiled = {
        "shift": fresh + 1.0,
        "noise": fresh + 3.0 * random.standard_normal((600, 6)),
        "classes": fresh[classes < 2],
    }
    for what, samples in spoiled.items():
        for distance in (frechet_estimate, gaussian_mmd, small_kid):
            assert distance(samples, real).low > distance(fresh, real).value, what
    before = manifolds(fresh, real)
    noisy, few = manifolds(spoiled["noise"], real), manifolds(spoiled["classes"], real)
    assert noisy["precision"].high < before["precision"].low
    assert noisy["density"].high < before["density"].low
    assert few["recall"].high < before["recall"].low
    assert few["coverage"].high < before["coverage"].low
    assert few["precision"].high > before["precision"].low
    copies = manifolds(real[:50].repeat(12, axis=0), real)
    assert copies["precision"].value == 1.0
    assert copies["recall"].high < before["recall"].low


def test_inception_score_of_known_answers():
    sure = 50.0 * np.eye(5)[np.arange(100) % 5]
    assert inception_score(sure, 1).value == pytest.approx(5.0)
    assert inception_score(np.zeros((100, 5))).value == pytest.approx(1.0)
    assert inception_score(sure[:1].repeat(100, axis=0), 2).value == pytest.approx(1.0)


def spread(random, draw, measure):
    """The standard error that an estimate's interval states, and that of repeated experiments."""
    estimates = [measure(*draw()) for _ in range(150)]
    stated = np.mean([(e.high - e.low) / 2 / 1.96 for e in estimates])
    return stated, np.std([e.value for e in estimates])


def test_intervals_are_those_of_repeated_experiments(random):
    def pair():
        a = random.standard_normal((80, 3)) * np.asarray([1.0, 2.0, 0.5])
        return a, random.standard_normal((90, 3)) + 0.8

    for measure in (frechet_estimate, lambda a, b: kid(a, b, 4, 50), gaussian_mmd):
        stated, true = spread(random, pair, measure)
        assert stated == pytest.approx(true, rel=0.2)
    answers = 2.0 * np.eye(4)
    stated, true = spread(
        random,
        lambda: (answers[random.integers(0, 4, 120)] * random.uniform(0, 2, (120, 1)),),
        lambda logits: inception_score(logits, 2),
    )
    assert stated == pytest.approx(true, rel=0.2)


def test_what_cannot_be_measured(random):
    a = random.standard_normal((10, 3))
    bad = a.copy()
    bad[7, 1] = np.nan
    for measure in (frechet_estimate, kid, gaussian_mmd, manifolds):
        with pytest.raises(
            ValueError, match="features of at least 1 .* the first being example 7;"
        ):
            measure(bad, a)
        with pytest.raises(ValueError, match="of one network, got 3 features .* and 2 in the"):
            measure(a, a[:, :2])
        with pytest.raises(ValueError, match="needs at least [26] examples, got 1"):
            measure(a[:1], a)
    with pytest.raises(ValueError, match="of 10 parts needs at least 20 samples, got 10"):
        inception_score(a)
    with pytest.raises(ValueError, match="of the same network in both sets, got 3 and 2"):
        frechet_distance(Moments.of(a).gaussian(), Moments.of(a[:, :2]).gaussian())
