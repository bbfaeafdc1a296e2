"""Statistics of texts, by hand; intervals of means and ratios; examples and training texts."""

import numpy as np
import pytest

from vqdit.data import Feature, Source
from vqdit.evaluation.intervals import mean, ratio, wilson
from vqdit.evaluation.text_data import CHUNK, corpus, rows
from vqdit.evaluation.text_statistics import by_length, distinct, entropies, entropy, verbatim
from vqdit.modalities import Text
from vqdit.ragged import ragged
from vqdit.typing import Named


def test_distinct_is_the_share_of_different_ngrams_of_words():
    texts = [b"the cat saw the cat", b"the dog", b""]
    assert distinct(texts, 1) == (4 / 7, 7)  # the, cat, saw, dog
    assert distinct(texts, 2) == (4 / 5, 5)  # the cat (twice), cat saw, saw the, the dog
    assert distinct(texts, 3) == (1.0, 3)
    assert distinct(texts, 6) is None
    assert distinct([b"a b"] * 50, 2) == (1 / 50, 50)


def test_entropy_is_in_bits_per_byte():
    assert entropy(b"abcd" * 8) == pytest.approx(2.0)
    assert entropy(b"aaab") == pytest.approx(2.0 - 0.75 * np.log2(3))
    assert entropy(b"zzzz") == 0.0 and entropy(b"") is None
    found = entropies([b"ab", b"aa", b"", b"abcd"])
    assert found is not None and found.count == 3 and found.value == pytest.approx(1.0)
    assert entropies([b"", b"a"]) is None


def test_texts_are_grouped_by_length():
    found = by_length([b"", b"a", b"abc", b"ab", b"abcdefg", b"abcd"])
    assert found == {(1, 1): [b"a"], (2, 3): [b"ab", b"abc"], (4, 7): [b"abcd", b"abcdefg"]}


def test_what_training_data_contain_is_verbatim():
    train = b"in the beginning\0god created\0the heaven\0"
    found = verbatim([b"the begin", b"god crea!", b"heaven", b"", b"beginninggod"], train, 4)
    assert found is not None and found.window == 4
    assert (found.texts.value, found.texts.count) == (0.5, 4)  # the empty text does not count
    # Windows: all 6; god , od c, d cr,  cre, crea of 6; all 3; begi ... ning of 9.
    assert found.windows is not None
    assert found.windows.value == pytest.approx((6 + 5 + 3 + 6) / (6 + 6 + 3 + 9))
    assert verbatim([b""], train, 4) is None
    # Short texts have no window, and are found or not all the same.
    short = verbatim([b"god", b"dog"], train, 4)
    assert short is not None and short.windows is None and short.texts.value == 0.5
    none = verbatim([b"xxxxxxx"] * 30, train, 4)
    assert none is not None and none.windows is not None
    assert none.windows[:3] == (0.0, *wilson(0, 30))


def test_windows_are_those_of_the_definition():
    random = np.random.default_rng(0)
    train, *texts = (
        random.integers(97, 100, size).astype(np.uint8).tobytes() for size in (400, 90, 30, 7, 3)
    )
    found = verbatim(texts, train, 5)
    own = [[text[at : at + 5] in train for at in range(len(text) - 4)] for text in texts]
    assert found is not None and found.windows is not None
    assert found.windows.value == pytest.approx(np.mean(sum(own, [])))
    assert found.texts.value == np.mean([text in train for text in texts])


def test_intervals_of_means_hold():
    random = np.random.default_rng(0)
    covered = {"mean": 0, "ratio": 0}
    for _ in range(1000):
        sizes = random.integers(1, 20, 12)
        amounts = 3.0 * sizes + random.normal(0.0, 1.0, 12) * sizes
        found = ratio(amounts, sizes)
        covered["ratio"] += found.low <= 3.0 <= found.high
        found = mean(random.normal(5.0, 2.0, 6))
        covered["mean"] += found.low <= 5.0 <= found.high
    assert 930 <= covered["mean"] <= 970
    assert 915 <= covered["ratio"] <= 970  # the delta method is a little short for 12 examples
    found = ratio(np.asarray([2.0, 4.0]), np.asarray([1, 3]))
    assert found.value == 1.5 and found.count == 2
    with pytest.raises(
        ValueError, match="two examples and a total size above 0, got 1 examples of size 3"
    ):
        ratio(np.asarray([2.0]), np.asarray([3]))


class Verses(Source):
    """Rows `verse 0`, `verse 1`, ...; those that three divides have no verse."""

    ragged: bool = False
    packed: bool = False

    def features(self):
        verse = Feature((10,), ragged=self.ragged, packed=self.packed)
        return Named(verse=verse, answer=Feature(()))

    def split(self, name):
        return _Split(name, self.ragged)


class _Split:
    def __init__(self, name, is_ragged):
        self._first = ("train", "validation", "test").index(name) * 1000
        self._modality = Text(length=10, variable=is_ragged)

    def __len__(self):
        return 2 * CHUNK + 10

    def take(self, rows):
        numbers = self._first + rows
        verse = self._modality.pack([f"verse {number}" for number in numbers])
        return {"verse": verse, "answer": numbers.astype(np.int32), "present_verse": rows % 3 > 0}


@pytest.mark.parametrize("is_ragged", [False, True])
def test_examples_have_all_columns_and_belong_together(is_ragged):
    source, modality = Verses(ragged=is_ragged), Text(length=10, variable=is_ragged)
    every = rows(source, ("validation", "test"), ("verse", "answer"), None)
    assert every.count == 2 * (2 * CHUNK + 10) * 2 // 3 == len(set(every.stored["answer"].tolist()))
    assert (np.diff(every.stored["answer"]) > 0).all()
    few, again = (rows(source, ("validation", "test"), ("verse", "answer"), 300) for _ in range(2))
    assert few.count == 300 and (few.stored["answer"] // 1000 == 1).any()
    np.testing.assert_array_equal(few.stored["answer"], again.stored["answer"])
    for found in (every, few):
        expected = [f"verse {number}" for number in found.stored["answer"]]
        assert list(modality.unpack(found.stored["verse"])) == expected
    assert rows(source, ("test",), ("answer",), 5000).count == 2 * CHUNK + 10
    with pytest.raises(ValueError, match="Verses has no column 'text'; it has answer, verse"):
        rows(source, ("test",), ("text",), None)


def test_training_texts_are_in_their_order():
    numbers = [number for number in range(2 * CHUNK + 10) if number % 3]
    expected = b"".join(f"verse {number}\0".encode() for number in numbers)
    for is_ragged in (False, True):
        modality = Text(length=10, variable=is_ragged)
        assert corpus(Verses(ragged=is_ragged), "train", "verse", modality) == expected
    packed = corpus(Verses(packed=True), "train", "verse", Text(length=10))
    assert packed[:20] == b"verse 1\0\0\0verse 2\0\0\0"
    assert packed.endswith(b"\0verse 521\0") and len(packed) == 10 * len(numbers)


def test_ragged_columns_can_be_joined():
    column = np.concatenate([ragged([np.zeros(2)]), ragged([np.zeros(3)])])
    assert [len(item) for item in column] == [2, 3]
