"""The batch of step n is a function of (seed, n) alone, and every epoch is complete."""

from contextlib import closing
from types import SimpleNamespace

import chex
import numpy as np
import pytest

from tests.data.rows import Rows
from vqdit.data import Affine, Data, Digits, HorizontalFlip, Missing, Mixture
from vqdit.data.augment import Augmentation
from vqdit.data.sources import Feature
from vqdit.typing import Named

CHANGES = (HorizontalFlip(), Affine())


def take(data, steps, seed=0, start=0, **process):
    with closing(data.train_batches(seed, start, **process)) as batches:
        return [next(batches) for _ in range(steps)]


def labels(data, steps, **which):
    return np.concatenate([batch.data["label"] for batch in take(data, steps, **which)])


@pytest.mark.parametrize("batch_size", [4, 5])
@pytest.mark.parametrize("start", [1, 3, 7])
def test_starting_at_n_is_skipping_n(batch_size, start):
    data = Data(source=Rows(), augment=CHANGES, batch_size=batch_size)
    whole = take(data, 10)
    for batch, expected in zip(take(data, 10 - start, start=start), whole[start:], strict=True):
        chex.assert_trees_all_equal(batch, expected)


def test_the_same_seed_gives_the_same_batches():
    data = Data(source=Rows(), augment=CHANGES, batch_size=4)
    chex.assert_trees_all_equal(take(data, 5, seed=3), take(data, 5, seed=3))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_processes_together_have_the_global_batch(count):
    data = Data(source=Rows(count=10), augment=CHANGES, batch_size=8)
    for step in (0, 1, 6):
        (whole,) = take(data, 1, start=step)
        parts = [
            take(data, 1, start=step, process_index=index, process_count=count)[0]
            for index in range(count)
        ]
        joined = {name: np.concatenate([part.data[name] for part in parts]) for name in whole.data}
        chex.assert_trees_all_equal(joined, dict(whole.data))
        np.testing.assert_array_equal(np.concatenate([part.index for part in parts]), range(8))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 12])
def test_every_epoch_sees_every_example_once(batch_size):
    data = Data(source=Rows(count=12), batch_size=batch_size)
    seen = labels(data, 60 // batch_size)
    for start in range(0, 60, 12):
        assert sorted(seen[start : start + 12]) == list(range(12))


def test_every_epoch_has_an_order_of_its_own():
    epochs = labels(Data(source=Rows(count=12), batch_size=12), 6).reshape(6, 12)
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert list(range(12)) not in epochs.tolist()


def test_every_seed_has_an_order_of_its_own():
    data = Data(source=Rows(count=12), batch_size=12)
    orders = {tuple(labels(data, 3, seed=seed)) for seed in (0, 1, 2, 2**32 - 1, 2**40)}
    assert len(orders) == 5


def test_the_next_epoch_is_not_the_first_of_the_next_seed():
    data = Data(source=Rows(count=12), batch_size=12)
    epochs, others = labels(data, 5).reshape(5, 12), [labels(data, 1, seed=s) for s in range(1, 5)]
    assert not {tuple(epoch) for epoch in epochs} & {tuple(other) for other in others}


def test_a_batch_holds_the_rows_that_it_says():
    source = Rows()
    for batch in take(Data(source=source, batch_size=4), 3):
        images = [source.image(label) for label in batch.data["label"]]
        np.testing.assert_array_equal(batch.data["image"], images)
        assert batch.valid.all() and batch.present["image"].all() and batch.present["label"].all()
        assert batch.index.tolist() == [0, 1, 2, 3] and batch.index.dtype == np.int32


class Noise(Augmentation):
    """Adds what its generator draws."""

    def apply(self, image, generator):
        return image + generator.integers(0, 256, image.shape, dtype=np.uint8)


def test_augmentation_is_drawn_by_seed_step_and_row():
    source = Rows()
    data = Data(source=source, augment=(Noise(), Noise()), batch_size=4)
    for step, batch in enumerate(take(data, 3, seed=9), 0):
        for row in range(4):
            generator = np.random.Generator(np.random.Philox([9, step, row]))
            expected = source.image(batch.data["label"][row])
            for _ in range(2):
                expected = expected + generator.integers(0, 256, expected.shape, dtype=np.uint8)
            np.testing.assert_array_equal(batch.data["image"][row], expected)


def test_augmentations_are_applied_one_after_the_other():
    class Halve(Augmentation):
        def apply(self, image, generator):
            return image // 2

    class Increase(Augmentation):
        def apply(self, image, generator):
            return image + 1

    source = Rows()
    (batch,) = take(Data(source=source, augment=(Halve(), Increase()), batch_size=12), 1)
    expected = [source.image(label) // 2 + 1 for label in batch.data["label"]]
    np.testing.assert_array_equal(batch.data["image"], expected)


PICTURES = ("before", "after")


class Pair(Rows):
    """Two pictures of one example, of other names and sizes, and what is no picture."""

    def features(self):
        return Named(
            before=Feature((4, 4, 1)),
            after=Feature((6, 8, 1)),
            depth=Feature((4, 4, 1), dtype="int16"),
        )

    def split(self, name):
        return _Pair(Rows(count=self.count).split(name))


class _Pair:
    def __init__(self, split):
        self._split = split

    def __len__(self):
        return len(self._split)

    def take(self, rows):
        small = self._split.take(rows)["image"]
        large = np.zeros((len(rows), 6, 8, 1), np.uint8)
        large[:, :4, :4] = small
        return {"before": small, "after": large, "depth": small.astype(np.int16)}


@pytest.mark.parametrize("view", ["augment", "augment_given"])
def test_all_pictures_of_an_example_are_changed_alike(view):
    source = Pair(count=64)
    (batch,) = take(Data(source=source, batch_size=64, **{view: (HorizontalFlip(),)}), 1)
    (plain,) = take(Data(source=source, batch_size=64), 1)
    suffix = "_given" if view == "augment_given" else ""
    assert set(batch.data) == {"before", "after", "depth", *{f"{n}{suffix}" for n in PICTURES}}
    flipped = {}
    for name in PICTURES:
        found, was = batch.data[name + suffix], plain.data[name]
        flipped[name] = (found == was[:, :, ::-1]).all(axis=(1, 2, 3))
        np.testing.assert_array_equal(found[~flipped[name]], was[~flipped[name]])
    np.testing.assert_array_equal(flipped["before"], flipped["after"])
    assert 0.2 < flipped["before"].mean() < 0.8
    np.testing.assert_array_equal(batch.data["depth"], plain.data["depth"])


def test_only_training_is_augmented():
    source = Rows(count=16)
    (batch,) = Data(source=source, augment=(Noise(),), batch_size=4).split_batches("validation")
    np.testing.assert_array_equal(batch.data["image"], [source.image(row) for row in range(4)])


def test_the_first_batch_is_that_of_step_0():
    data = Data(source=Rows(), augment=CHANGES, batch_size=4)
    chex.assert_trees_all_equal(data.first_batch(5), take(data, 1, seed=5)[0])


@pytest.mark.slow
def test_worker_processes_make_the_same_batches():
    plain = Data(source=Digits(), augment=CHANGES, batch_size=16)
    with_workers = Data(source=Digits(), augment=CHANGES, batch_size=16, workers=2)
    expected = take(plain, 5, start=3)
    for batch, other in zip(take(with_workers, 5, start=3), expected, strict=True):
        chex.assert_trees_all_equal(batch, other)


@pytest.mark.parametrize("batch_size", [4, 5, 6, 100])
@pytest.mark.parametrize("count", [1, 2])
def test_a_split_is_gone_through_once_in_order(batch_size, count):
    if batch_size % count:
        return
    source = Rows(count=48)
    data = Data(source=source, batch_size=batch_size)
    parts = [
        list(data.split_batches("test", process_index=index, process_count=count))
        for index in range(count)
    ]
    assert all(len(part) == -(-12 // batch_size) for part in parts)
    rows = []
    for batches in zip(*parts, strict=True):
        for batch in batches:
            assert len(batch.valid) == batch_size // count
            rows += batch.data["label"][batch.valid].tolist()
            np.testing.assert_array_equal(batch.index < 12, batch.valid)
            for present in batch.present.values():
                np.testing.assert_array_equal(present, batch.valid)
    assert rows == list(range(12))


def test_the_index_of_a_split_counts_on_over_its_batches():
    batches = Data(source=Rows(count=12), batch_size=5).split_batches("train")
    assert np.concatenate([batch.index for batch in batches]).tolist() == list(range(15))


def test_a_batch_that_processes_cannot_share_is_refused():
    data = Data(source=Rows(), batch_size=9)
    match = "batch_size 9 is not divisible by 2 processes"
    with pytest.raises(ValueError, match=match):
        take(data, 1, process_count=2)
    with pytest.raises(ValueError, match=match):
        next(data.split_batches("train", process_count=2))


def test_too_few_examples_are_refused_with_both_numbers():
    Data(source=Rows(count=12), batch_size=12).check()
    match = "training split has 12 examples, fewer than the batch_size 13"
    with pytest.raises(ValueError, match=match):
        Data(source=Rows(count=12), batch_size=13).check()


@pytest.mark.parametrize(
    "fields", [{"batch_size": 0}, {"workers": -1}, {"workers": 10**6}, {"buckets": 10**9}]
)
def test_bad_fields_are_refused_by_value(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"Data needs {name} .*got {value}"):
        Data(**fields)


class Plain(Rows):
    """A source that does not say which examples have a column, or that lacks one."""

    without: str = ""

    def split(self, name):
        split = super().split(name)
        plain = lambda rows: {  # noqa: E731
            column: values
            for column, values in split.take(rows).items()
            if not column.startswith("present_") and column != self.without
        }
        return _Sized(take=plain, count=len(split))


class _Sized(SimpleNamespace):
    def __len__(self):
        return self.count


def test_a_source_need_not_say_which_examples_have_a_column():
    plain, rows = Plain(), Rows()
    for source in (plain, Mixture(sources=(plain,)), Missing(source=plain, column="label")):
        for split in ("train", "validation"):
            (batch, *_) = Data(source=source, batch_size=4).split_batches(split)
            assert batch.present["image"].tolist() == batch.valid.tolist()
    (batch,) = take(Data(source=plain, batch_size=4), 1)
    chex.assert_trees_all_equal(batch, take(Data(source=rows, batch_size=4), 1)[0])


def test_a_column_that_a_split_lacks_is_named():
    with pytest.raises(ValueError, match=r"take must return 'label' with the shape \[4\].*no such"):
        take(Data(source=Plain(without="label"), batch_size=4), 1)
