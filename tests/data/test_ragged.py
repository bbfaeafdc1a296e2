"""Columns of variable length: stored as they are, padded in batches, bucketed by length."""

import itertools

import numpy as np
import pytest

from tests.phrases import LONGEST, SIZES, Phrases, PhraseSplit, phrase
from vqdit.data import Data
from vqdit.data.builders import records
from vqdit.data.builders.reader import Records
from vqdit.data.missing import Missing
from vqdit.data.mixture import Mixture
from vqdit.data.sources import PRESENT, Feature, lengths_of, take
from vqdit.ragged import padded, ragged
from vqdit.typing import Named

FEATURES = Named(sound=Feature((9, 2), dtype="int16", ragged=True), text=Feature((5,), ragged=True))


def texts_of(batch):
    rows = zip(batch.data["text"], batch.mask["text"], strict=True)
    return [bytes(row[real]).decode() for row, real in rows]


def test_padding_is_zeros_behind_the_end():
    values, mask = padded(ragged([np.asarray([3, 4]), np.asarray([], int)]), 3)
    assert values.tolist() == [[3, 4, 0], [0, 0, 0]]
    assert mask.tolist() == [[True, True, False], [False] * 3]
    with pytest.raises(ValueError, match="2 positions, more than the padded length 1 of its batch"):
        padded(ragged([np.asarray([3, 4])]), 1)


def test_examples_are_stored_without_padding(tmp_path):
    random = np.random.default_rng(0)
    examples = [
        {
            "sound": random.integers(-9, 9, (n, 2)).astype(np.int16),
            "text": np.arange(n % 6, dtype=np.uint8),
        }
        for n in range(10)
    ]
    del examples[3]["text"]
    records.write(tmp_path / "set", "set", FEATURES, {"train": examples})
    split = Records(tmp_path / "set", "train")
    assert split.features == FEATURES
    rows = np.asarray([7, 3, 0])
    taken = take(split, rows, FEATURES)
    for place, row in enumerate(rows):
        assert np.array_equal(taken["sound"][place], examples[row]["sound"])
    assert taken["sound"][0].dtype == np.int16
    assert taken[PRESENT + "text"].tolist() == [True, False, True]
    assert lengths_of(split, "sound", FEATURES["sound"]).tolist() == list(range(10))
    assert lengths_of(split, "text", FEATURES["text"])[3] == 0


@pytest.mark.parametrize("shape", [(10, 2), (3, 1)])
def test_an_example_that_does_not_fit_is_refused(tmp_path, shape):
    example = {"sound": np.zeros(shape, np.int16), "text": np.zeros(1, np.uint8)}
    with pytest.raises(ValueError, match=r"at most 9 positions of shape \[2\]"):
        records.write(tmp_path / "set", "set", FEATURES, {"train": [example]})


def test_batches_of_every_epoch_hold_every_example_once():
    data = Data(source=Phrases(), batch_size=6, buckets=3)
    epoch = SIZES["train"] // 6
    batches = list(itertools.islice(data.train_batches(0, 0), 2 * epoch))
    expected = sorted(phrase(number) for number in range(SIZES["train"]))
    for part in (batches[:epoch], batches[epoch:]):
        assert sorted(text for batch in part for text in texts_of(batch)) == expected
    lengths = {batch.data["text"].shape[1] for batch in batches}
    assert len(lengths) == 3 and max(lengths) == LONGEST
    masks = [batch.mask["text"] for batch in batches]
    padding = 1.0 - sum(mask.sum() for mask in masks) / sum(mask.size for mask in masks)
    whole = next(Data(source=Phrases(), batch_size=60).train_batches(0, 0))
    assert padding < 0.6 * (1.0 - whole.mask["text"].mean())


def test_a_batch_depends_on_seed_and_step_alone_whatever_the_processes():
    data = Data(source=Phrases(), batch_size=6, buckets=3)
    whole = list(itertools.islice(data.train_batches(1, 0), 14))
    later = next(data.train_batches(1, 13))
    assert np.array_equal(later.data["text"], whole[13].data["text"])
    other = list(itertools.islice(data.train_batches(2, 0), 14))
    assert any(texts_of(a) != texts_of(b) for a, b in zip(whole, other, strict=True))
    for process in range(2):
        parts = data.train_batches(1, 0, process_index=process, process_count=2)
        for part, batch in zip(itertools.islice(parts, 14), whole, strict=True):
            assert np.array_equal(part.data["text"], batch.data["text"][3 * process :][:3])
            assert np.array_equal(part.mask["text"], batch.mask["text"][3 * process :][:3])
    rows = data.train_rows(1, 13)
    assert [phrase(int(row)) for row in rows] == texts_of(later)


def test_an_ordered_pass_pads_to_the_same_sizes():
    data = Data(source=Phrases(), batch_size=4, buckets=3)
    sizes = {batch.data["text"].shape[1] for batch in data.split_batches("train")}
    trained = {
        batch.data["text"].shape[1] for batch in itertools.islice(data.train_batches(0, 0), 15)
    }
    batches = list(data.split_batches("validation"))
    assert sizes | {batch.data["text"].shape[1] for batch in batches} <= trained
    texts = [text for batch in batches for text in texts_of(batch)]
    assert texts[: SIZES["validation"]] == [phrase(n) for n in range(SIZES["validation"])]
    parts = zip(
        data.split_batches("validation", process_index=0, process_count=2),
        data.split_batches("validation", process_index=1, process_count=2),
        strict=True,
    )
    for first, second in parts:
        assert first.data["text"].shape == second.data["text"].shape


def test_sources_of_sources_pass_lengths_on():
    mixed = Mixture(sources=(Phrases(), Phrases()))
    split = mixed.split("train")
    taken = take(split, np.asarray([5, 60 + 7]), mixed.features())
    assert [bytes(text).decode() for text in taken["text"]] == [phrase(5), phrase(7)]
    hidden = Missing(source=Phrases(), column="text", share=1.0)
    taken = take(hidden.split("train"), np.asarray([5]), hidden.features())
    assert len(taken["text"][0]) == 0 and not taken[PRESENT + "text"][0]


def test_a_split_that_breaks_the_contract_is_named():
    class Dense(PhraseSplit):
        def take(self, rows):
            return {**super().take(rows), "text": np.zeros((len(rows), LONGEST), np.uint8)}

    with pytest.raises(ValueError, match="Dense.take must return 'text' as a ragged column of 2"):
        take(Dense(4), np.asarray([0, 1]), Phrases().features())
