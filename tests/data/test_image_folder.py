"""A folder of pictures becomes exactly the examples that its owner meant."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdit.data import ImageFolder
from vqdit.data.sources import SPLITS, Feature
from vqdit.modalities import pictures

pytestmark = pytest.mark.usefixtures("data_folder")


def paint(file, value, edge=8):
    """A picture of one tone, by which it is known again."""
    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"lossless": True} if file.suffix.lower() == ".webp" else {}
    Image.new("RGB", (edge, edge), (value, value, value)).save(file, **options)
    return file


def folder_of(path, count=20, endings=(".png",)):
    for number in range(count):
        paint(path / f"{number:03d}{endings[number % len(endings)]}", number)
    return ImageFolder(path=str(path), size=8)


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def tones(source, split):
    images = everything(source, split)["image"]
    assert (images == images[:, :1, :1, :1]).all()
    return images[:, 0, 0, 0].tolist()


def test_all_kinds_of_pictures_are_read_once_each(tmp_path):
    source = folder_of(tmp_path / "x", 25, (".png", ".jpg", ".webp", ".JPEG", ".PNG"))
    parts = [tones(source, split) for split in SPLITS]
    assert [len(part) for part in parts] == [21, 2, 2]
    assert sorted(sum(parts, [])) == list(range(25))
    assert dict(source.features()) == {"image": Feature((8, 8, 3))}


def test_folders_that_are_numbers_are_in_the_order_of_numbers(tmp_path):
    for number in range(24):
        paint(tmp_path / "x" / str(number % 12) / f"{number}.png", number)
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert source.features()["label"].names == tuple(map(str, range(12)))
    labels = everything(source, "train")["label"]
    assert labels.tolist() == [tone % 12 for tone in tones(source, "train")]


def test_names_that_are_no_utf_8(tmp_path):
    """A picture is read whatever its name is; a class has a name that can be written."""
    source = folder_of(tmp_path / "x", 11)
    os.rename(tmp_path / "x" / "000.png", os.fsencode(tmp_path / "x") + b"/\xff.png")
    assert sorted(tones(source, "train") + tones(source, "test")) != list(range(11))
    os.mkdir(os.fsencode(tmp_path / "x") + b"/\xff")
    os.rename(tmp_path / "x" / "001.png", os.fsencode(tmp_path / "x") + b"/\xff/1.png")
    with pytest.raises(ValueError, match=r"x/\\xff/1.png: the class .* is not UTF-8; rename it"):
        ImageFolder(path=str(tmp_path / "x")).features()


def test_two_forms_of_a_name_are_one_class_and_look_alikes_are_refused(tmp_path):
    for number in range(12):
        name = ("e\u0301", "\u00e9", "b")[number % 3]
        paint(tmp_path / "x" / name / f"{number}.png", number)
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert source.features()["label"].names == ("b", "\u00e9")
    paint(tmp_path / "x" / "b\u200b" / "12.png", 12)
    with pytest.raises(ValueError, match=r"'b' and 'b\\u200b' look the same"):
        ImageFolder(path=str(tmp_path / "x"), size=9).features()


def test_sub_folders_are_classes_in_sorted_order(tmp_path):
    for number in range(30):
        name = ("zebra", "Ape", "cat/deep/deeper")[number % 3]
        paint(tmp_path / "x" / name / f"{number}.png", number)
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert source.features()["label"] == Feature((), 3, ("Ape", "cat", "zebra"))
    for split in SPLITS:
        labels = everything(source, split)["label"]
        assert labels.tolist() == [(2, 0, 1)[tone % 3] for tone in tones(source, split)]


def test_folders_of_splits_are_the_splits_and_nothing_else_is(tmp_path):
    folder = tmp_path / "x"
    for number, name in enumerate(["train/b", "train/b", "train/a", "validation/a", "test/b"]):
        paint(folder / name / f"{number}.png", number)
    paint(folder / "cover.png", 99)
    paint(folder / "rejected" / "c" / "98.png", 98)
    source = ImageFolder(path=str(folder), size=8)
    assert source.features()["label"].names == ("a", "b")
    assert [tones(source, split) for split in SPLITS] == [[2, 0, 1], [3], [4]]
    assert [everything(source, split)["label"].tolist() for split in SPLITS] == [
        [0, 1, 1],
        [0],
        [1],
    ]


def test_folders_of_splits_without_classes_have_no_label(tmp_path):
    for number, split in enumerate(SPLITS):
        paint(tmp_path / "x" / split / "1.png", number)
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert list(source.features()) == ["image"]
    assert [tones(source, split) for split in SPLITS] == [[0], [1], [2]]


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Validation", "Test"), ("train",)])
def test_half_a_set_of_splits_is_not_taken_for_classes(tmp_path, names):
    for name in names:
        paint(tmp_path / "x" / name / "cat" / "1.png", 0)
    match = f"folders {', '.join(sorted(names))}, but splits need all of: train, validation, test"
    with pytest.raises(ValueError, match=match):
        ImageFolder(path=str(tmp_path / "x"), size=8).split("train")


def test_an_empty_split_is_named(tmp_path):
    paint(tmp_path / "x" / "train" / "1.png", 0)
    paint(tmp_path / "x" / "test" / "1.png", 0)
    (tmp_path / "x" / "validation").mkdir()
    with pytest.raises(ValueError, match=f"no picture in {tmp_path}/x/validation, the validation"):
        ImageFolder(path=str(tmp_path / "x"), size=8).split("train")


def test_a_picture_without_a_class_is_named(tmp_path):
    for number in range(10):
        paint(tmp_path / "x" / "cat" / f"{number}.png", number)
    loose = paint(tmp_path / "x" / "cover.png", 0)
    with pytest.raises(
        ValueError, match=f"has classes.*{loose} is in none of them; move it into one"
    ):
        ImageFolder(path=str(tmp_path / "x"), size=8).split("train")


def test_linked_classes_count_and_hidden_files_do_not(tmp_path):
    for number in range(10):
        paint(tmp_path / "elsewhere" / f"{number}.png", number)
        paint(tmp_path / "x" / "cat" / f"{number}.png", 10 + number)
    (tmp_path / "x" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "x" / "._cover.png").write_bytes(b"resource fork")
    (tmp_path / "x" / "cat" / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "x" / ".thumbnails").mkdir()
    (tmp_path / "x" / ".thumbnails" / "1.png").write_bytes(b"\0")
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert source.features()["label"].names == ("cat", "dog")
    assert sorted(sum((tones(source, split) for split in SPLITS), [])) == list(range(20))


def test_a_damaged_picture_is_named_and_leaves_nothing(tmp_path, data_folder):
    source = folder_of(tmp_path / "x")
    bad = tmp_path / "x" / "013.png"
    bad.write_bytes(bad.read_bytes()[:30])
    with pytest.raises(ValueError, match=f"cannot decode the picture {bad}"):
        source.split("train")
    assert list(data_folder.glob("*")) == []
    paint(bad, 13)
    assert len(source.split("train")) == 16


def test_all_damaged_pictures_are_named_at_once_or_left_out(tmp_path, data_folder):
    source = folder_of(tmp_path / "x", 40)
    for number in range(12, 24):
        (tmp_path / "x" / f"{number:03d}.png").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match="12 pictures cannot be decoded: .*, and 2 more, which "
    ) as e:
        source.split("train")
    (file,) = data_folder.iterdir()
    assert str(file) in str(e.value) and "on-error=skip (in training: --data.source.on-error" in (
        str(e.value)
    )
    lines = file.read_text().splitlines()
    assert sorted(line.split("/")[-1][:7] for line in lines) == [
        f"{n:03d}.png" for n in range(12, 24)
    ]
    source = ImageFolder(path=str(tmp_path / "x"), size=8, on_error="skip")
    found = sum((tones(source, split) for split in SPLITS), [])
    assert sorted(found) == [*range(12), *range(24, 40)]


def test_data_that_an_earlier_version_prepared_are_kept(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "x", 20)
    paint(tmp_path / "x" / "020.gif", 20)
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "SUFFIXES", (".png",))
        before = source.fingerprint()
    assert ImageFolder(path=str(tmp_path / "x"), size=8).fingerprint() == before
    assert sum(len(ImageFolder(path=str(tmp_path / "x"), size=9).split(s)) for s in SPLITS) == 21


def test_a_single_class_is_said(tmp_path, caplog):
    folder_of(tmp_path / "x" / "all")
    ImageFolder(path=str(tmp_path / "x"), size=8).split("train")
    assert (
        "only one class: all pictures are in 'all'; if that is not a class, give its" in caplog.text
    )


def test_pictures_that_two_classes_reach_by_links_are_said(tmp_path, caplog):
    folder_of(tmp_path / "x" / "a", 10)
    (tmp_path / "x" / "b").mkdir()
    (tmp_path / "x" / "b" / "again.png").symlink_to(tmp_path / "x" / "a" / "003.png")
    source = ImageFolder(path=str(tmp_path / "x"), size=8)
    assert source.announced() == source.features()
    assert sum(len(source.split(split)) for split in SPLITS) == 11
    assert (
        "1 pictures have several paths, for example by links, and are an example for each path: "
        f"{tmp_path}/x/a/003.png and {tmp_path}/x/b/again.png"
    ) in caplog.text


def test_the_features_are_known_before_the_pictures_are_prepared(tmp_path, data_folder):
    source = folder_of(tmp_path / "x")
    announced = source.announced()
    assert list(data_folder.glob("*")) == []
    assert announced == source.features() == source.announced()


def test_fewer_than_ten_pictures_are_too_few(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}/x has 9 examples, but training, validation"):
        folder_of(tmp_path / "x", 9).split("train")
    assert [len(folder_of(tmp_path / "x", 10).split(split)) for split in SPLITS] == [8, 1, 1]


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"no folder {tmp_path}/x; give the path .*--data.source.path"
    ):
        ImageFolder(path=str(tmp_path / "x")).split("train")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").touch()
    with pytest.raises(
        ValueError, match=f"no picture in {tmp_path}/x; the names of files must end in .png"
    ):
        ImageFolder(path=str(tmp_path / "x")).features()


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    folder_of(tmp_path / "home" / "x")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert len(ImageFolder(path="~/x", size=8).split("train")) == 16


def test_changed_pictures_are_prepared_anew_and_unchanged_ones_are_not(tmp_path, monkeypatch):
    source = folder_of(tmp_path / "x")
    before = source.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "examples", lambda _: pytest.fail("prepared again"))
        assert source.fingerprint() == before
    file = paint(tmp_path / "x" / "007.png", 200)
    os.utime(file, (1e9, 1e9))
    assert source.fingerprint() != before
    assert 200 in sum((tones(source, split) for split in SPLITS), [])
    paint(tmp_path / "x" / "020.png", 20)
    count = lambda: sum(len(source.split(split)) for split in SPLITS)  # noqa: E731
    assert count() == 20  # a run goes on with what it began with
    source.prepare()
    assert count() == 21


def test_another_size_or_number_of_channels_is_prepared_beside_it(tmp_path):
    folder_of(tmp_path / "x")
    shapes = [(8, 3), (8, 1), (4, 3)]
    for size, channels in shapes:
        source = ImageFolder(path=str(tmp_path / "x"), size=size, channels=channels)
        assert everything(source, "test")["image"].shape == (2, size, size, channels)


def test_the_same_pictures_elsewhere_are_divided_alike_and_have_the_same_fingerprint(tmp_path):
    one = folder_of(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two" / "other", copy_function=shutil.copyfile)
    other = ImageFolder(path=str(tmp_path / "two" / "other"), size=8)
    assert one.fingerprint() == other.fingerprint()
    assert [tones(one, split) for split in SPLITS] == [tones(other, split) for split in SPLITS]
    paint(tmp_path / "two" / "other" / "003.png", 77)
    assert one.fingerprint() != other.fingerprint()


def test_renamed_pictures_in_the_same_order_have_the_same_fingerprint(tmp_path):
    one = folder_of(tmp_path / "one")
    for number in range(20):
        paint(tmp_path / "two" / f"picture_{number:05d}.png", number)
    assert one.fingerprint() == ImageFolder(path=str(tmp_path / "two"), size=8).fingerprint()


def test_other_class_names_are_other_data(tmp_path):
    for name in ("cat", "dog"):
        for number in range(10):
            paint(tmp_path / name / name / f"{number}.png", number)
    cats, dogs = (ImageFolder(path=str(tmp_path / name), size=8) for name in ("cat", "dog"))
    assert cats.fingerprint() != dogs.fingerprint()


@pytest.mark.parametrize("fields", [{"size": 0}, {"channels": 2}, {"channels": 4}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"ImageFolder needs .*got {value}"):
        ImageFolder(**fields)
