"""How examples are divided into splits."""

from collections import Counter

import numpy as np
import pytest

from vqdit.data.sources import SPLITS, divide


@pytest.mark.parametrize("sizes", [(10, 10), (100, 7, 1), (15, 15), (2,) * 9 + (40,), (3, 3, 4, 1)])
def test_every_class_has_its_share_of_each_split_and_is_in_training(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes).tolist()
    rows = divide(len(labels), "x", labels)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(len(labels)))
    counts = {split: Counter(labels[row] for row in rows[split]) for split in SPLITS}
    for name, size in enumerate(sizes):
        assert counts["train"][name] > 0
        for split in ("validation", "test"):
            assert size // 10 <= counts[split][name] <= size // 10 + 1
    assert [len(rows[split]) for split in SPLITS[1:]] == [len(labels) // 10] * 2
    again = divide(len(labels), "x", labels)
    assert all((rows[split] == again[split]).all() for split in SPLITS)


def test_without_classes_the_division_is_as_ever():
    assert divide(20, "x")["test"].tolist() == [10, 19]


def test_classes_of_one_example_cannot_be_divided():
    with pytest.raises(ValueError, match="x has only one example of each class, so none are left"):
        divide(12, "x", list(range(12)))
