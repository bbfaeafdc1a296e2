"""Faults of a set of real garments move the metric that tells them, in the right direction."""

import gzip

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vqdit.data.fashion_mnist import DEBIAN
from vqdit.evaluation.extraction import Features
from vqdit.evaluation.set_metrics import MANIFOLDS, measure_sets

METRICS = ("fd", "kid", "mmd", *MANIFOLDS)
DISTANCES = ("fd", "kid", "mmd")
FILE = DEBIAN / "t10k-images-idx3-ubyte.gz"
SIZE = 1000

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="needs dataset-fashion-mnist of Debian")


@pytest.fixture(scope="module")
def garments():
    """The test pictures, float64 [10000, 28, 28] in [0, 1], and their labels."""
    labels = DEBIAN / FILE.name.replace("images-idx3", "labels-idx1")
    pixels = np.frombuffer(gzip.decompress(FILE.read_bytes()), np.uint8, offset=16)
    classes = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28) / 255.0, classes


@pytest.fixture(scope="module")
def measure(garments):
    """Measures a set against the first thousand pictures, in 32 random projections of pixels."""
    projection = np.random.default_rng(0).normal(size=(28 * 28, 32)) / 28

    def features(pictures):
        return Features((pictures.reshape(len(pictures), -1) @ projection).astype("f4"), None, "")

    def measured(pictures):
        reference = features(garments[0][:SIZE])
        found = measure_sets(METRICS, features(pictures), reference)
        return {name: one["value"] for name, one in found.items()}

    return measured


@pytest.fixture(scope="module")
def good(garments, measure):
    """Other pictures of the same kind."""
    return measure(garments[0][SIZE : 2 * SIZE])


def test_identical_sets_have_no_distance(garments, measure):
    same = measure(garments[0][:SIZE])
    assert same["fd"] == pytest.approx(0.0, abs=1e-6)
    assert same["mmd"] <= 0.01
    assert all(same[name] == 1.0 for name in ("precision", "recall", "coverage"))


def test_blurred_pictures_are_farther_and_less_varied(garments, measure, good):
    blurred = measure(gaussian_filter(garments[0][SIZE : 2 * SIZE], (0, 2, 2)))
    assert all(blurred[name] > 1.5 * good[name] for name in DISTANCES)
    assert blurred["recall"] < good["recall"]


def test_shifted_pictures_are_farther_and_less_true(garments, measure, good):
    shifted = measure(np.roll(garments[0][SIZE : 2 * SIZE], 4, axis=2))
    assert all(shifted[name] > 1.5 * good[name] for name in DISTANCES)
    assert shifted["precision"] < good["precision"] and shifted["coverage"] < good["coverage"]


def test_dropped_classes_lower_recall_and_coverage_not_precision(garments, measure, good):
    pictures, classes = garments
    few = measure(pictures[SIZE:][classes[SIZE:] < 3][:SIZE])
    assert all(few[name] > 1.5 * good[name] for name in DISTANCES)
    assert few["recall"] < good["recall"] - 0.1 and few["coverage"] < good["coverage"] - 0.3
    assert few["precision"] > good["precision"] - 0.05


def test_copies_of_few_pictures_keep_precision_and_lose_recall(garments, measure, good):
    """Ten pictures of the reference, a hundred times each."""
    copies = measure(np.repeat(garments[0][:10], SIZE // 10, axis=0))
    assert copies["precision"] == 1.0
    assert copies["recall"] < 0.1 and copies["coverage"] < 0.3
    assert all(copies[name] > 1.5 * good[name] for name in DISTANCES)
