"""`benchmarks.text`: n-gram models by hand and by definition, and what xz makes of a text."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from benchmarks import text as baselines
from benchmarks.text import bits_per_byte, discounts, fit


def as_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


def naive(train, order, context, byte):
    """p(byte | context) of a model of an order, as Chen and Goodman write it, with dictionaries."""

    def counts(n, is_highest):
        if is_highest:
            return Counter(train[at : at + n] for at in range(len(train) - n + 1))
        longer = {train[at : at + n + 1] for at in range(len(train) - n)}
        return Counter(gram[1:] for gram in longer)

    def probability(n, context, byte):
        if n == 0:
            return 1 / 256
        found = counts(n, n == order)
        discount = dict(enumerate((0.0, *discounts(np.asarray(list(found.values()))))))
        lower = probability(n - 1, context[1:], byte)
        beginning = {gram: c for gram, c in found.items() if gram[:-1] == context}
        if not beginning:
            return lower
        by_count = defaultdict(int)
        for c in beginning.values():
            by_count[min(c, 3)] += 1
        c = beginning.get(context + bytes([byte]), 0)
        gamma = sum(discount[i] * by_count[i] for i in (1, 2, 3)) / sum(beginning.values())
        return (c - discount[min(c, 3)]) / sum(beginning.values()) + gamma * lower

    return probability(order, context, byte)


def test_a_toy_text_by_hand():
    models = fit(as_bytes("aabab"), range(1, 3))
    # No discounts follow from so few counts: 0.5, 1 and 1.5 for one, two and three or more.
    # Unigrams: a 3, b 2. Bytes before: of a two (a, b), of b one (a). Bigrams: aa 1, ab 2, ba 1.
    a_1, b_1 = (1.5 + 2.5 / 256) / 5, (1.0 + 2.5 / 256) / 5
    a_0, b_0 = (1.0 + 1.5 / 256) / 3, (0.5 + 1.5 / 256) / 3
    b_after_a, a_after_a, a_after_b = (1 + 1.5 * b_0) / 3, (0.5 + 1.5 * a_0) / 3, 0.5 + 0.5 * a_0
    found = models.probabilities(as_bytes("abaa"))
    np.testing.assert_allclose(found[0], [a_1, b_1, a_1, a_1], rtol=1e-12)
    np.testing.assert_allclose(found[1], [a_1, b_after_a, a_after_b, a_after_a], rtol=1e-12)
    # After a byte that never occurred, only the numbers of bytes before count.
    np.testing.assert_allclose(models.probabilities(as_bytes("xb"))[1, 1], b_0, rtol=1e-12)


def test_discounts_follow_from_counts_of_counts():
    counts = np.repeat([1, 2, 3, 4, 9], [10, 4, 2, 1, 1])
    y = 10 / 18
    np.testing.assert_allclose(
        discounts(counts), [1 - 2 * y * 0.4, 2 - 3 * y * 0.5, 3 - 4 * y * 0.5], rtol=1e-12
    )
    assert discounts(np.asarray([1, 1, 2])) == (0.5, 1.0, 1.5)


def text_of(seed, count):
    """A text of four bytes, of which each depends on the two before it."""
    random = np.random.default_rng(seed)
    weights = np.random.default_rng(0).dirichlet(np.full(4, 0.3), (4, 4)).cumsum(axis=-1)
    found = [0, 1]
    for u in random.uniform(size=count - 2):
        found.append(min(int(np.searchsorted(weights[found[-2], found[-1]], u)), 3))
    return np.asarray(found, np.uint8) + ord("a")


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_the_definition(order):
    train, test = text_of(1, 300), text_of(2, 12)
    found = fit(train).probabilities(test)[order - 1]
    for at, byte in enumerate(test):
        n = min(order, at + 1)
        context = bytes(test[at - n + 1 : at])
        expected = naive(bytes(train), n, context, int(byte))
        assert found[at] == pytest.approx(expected, rel=1e-12), at


def test_probabilities_of_every_order_sum_to_one():
    models = fit(text_of(1, 2000))
    for context in (text_of(2, 8), as_bytes("abcdabcd"), as_bytes("never in it")):
        every = [models.probabilities(np.append(context, np.uint8(b)))[:, -1] for b in range(256)]
        np.testing.assert_allclose(np.sum(every, axis=0), 1.0, rtol=1e-12)
        assert np.min(every) > 0.0


def test_a_model_of_the_order_of_its_source_reaches_its_entropy():
    weights = np.random.default_rng(0).dirichlet(np.full(4, 0.3), (4, 4))
    found = bits_per_byte(bytes(text_of(1, 20_000)), bytes(text_of(2, 5_000)))
    pairs = defaultdict(int)
    sample = text_of(3, 100_000) - ord("a")
    for first, second in zip(sample[:-1], sample[1:], strict=True):
        pairs[first, second] += 1 / (len(sample) - 1)
    entropy = -sum(
        share * weights[pair] @ np.log2(np.maximum(weights[pair], 1e-300))
        for pair, share in pairs.items()
    )
    assert found["1-gram"] > found["2-gram"] > found["3-gram"]
    assert found["3-gram"] == pytest.approx(entropy, abs=0.04)
    assert found["3-gram"] < found["7-gram"] < found["3-gram"] + 0.06
    assert found["xz -9e"] > entropy


def test_xz_knows_the_training_text():
    train = np.random.default_rng(0).integers(256, size=20_000).astype(np.uint8).tobytes()
    assert bits_per_byte(train, train[5000:9000])["xz -9e"] < 1.0
    other = np.random.default_rng(1).integers(256, size=4000).astype(np.uint8).tobytes()
    assert bits_per_byte(train, other)["xz -9e"] > 7.9


def test_what_cannot_be_measured_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="the held-out text is empty"):
        bits_per_byte(b"some training text", b"")
    with pytest.raises(ValueError, match="order 7 needs more than 5 bytes"):
        bits_per_byte(b"short", b"text")
    monkeypatch.setattr("sys.argv", ["text", "--train=x"])
    with pytest.raises(SystemExit):
        baselines.main()
    assert "give --train and --test, --kjv, or --workdir" in capsys.readouterr().err


def test_the_table_of_two_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "train").mkdir()
    for number in range(2):
        (tmp_path / "train" / f"{number}.txt").write_bytes(bytes(text_of(number, 500)))
    (tmp_path / "test.txt").write_bytes(bytes(text_of(9, 100)))
    options = [f"--train={tmp_path / 'train'}", f"--test={tmp_path / 'test.txt'}"]
    monkeypatch.setattr("sys.argv", ["text", *options])
    baselines.main()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "1,002 bytes of training text, 101 of held-out text"
    assert len(shown) == 4 + 8 and shown[-1].startswith("| xz -9e | ")
