"""Copies of training examples among samples are found, and nothing else."""

import numpy as np
import pytest

from vqdit.evaluation.memorisation import copies, nearest


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_nearest_neighbours_are_those_of_all_pairs(random):
    x, y = random.normal(size=(1500, 5)), random.normal(size=(1100, 5)).astype(np.float32)
    pairs = np.linalg.norm(x[:, None] - y[None], axis=-1)
    found, distances = nearest(x, y)
    np.testing.assert_array_equal(found, pairs.argmin(axis=1))
    np.testing.assert_allclose(distances, pairs.min(axis=1), rtol=1e-12)


def test_copies_are_found_exactly(random):
    """Thirty copies, ten of them with a little noise, among samples of the same distribution."""
    training, held_out, samples = (random.normal(size=(n, 16)) for n in (2000, 500, 300))
    which = random.permutation(2000)[:30]
    samples[:30] = training[which]
    samples[20:30] += 1e-3 * random.normal(size=(10, 16))
    found = copies(samples, training, held_out)
    near = found.distances <= found.limit
    assert near[:30].all() and near[30:].mean() < 0.03
    np.testing.assert_array_equal(found.nearest[:30], which)
    assert (found.distances[:20] == 0.0).all()
    assert found.share.value == near.mean() and found.share.count == 300
    assert found.of_held_out.value == pytest.approx(0.01)
    assert set(found.closest(30)) == set(range(30))


def test_new_samples_have_the_rate_of_held_out_examples(random):
    training, held_out, samples = (random.normal(size=(n, 8)) for n in (1000, 4000, 4000))
    share = copies(samples, training, held_out).share
    assert share.low <= 0.01 * 1.3 and share.high >= 0.01 / 1.3


def test_too_few_and_unequal_features_are_refused(random):
    x = random.normal(size=(150, 4))
    with pytest.raises(ValueError, match="copies needs at least 100 held-out examples, got 99"):
        copies(x, x, x[:99])
    with pytest.raises(ValueError, match="got 3 features per example in one set and 4"):
        copies(x[:, :3], x, x)
    with pytest.raises(ValueError, match="needs at least 1 examples, got 0"):
        copies(x[:0], x, x)
