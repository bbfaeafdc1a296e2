"""Mixtures: every source gives its exact share, and only what it has."""

from contextlib import closing

import numpy as np
import pytest

from tests.data.rows import Rows
from vqdit.data import Data, Digits, Mixture
from vqdit.data.mixture import Shares
from vqdit.data.sources import SPLITS, Feature

SMALL, BIG = Rows(count=6), Rows(count=18, first=50)


def drawn(source, steps, batch_size=8, seed=0):
    """The labels of that many batches, one after the other."""
    with closing(Data(source=source, batch_size=batch_size).train_batches(seed, 0)) as batches:
        return np.concatenate([next(batches).data["label"] for _ in range(steps)])


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((3.0, 1.0), (7500, 2500)),
        ((0.7, 0.3), (7000, 3000)),
        ((1437.0, 1000.0, 63.0), (5748, 4000, 252)),
        ((0.0001, 0.9999), (1, 9999)),
        ((1.0, 1.0, 1.0, 1.0), (2500, 2500, 2500, 2500)),
        ((5.0,), (10_000,)),
    ],
)
def test_shares_are_exact_over_a_long_run_and_near_at_any_time(weights, counts):
    shares = Shares(weights)
    picks = [shares[n] for n in range(10_000)]
    given = np.zeros((10_001, len(weights)))
    for n, (source, before) in enumerate(picks):
        assert before == given[n, source]
        given[n + 1] = given[n]
        given[n + 1, source] += 1
    assert given[-1].tolist() == list(counts)
    expected = np.arange(10_001)[:, None] * np.asarray(weights) / sum(weights)
    assert np.abs(given - expected).max() < 2


def test_shares_are_exact_far_along():
    shares, start = Shares((0.7, 0.3)), 10**12
    assert [shares[start + n][0] for n in range(10)].count(0) == 7


def test_batches_hold_each_source_by_its_weight():
    labels = drawn(Mixture(sources=(SMALL, BIG), weights=(3.0, 1.0)), 20)
    assert np.sum(labels < 50) == 120 and np.sum(labels >= 50) == 40


def test_without_weights_every_example_is_as_likely():
    labels = drawn(Mixture(sources=(SMALL, BIG)), 9)
    assert np.bincount(labels)[[*range(6), *range(50, 68)]].tolist() == [3] * 24


def test_every_source_gives_all_its_examples_before_it_repeats_one():
    labels = drawn(Mixture(sources=(SMALL, BIG), weights=(1.0, 2.0)), 9)
    small, big = labels[labels < 50], labels[labels >= 50]
    for start in range(0, 24, 6):
        assert sorted(small[start : start + 6]) == list(range(6))
    for start in range(0, 36, 18):
        assert sorted(big[start : start + 18]) == list(range(50, 68))


def test_sources_of_one_size_are_shuffled_differently():
    labels = drawn(Mixture(sources=(Rows(count=18), BIG)), 9, batch_size=4)
    assert (labels[labels < 50] != labels[labels >= 50] - 50).any()


def test_every_image_comes_with_the_label_of_its_row():
    data = Data(source=Mixture(sources=(SMALL, BIG)), batch_size=24)
    batch = data.first_batch(0)
    for image, label in zip(batch.data["image"], batch.data["label"], strict=True):
        source = BIG if label >= 50 else SMALL
        np.testing.assert_array_equal(image, source.image(label - source.first))


def test_what_a_source_lacks_is_a_missing_modality():
    unlabelled = Rows(count=18, first=50, has_label=False)
    source = Mixture(sources=(unlabelled, SMALL), weights=(1.0, 1.0))
    assert list(source.features()) == ["image", "label"]
    batch = Data(source=source, batch_size=24).first_batch(0)
    known = {SMALL.image(row).tobytes(): row for row in range(6)}
    rows = [known.get(image.tobytes()) for image in batch.data["image"]]
    assert batch.present["image"].all()
    assert batch.present["label"].tolist() == [row is not None for row in rows]
    assert batch.data["label"].tolist() == [row or 0 for row in rows]
    assert batch.present["label"].sum() == 12


def test_every_split_is_those_of_the_sources_one_after_the_other():
    source = Mixture(sources=(SMALL, BIG), weights=(5.0, 1.0))
    for split, sizes in zip(SPLITS, [(6, 18), (1, 4), (1, 4)], strict=True):
        labels = [
            label
            for batch in Data(source=source, batch_size=4).split_batches(split)
            for label in batch.data["label"][batch.valid].tolist()
        ]
        assert labels == [*range(sizes[0]), *range(50, 50 + sizes[1])]


def test_batches_are_the_same_on_any_number_of_processes():
    data = Data(source=Mixture(sources=(SMALL, BIG), weights=(0.3, 0.7)), batch_size=8)
    with closing(data.train_batches(0, 5)) as batches:
        whole = next(batches)
    parts = []
    for index in range(4):
        with closing(data.train_batches(0, 5, process_index=index, process_count=4)) as batches:
            parts.append(next(batches).data["label"])
    np.testing.assert_array_equal(np.concatenate(parts), whole.data["label"])


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        (Rows(edge=4), Rows(edge=8), "image"),
        (Rows(classes=10), Rows(classes=12), "label"),
        (Rows(dtype="int16"), Rows(), "image"),
        (Rows(classes=2, names=("cat", "dog")), Rows(classes=2, names=("bus", "car")), "label"),
    ],
)
def test_sources_that_disagree_are_refused_by_the_name_of_the_column(one, other, name):
    with pytest.raises(
        ValueError, match=f"the sources of the mixture have different features for '{name}': "
    ):
        Mixture(sources=(one, other)).features()


def test_sources_agree_if_they_store_the_same():
    source = Mixture(sources=(Rows(dtype="uint8"), Rows()))
    assert source.features()["image"].stored == np.uint8


def test_every_column_keeps_its_dtype():
    source = Mixture(sources=(Rows(dtype="int16"), Rows(first=50, dtype="int16")))
    images = source.split("train").take(np.asarray([0, 12]))["image"]
    assert images.dtype == np.int16
    expected = [Rows().image(0), Rows(first=50).image(0)]
    np.testing.assert_array_equal(images, np.stack(expected).astype(np.int16))


def test_names_of_classes_come_from_whichever_source_has_them():
    bare, named = Rows(classes=2), Rows(classes=2, names=("cat", "dog"))
    for sources in ((bare, named), (named, bare), (named, named)):
        label = Mixture(sources=sources).features()["label"]
        assert label == Feature((), 2, ("cat", "dog"))


def test_real_sources_can_be_mixed():
    source = Mixture(sources=(Digits(), Digits()), weights=(1.0, 3.0))
    assert source.features() == Digits().features()
    assert len(source.split("train")) == 2 * 1437
    assert Data(source=source, batch_size=8).first_batch(0).data["image"].shape == (8, 8, 8, 1)


def test_the_fingerprint_is_that_of_all_sources():
    both = Mixture(sources=(SMALL, BIG)).fingerprint()
    assert both == {"mixture": [SMALL.fingerprint(), BIG.fingerprint()]}


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        ((SMALL, BIG), (1.0,), "2 sources but 1 weights"),
        ((SMALL, BIG), (1.0, 0.0), r"weights > 0, got \(1.0, 0.0\)"),
        ((SMALL, BIG), (1.0, -2.0), r"weights > 0, got \(1.0, -2.0\)"),
        ((SMALL, BIG), (1.0, float("nan")), r"weights must be finite, got nan"),
        ((SMALL, BIG), (1.0, float("inf")), r"weights must be finite, got inf"),
        ((SMALL, Mixture(sources=(BIG,))), (), "cannot contain a Mixture"),
    ],
)
def test_what_cannot_be_mixed_is_refused(sources, weights, message):
    with pytest.raises(ValueError, match=message):
        Mixture(sources=sources, weights=weights)


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one source"):
        Mixture().features()
    with pytest.raises(ValueError, match="at least one source"):
        Mixture().split("train")
