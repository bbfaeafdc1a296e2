"""Units of text: every string comes back exactly, by bytes and by a learned BPE."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit import config
from vqdit.modalities import BPE, Bytes, Text

CORPUS = [
    "the cat sat on the mat",
    "the cat and the hat",
    "naïve café, naïve café",
    "🙂 the end 🙂",
]
KINDS = (
    "a",
    "ab ",
    "\0\n\t\x1b\x7f\x85",
    "é\u0301\u0327\u20dd",
    "\u202e\u200d\ufeff\ufffd",
    "漢字かな한글",
)


@pytest.fixture(scope="module")
def bpe():
    """A BPE that is learned from a few lines."""
    return BPE(size=300).learn(CORPUS)


def strings(count):
    """Random strings of letters, combining marks, controls, emoji, and any other characters."""
    generator = np.random.default_rng(0)
    emoji = "👩\u200d👩\u200d👧🏽\ufe0f🇩🇪🙂"
    pools = [[*kind] for kind in (*KINDS, emoji)]
    anything = [chr(n) for n in generator.integers(0, 0x110000, 500) if not 0xD800 <= n < 0xE000]
    pools.append(anything)
    lengths = generator.integers(0, 24, count)
    choice = [generator.integers(0, len(pools), length) for length in lengths]
    return [
        "".join(pools[pool][generator.integers(len(pools[pool]))] for pool in pools_of)
        for pools_of in choice
    ]


@pytest.mark.parametrize("variable", [False, True])
def test_ten_thousand_strings_come_back(bpe, variable):
    texts = strings(10_000)
    for units in (Bytes(), bpe):
        some = texts
        if units == Bytes() and not variable:  # byte 0 pads there, and is refused
            some = [text for text in texts if "\0" not in text]
            assert 5000 < len(some) < len(texts)
        modality = Text(length=200, units=units, variable=variable)
        stored = modality.pack(some)
        assert [str(text) for text in modality.unpack(stored)] == some
        assert modality.repack(modality.unpack(stored[:9])).shape == stored[:9].shape


def test_bpe_codes_are_the_end_then_bytes_then_merges(bpe):
    assert bpe.encode("\0a").tolist() == [1, 98]
    first = bpe.merges.split("\n")[0].replace(" ", "")
    assert bpe.encode(first).tolist() == [257] and bpe.decode(np.asarray([257])) == first.encode()
    assert len(bpe.encode("the cat sat")) <= 6 < len("the cat sat")
    modality = Text(length=8, units=bpe)
    assert (modality.vocabulary, modality.dtype) == (300, np.int32)
    assert modality.pack(first).tolist() == [[257, *[0] * 7]]
    codes = modality.standardize(jnp.asarray(modality.pack(first)))
    assert codes.shape == (1, 8, 1)
    np.testing.assert_array_equal(modality.restore(codes), modality.pack(first))


@pytest.mark.parametrize(
    ("codes", "text"),
    [([98, 0, 99], "a\ufffdb"), ([0, 98], "\ufffda"), ([0xC3 + 1, 98], "\ufffda"), ([299], "")],
)
def test_generated_codes_are_shown_whatever_they_are(bpe, codes, text):
    small = BPE(size=300, merges="t h")
    stored = np.asarray([*codes, *[0] * (4 - len(codes))], np.int32)
    assert Text(length=4, units=small).unpack(stored[None]).tolist() == [text]


def test_a_packed_text_ends_at_the_first_end(bpe):
    stored = np.frombuffer(b"ab\0cd\0e\0" + b"\0abcdefg" + b"abcdefgh", np.uint8).reshape(3, 8)
    assert Text(length=8, packed=True).unpack(stored).tolist() == ["ab", "", "abcdefgh"]
    codes = stored.astype(np.int32) + (stored > 0)
    assert Text(length=8, packed=True, units=bpe).unpack(codes).tolist() == ["ab", "", "abcdefgh"]


@pytest.mark.parametrize("units", [Bytes(), BPE(size=300, merges="t h")])
@pytest.mark.parametrize("variable", [False, True])
def test_half_characters_and_long_texts_are_refused(units, variable):
    modality = Text(length=3, units=units, variable=variable)
    with pytest.raises(ValueError, match="half a character"):
        modality.pack("a\ud83d")
    with pytest.raises(ValueError, match=r"has 4 (bytes|units), more than the limit of 3"):
        modality.pack("abcd")


def test_a_bpe_goes_to_json_and_to_other_processes(bpe):
    assert config.from_json(config.to_json(bpe)) == bpe == pickle.loads(pickle.dumps(bpe))
    assert "merges" in repr(bpe) and len(repr(bpe)) < 50
    assert hash(bpe) == hash(BPE(size=300, merges=bpe.merges))


def test_what_is_no_bpe_is_refused():
    with pytest.raises(ValueError, match="BPE needs size from 258 to 1048576, got 257"):
        BPE(size=257)
    for merges in ("th", "t h\n", "t  h", "t h i", "t \u4e00"):
        with pytest.raises(ValueError, match="the merges of a BPE are damaged"):
            BPE(merges=merges)
    with pytest.raises(ValueError, match=r"size >= 257 \+ 2 merges, got 258"):
        BPE(size=258, merges="t h\nth e")
    with pytest.raises(ValueError, match="damaged: 'th e' joins a unit that no earlier line makes"):
        BPE(size=260, merges="th e\nt h").decode(np.asarray([1]))
    with pytest.raises(ValueError, match=r"give the source of the data the same BPE\(size=...\)"):
        Text(units=BPE()).pack("a text")
    with pytest.raises(ValueError, match="no word of at least two bytes, so a BPE has nothing"):
        BPE().learn(["a\nb\nc"])


def test_regions_are_units_if_there_are_such(bpe):
    modality = Text(length=8, units=bpe)
    (stored,) = modality.pack("the cat")
    names = [name for name, _ in modality.regions(stored, (8,))]
    assert "".join(names) == "the cat" and len(names) < 7
