"""Prepared data: what is written is read back, whole or not at all, and known by its content."""

import errno
import fcntl
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from vqdit.data import Digits
from vqdit.data.builders import reader, records
from vqdit.data.builders.description import (
    DESCRIPTION,
    DamagedData,
    describe,
    features_of,
    is_prepared,
)
from vqdit.data.sources import Feature
from vqdit.typing import Named

FEATURES = Named(image=Feature((3, 5, 1)), label=Feature((), 4, ("a", "b", "c", "d")))
TEMPLATE = """
{
  "name": "rows", "version": "1.0.0", "checksum": "0123", "splits": {"train": 6},
  "features": {
    "image": {"shape": [3, 5, 1], "classes": 0, "names": []},
    "label": {"shape": [], "classes": 4, "names": ["a", "b", "c", "d"]}
  }
}
"""
BIG = Named(image=Feature((64, 70, 3)), mask=Feature((70, 64, 1)))


def examples(count=6, features=FEATURES, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row = {
            name: rng.integers(0, 256, feature.shape, dtype=np.uint8)
            for name, feature in features.items()
            if feature.shape
        }
        rows.append(row | ({"label": number % 4} if "label" in features else {}))
    return rows


def splits(rows):
    return {"train": rows, "validation": rows[:2], "test": rows[1:2]}


def write(folder, rows, features=FEATURES, name="rows"):
    records.write(folder, name, features, splits(rows))
    return describe(folder)


def test_examples_are_read_back_in_any_order(tmp_path):
    rows = examples()
    write(tmp_path / "a", rows)
    read = reader.Records(tmp_path / "a", "train")
    order = np.asarray([4, 0, 0, 5])
    arrays = read.take(order)
    assert len(read) == 6
    assert arrays["image"].dtype == np.uint8 and arrays["label"].dtype == np.int32
    np.testing.assert_array_equal(arrays["image"], [rows[i]["image"] for i in order])
    np.testing.assert_array_equal(arrays["label"], [0, 0, 0, 1])
    assert arrays["present_image"].all() and arrays["present_label"].all()
    test = reader.Records(tmp_path / "a", "test").take(np.asarray([0]))
    np.testing.assert_array_equal(test["image"][0], rows[1]["image"])


def test_what_an_example_lacks_is_zero_and_not_present(tmp_path):
    rows = examples(3)
    del rows[1]["image"], rows[2]["label"]
    write(tmp_path / "a", rows)
    arrays = reader.Records(tmp_path / "a", "train").take(np.arange(3))
    assert arrays["present_image"].tolist() == [True, False, True]
    assert arrays["present_label"].tolist() == [True, True, False]
    assert not arrays["image"][1].any() and arrays["label"].tolist() == [0, 1, 0]


def test_features_come_back_as_they_were(tmp_path):
    write(tmp_path / "a", examples())
    assert features_of(tmp_path / "a") == FEATURES
    assert describe(tmp_path / "a")["splits"] == {
        "train": 6,
        "validation": 2,
        "test": 1,
    }


def test_integers_of_any_stored_kind_are_read_back(tmp_path):
    features = Named(
        audio=Feature((4,), dtype="int16"),
        plane=Feature((64, 64, 1), dtype="int16"),  # no picture, in spite of its shape
        tokens=Feature((2, 2), dtype="int32"),
        small=Feature((), dtype="uint8"),
    )
    row = {
        "audio": np.asarray([-32768, -1, 0, 32767], np.int16),
        "plane": np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64, 1),
        "tokens": np.asarray([[-(2**31), 7], [-1, 2**31 - 1]], np.int32),
        "small": 255,
    }
    rows = [row, {name: None for name in row}]
    write(tmp_path / "a", rows, features)
    assert features_of(tmp_path / "a") == features
    arrays = reader.Records(tmp_path / "a", "train").take(np.arange(2))
    for name, feature in features.items():
        assert arrays[name].dtype == feature.stored
        np.testing.assert_array_equal(arrays[name][0], row[name])
        assert not arrays[name][1].any()


@pytest.mark.parametrize(("value", "dtype"), [(-1, ""), (256, ""), (0.5, ""), (40_000, "int16")])
def test_what_does_not_fit_in_its_column_is_refused_and_not_wrapped(tmp_path, value, dtype):
    features = Named(audio=Feature((2,), dtype=dtype))
    match = rf"'audio' is stored as {dtype or 'uint8'}, .* from {min(0, value)}.* to"
    with pytest.raises(ValueError, match=match):
        write(tmp_path / "data" / "a", [{"audio": np.asarray([0, value])}] * 2, features)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_is_kept_in_memory_is_counted_in_bytes(tmp_path, monkeypatch):
    features = Named(audio=Feature((100,), dtype="int16"))
    write(tmp_path / "a", [{"audio": np.ones(100, np.int16)}] * 3, features)
    for limit, kept in ((599, False), (600, True)):
        monkeypatch.setattr(reader, "REMEMBER", limit)
        assert (reader.Records(tmp_path / "a", "train")._cache is not None) == kept


def test_data_prepared_without_dtypes_are_read_and_known_as_before(tmp_path):
    rows = examples()
    fields = write(tmp_path / "a", rows)["features"]
    assert fields["image"] == {"shape": [3, 5, 1], "classes": 0, "names": []}
    arrays = reader.Records(tmp_path / "a", "train").take(np.arange(6))
    assert arrays["image"].dtype == np.uint8 and arrays["label"].dtype == np.int32


def test_stored_dtypes_are_the_usual_ones_or_those_given():
    assert Feature((3,)).stored == np.uint8 and Feature(()).stored == np.int32
    assert Feature((3,), dtype="int16").stored == np.int16
    with pytest.raises(
        ValueError, match="stored as 'float64'; use one of uint8, int16, int32, float"
    ):
        Feature((3,), dtype="float64").stored  # noqa: B018


def test_big_pictures_are_packed_as_png_and_keep_every_bit(tmp_path):
    rows = examples(2, BIG)
    write(tmp_path / "a", rows, BIG)
    arrays = reader.Records(tmp_path / "a", "train").take(np.arange(2))
    np.testing.assert_array_equal(arrays["image"], [row["image"] for row in rows])
    np.testing.assert_array_equal(arrays["mask"], [row["mask"] for row in rows])
    features = json.loads(next(tmp_path.rglob("features.json")).read_text())
    kinds = features["featuresDict"]["features"]
    assert kinds["image"]["image"]["encodingFormat"] == "png"


def test_reading_is_the_same_with_and_without_memory(tmp_path, monkeypatch):
    write(tmp_path / "a", examples())
    order = np.asarray([3, 1, 2, 3])
    kept = reader.Records(tmp_path / "a", "train")
    kept.take(order)
    monkeypatch.setattr(reader, "REMEMBER", 0)
    fresh = reader.Records(tmp_path / "a", "train").take(order)
    for name, values in kept.take(order).items():
        np.testing.assert_array_equal(values, fresh[name])


def test_checksum_knows_the_examples_and_nothing_else(tmp_path):
    rows = examples()
    first = write(tmp_path / "a", rows)["checksum"]
    assert write(tmp_path / "b" / "c", rows, name="other")["checksum"] == first

    def changed(change):
        other = examples()
        change(other)
        folder = tmp_path / change.__name__
        return write(folder, other)["checksum"]

    def pixel(other):
        other[3]["image"][2, 4, 0] ^= 1

    def label(other):
        other[5]["label"] = 2

    def order(other):
        other[4], other[5] = other[5], other[4]

    def presence(other):
        other[0]["label"] = None  # it was 0, as what is stored in its place

    sums = {first, *map(changed, (pixel, label, order, presence))}
    assert len(sums) == 5


def test_checksum_stays_the_same_over_versions(tmp_path):
    rows = [{"image": np.full((3, 5, 1), 7 * n, np.uint8), "label": n} for n in range(3)]
    assert write(tmp_path / "a", rows)["checksum"] == "1548ee410380a3d9"


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def broken():
        yield from examples(3)
        raise ValueError("picture 3 is bad")

    rows = {"train": broken(), "validation": examples(1), "test": examples(1)}
    with pytest.raises(ValueError, match="picture 3 is bad"):
        records.write(tmp_path / "data" / "a", "rows", FEATURES, rows)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_empty_split_is_named_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="the split 'validation' of rows has no examples"):
        records.write(
            tmp_path / "data" / "a",
            "rows",
            FEATURES,
            {"train": examples(2), "validation": [], "test": examples(1)},
        )
    assert list((tmp_path / "data").iterdir()) == []


def test_the_quicker_of_two_processes_wins(tmp_path):
    first = write(tmp_path / "data" / "a", examples(seed=0))
    write(tmp_path / "data" / "a", examples(seed=1))
    assert describe(tmp_path / "data" / "a") == first
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["a"]


def test_prepared_data_can_be_read_by_whom_other_folders_can(tmp_path):
    (tmp_path / "plain").mkdir()
    write(tmp_path / "a", examples())
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_cannot_be_written_is_named_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "file"))
    with pytest.raises(OSError, match=rf"{tmp_path}/file: .*; set VQDIT_DATA to a writable"):
        Digits().split("train")
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_half_written_folder_is_not_taken_for_prepared(tmp_path):
    (tmp_path / "a" / "rows").mkdir(parents=True)
    assert not is_prepared(tmp_path / "a")


def test_data_go_to_the_home_folder_unless_told_otherwise(monkeypatch):
    from vqdit.data.sources import root

    monkeypatch.setenv("VQDIT_DATA", "")
    assert root() == Path.home() / ".cache" / "vqdit" / "data"
    monkeypatch.setenv("VQDIT_DATA", "~/pictures")
    assert root() == Path.home() / "pictures"


def flip(file):
    """Flips one bit in the middle of the first record's data."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.unlink(), "rows-train.array_record-00000-of-00001 is missing"),
        (lambda file: os.truncate(file, 100), "rows-train.array_record.* has 100 of .* bytes"),
        (flip, "the split 'train' in .* cannot be read"),
    ],
)
def test_damaged_records_are_named_with_a_remedy(tmp_path, harm, said):
    write(tmp_path / "a", examples(6, BIG), BIG)
    (file,) = (tmp_path / "a").rglob("*-train.array_record*")
    harm(file)
    with pytest.raises(DamagedData, match=f"damaged: .*{said}.*; put back a copy, or"):
        reader.Records(tmp_path / "a", "train").take(np.arange(6))


def test_a_damaged_description_is_named_with_a_remedy(tmp_path):
    write(tmp_path / "a", examples())
    os.truncate(tmp_path / "a" / DESCRIPTION, 100)
    with pytest.raises(DamagedData, match=r"damaged: .*vqdit.json cannot be read"):
        features_of(tmp_path / "a")
    write(tmp_path / "b", examples())
    (info,) = (tmp_path / "b").rglob("dataset_info.json")
    os.truncate(info, 100)
    with pytest.raises(DamagedData, match=r"dataset_info.json has 100 of"):
        reader.Records(tmp_path / "b", "train")


def test_data_without_the_sizes_of_their_files_are_read_all_the_same(tmp_path):
    rows = examples()
    description = write(tmp_path / "a", rows)
    del description["files"]
    (tmp_path / "a" / DESCRIPTION).write_text(json.dumps(description))
    read = reader.Records(tmp_path / "a", "train").take(np.asarray([2]))
    np.testing.assert_array_equal(read["image"][0], rows[2]["image"])


FULL = (
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("Failed to finalize writing: write() failed: No space left on device; writing"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
)


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, error):
    def rows():
        yield from examples(3)
        raise error

    parts = {split: rows() for split in ("train", "validation", "test")}
    with pytest.raises(OSError, match=f"the disk of {tmp_path} is full; free some space, or"):
        records.write(tmp_path / "a", "rows", FEATURES, parts)
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    for name in (".b-01234567", ".c-01234567", ".cache-01234567"):
        (tmp_path / name / "half").mkdir(parents=True)
    for name in (".b-01234567", ".c-01234567"):
        (tmp_path / name / records.MARK).touch()
    with (tmp_path / ".c-01234567" / records.MARK).open() as in_use:
        fcntl.flock(in_use, fcntl.LOCK_EX)
        write(tmp_path / "a", examples())
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".c-01234567", ".cache-01234567"}
    assert not list((tmp_path / "a").rglob(records.MARK))


def test_nothing_that_prepared_data_name_is_imported(tmp_path, monkeypatch):
    rows = examples()
    description = write(tmp_path / "a", rows)
    del description["files"]
    (tmp_path / "a" / DESCRIPTION).write_text(json.dumps(description))
    (file,) = (tmp_path / "a").rglob("features.json")
    file.write_text(file.read_text().replace("tensorflow_datasets.core", "evil_features"))
    (tmp_path / "evil_features.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    read = reader.Records(tmp_path / "a", "train").take(np.asarray([2]))
    np.testing.assert_array_equal(read["image"][0], rows[2]["image"])
    assert "evil_features" not in sys.modules


def test_an_example_that_is_larger_than_its_column_is_not_inflated(tmp_path):
    large = Named(image=Feature((64, 70, 3)), audio=Feature((10**6,)))
    row = {"image": np.zeros((64, 70, 3), np.uint8), "audio": np.zeros(10**6, np.uint8)}
    description = write(tmp_path / "a", [row] * 2, large)
    for column, shape, why in (
        ("audio", [16], "size than its column, which is 16 bytes"),
        ("audio", [10**6 + 1], "size than its column, which is 1000001 bytes"),
        (
            "image",
            [64, 71, 3],
            r"a picture has the size \(70, 64\), but its column has the shape \(64, 71, 3\)",
        ),
    ):
        changed = json.loads(json.dumps(description))
        changed["features"][column]["shape"] = shape
        (tmp_path / "a" / DESCRIPTION).write_text(json.dumps(changed))
        with pytest.raises(DamagedData, match=f"'train' in .* cannot be read .*{why}"):
            reader.Records(tmp_path / "a", "train").take(np.arange(1))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("", [], "it must be an object"),
        ("name", "../../b", "the name of the data set must be one word"),
        ("version", "2.0.0", "and the version 1.0.0"),
        ("checksum", None, "checksum must be a text"),
        ("features.image", 7, "features.image must be an object"),
        ("features.image.shape", [10**6] * 3, "'image' of shape .* at most 268,435,456"),
        ("features.image.shape", [3, -5, 1], "features.image has a negative number of"),
        ("features.image.shape", [3, 0, 1], "features.image has a negative number of"),
        ("features.image.shape", "abc", "features.image.shape must be a list"),
        ("features.image.dtype", "object", "a column cannot be stored as 'object'"),
        ("features.label.names", ["a"], "features.label has 4 classes but 1 names"),
        ("features.label.names", [1, 2], r"features.label.names\[0\] must be a text"),
        ("splits.train", 5.5, "splits.train must be an integer"),
        ("files", {"x": "y"}, "files.x must be an integer"),
    ],
)
def test_a_description_of_another_form_is_refused_by_its_value(tmp_path, path, value, why):
    description = json.loads(TEMPLATE)
    *above, last = path.split(".")
    place = description
    for name in above:
        place = place[name]
    place[last] = value
    (tmp_path / DESCRIPTION).write_text(json.dumps(description if path else value))
    with pytest.raises(DamagedData, match=f"vqdit.json cannot be read .ValueError: .*{why}"):
        features_of(tmp_path)


def test_records_that_are_missing_are_counted(tmp_path):
    description = write(tmp_path / "a", examples())
    (tmp_path / "a" / DESCRIPTION).write_text(
        json.dumps(description | {"splits": {"train": 7}, "files": {}})
    )
    with pytest.raises(DamagedData, match="only 6 of 7 examples exist"):
        reader.Records(tmp_path / "a", "train")
