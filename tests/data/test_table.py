"""A table becomes exactly its rows; what is wrong in it is named with its place."""

import csv
import dataclasses
import json
import os
import shutil
import time

import numpy as np
import pytest
import soundfile
from PIL import Image

from vqdit.data import Data, Table
from vqdit.data.sources import SPLITS, Feature
from vqdit.modalities.classes import class_name

pytestmark = pytest.mark.usefixtures("data_folder")


def paint(file, value):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(file)
    return file


def row(number, **fields):
    defaults = {"image": f"pictures/{number}.png", "label": f"class {number % 3}"}
    return {**defaults, **fields}


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        paint(tmp_path / "table" / "pictures" / f"{number}.png", number)
    return tmp_path / "table"


def write(folder, rows, name="rows.jsonl", encoding="utf-8"):
    file = folder / name
    if file.suffix.lower() == ".csv":
        columns = list(dict.fromkeys(column for one in rows for column in one))
        with file.open("w", newline="", encoding=encoding) as lines:
            writer = csv.DictWriter(lines, columns)
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = "".join(f"{json.dumps(one)}\n" for one in rows)
        file.write_text(text, encoding=encoding)
    return Table(path=str(file), size=8, channels=1)


def everything(source, split):
    examples = source.split(split)
    return examples.take(np.arange(len(examples)))


def all_splits(source):
    parts = [everything(source, split) for split in SPLITS]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "ROWS.CSV"])
def test_every_row_is_one_example(folder, name):
    source = write(folder, [row(number) for number in range(20)], name)
    assert [len(source.split(split)) for split in SPLITS] == [16, 2, 2]
    arrays = all_splits(source)
    tones = arrays["image"][:, 0, 0, 0]
    assert sorted(tones.tolist()) == list(range(20))
    np.testing.assert_array_equal(arrays["label"], tones % 3)
    assert source.features()["image"] == Feature((8, 8, 1))
    assert source.features()["label"] == Feature((), 3, ("class 0", "class 1", "class 2"))


def test_paths_are_relative_to_the_table_or_absolute(folder, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    outside = paint(tmp_path / "outside.png", 99)
    rows = [row(number) for number in range(19)] + [row(19, image=str(outside))]
    tones = all_splits(write(folder, rows))["image"][:, 0, 0, 0]
    assert sorted(tones.tolist()) == [*range(19), 99]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_an_empty_cell_is_a_missing_modality(folder, name):
    nothing = {"image": ["", " "][name == "rows.csv"], "label": ""}
    rows = [row(number, split=SPLITS[number % 3]) for number in range(12)]
    rows[0]["image"], rows[3]["label"], rows[6] = nothing["image"].strip(), "", rows[6]
    rows[6] |= nothing if name == "rows.csv" else {"image": None, "label": None}
    if name == "rows.jsonl":
        del rows[9]["label"]
    source = write(folder, rows, name)
    (batch,) = Data(source=source, batch_size=3).split_batches("train")
    labels = [True, False, name == "rows.csv"]
    assert batch.present["image"].tolist() == [False, True, True]
    assert batch.present["label"].tolist() == labels
    assert batch.data["image"][:, 0, 0, 0].tolist() == [0, 3, 9]
    assert batch.data["label"].tolist() == [0, 0, 0] and batch.valid.all()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_empty_rows_are_no_examples(folder, name, caplog):
    """Spreadsheets write rows of nothing below the last one that was filled."""
    rows = [row(number) for number in range(20)]
    source = write(folder, rows + [{"image": "", "label": ""}] * 20, name)
    tones = all_splits(source)["image"][:, 0, 0, 0]
    assert sorted(tones.tolist()) == list(range(20))
    assert f"{name}: 20 empty row(s) are left out" in caplog.text
    before = source.key()
    assert write(folder, rows, name).key() != before


def test_a_modality_that_a_split_lacks_is_named(folder, caplog):
    rows = [row(n, text="x", split=SPLITS[n % 3]) for n in range(12)]
    for split, column, refused in (
        ("train", "text", True),
        ("train", "label", True),
        ("validation", "text", True),
        ("validation", "label", False),
        ("test", "text", False),
    ):
        lacking = [one | ({column: ""} if one["split"] == split else {}) for one in rows]
        source = write(folder, lacking)
        said = f"rows.jsonl has no {column} in any row of the {split} split"
        if refused:
            with pytest.raises(ValueError, match=f"{said}; assign rows"):
                source.examples()
        else:
            source.examples()
            assert f"{said}, so it will have no metrics there" in caplog.text


def test_a_missing_modality_is_not_present_in_padding_either(folder):
    rows = [row(number, split=SPLITS[number % 3]) for number in range(12)]
    rows[3]["label"] = ""
    batches = list(Data(source=write(folder, rows), batch_size=3).split_batches("train"))
    assert [batch.valid.tolist() for batch in batches] == [[True] * 3, [True, False, False]]
    assert batches[1].present["label"].tolist() == [True, False, False]


def test_the_column_split_divides_the_rows(folder):
    names = ["test", "train", "train", "validation", "train"]
    source = write(folder, [row(number, split=name) for number, name in enumerate(names)])
    tones = [everything(source, split)["image"][:, 0, 0, 0].tolist() for split in SPLITS]
    assert tones == [[1, 2, 4], [3], [0]]
    assert "split" not in source.features()


@pytest.mark.parametrize("wrong", ["val", "Train", ""])
def test_an_unknown_split_is_refused_with_those_there_are(folder, wrong):
    rows = [row(number, split=SPLITS[number % 3]) for number in range(12)]
    rows[5]["split"] = wrong
    match = f"rows.jsonl:6: unknown split '{wrong}'; choose one of: train, validation, test"
    with pytest.raises(ValueError, match=match):
        write(folder, rows).split("train")


def test_a_split_without_rows_is_named(folder):
    rows = [row(number, split=SPLITS[number % 2]) for number in range(12)]
    with pytest.raises(ValueError, match="rows.jsonl has no row of the test split"):
        write(folder, rows).split("train")


def test_an_unknown_column_is_named_with_the_known_ones(folder):
    rows = [row(number, caption="a picture") for number in range(12)]
    match = "rows.jsonl has the unknown column 'caption'; known columns: image, audio"
    with pytest.raises(ValueError, match=match):
        write(folder, rows).split("train")


def test_fewer_than_ten_rows_are_too_few(folder):
    with pytest.raises(ValueError, match="rows.jsonl has 9 examples, but training, validation"):
        write(folder, [row(number) for number in range(9)]).split("train")


def test_a_table_of_nothing_is_refused(folder):
    for rows in ([], [{"image": "", "label": None}] * 12):
        match = "rows.jsonl has no values in the columns image, audio, text, label"
        with pytest.raises(ValueError, match=match):
            write(folder, rows).split("train")


def test_a_quote_that_nothing_closes_is_refused(folder):
    source = write(folder, [row(number) for number in range(12)], "rows.csv")
    with (folder / "rows.csv").open("a") as file:
        file.write('pictures/1.png,"cat\n')
    with pytest.raises(
        ValueError, match="cannot read the table .*rows.csv: unexpected end of data"
    ):
        source.split("train")


def test_a_column_that_is_always_empty_is_no_modality(folder):
    source = write(folder, [row(number, label="") for number in range(12)], "rows.csv")
    assert list(source.features()) == ["image"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'image': 1}", "is not JSON: Expecting property name enclosed in double quotes at cha"),
        ('["1.png"]', 'must be a JSON object such as {"image": ...}'),
        (
            '{"image": "pictures/1.png", "label": ["a"]}',
            "must have a text or a number in the column label",
        ),
        ('{"image": {"path": "1.png"}}', "must have a text or a number in the column image"),
        ('{"image": 3}', "must have a path in the column image, got 3"),
        (
            '{"text": "\\ud83d"}',
            "has a lone surrogate (half a character) in the column text: '\\ud83d'",
        ),
        ('{"image": "\\udc00.png"}', "has a lone surrogate (half a character) in the column image"),
        ('{"label": "\\udc00"}', "has a lone surrogate (half a character) in the column label"),
        (
            '{"text": "a", "text": "b"}',
            "cannot be read: the row has the name 'text' twice; give each column",
        ),
        ('{"label": Infinity}', "must have a finite number in the column label"),
        ('{"label": 1' + "0" * 5000 + "}", "cannot be read: Exceeds the limit"),
        ('{"label": ' + "[" * 100_000, "is nested too deeply; a row must be one flat object"),
        (
            '{"image": "' + "a" * 5000 + '"}',
            "must have a path in the column image, got a text of 5,000 characters",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number(folder, line, message):
    source = write(folder, [row(number) for number in range(12)])
    file = folder / "rows.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:4], "", line, *lines[4:]]))
    with pytest.raises(ValueError) as caught:
        source.split("train")
    assert str(caught.value).startswith(f"{file}:6 {message}")


def test_a_csv_row_with_too_many_cells_is_named_by_its_number(folder):
    file = folder / "rows.csv"
    lines = [f"pictures/{number}.png,a" for number in range(12)]
    file.write_text("\n".join(["image,label", *lines, "a, b.png,a", ""]))
    with pytest.raises(ValueError, match=f"{file}:14 has more cells than there are columns"):
        Table(path=str(file)).split("train")


def test_a_short_csv_row_lacks_its_last_modalities(folder):
    file = folder / "rows.csv"
    lines = [f"pictures/{number}.png{',a' * (number % 2)}" for number in range(12)]
    file.write_text("\n".join(["image,label", *lines]))
    arrays = all_splits(Table(path=str(file), size=8, channels=1))
    np.testing.assert_array_equal(arrays["present_label"], arrays["image"][:, 0, 0, 0] % 2 == 1)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_byte_order_mark_and_any_language_are_read(folder, name):
    names = ["猫", "été", "café"]
    rows = [row(number, label=names[number % 3]) for number in range(12)]
    source = write(folder, rows, name, encoding="utf-8-sig")
    assert source.features()["label"].names == tuple(sorted(names))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_a_table_that_is_no_text_is_named(folder, name):
    (folder / name).write_bytes(b'image,label\n\xff\xfe{"image": \x00}\n')
    match = f"cannot read the table {folder}/{name}: line 2 is not UTF-8; save the table as UTF-8"
    with pytest.raises(ValueError, match=match):
        Table(path=str(folder / name)).split("train")


def test_a_column_that_is_there_twice_is_named(folder):
    (folder / "rows.csv").write_text("text,label,text\na,1,b\n")
    with pytest.raises(ValueError, match="rows.csv has two columns named 'text'; give each column"):
        Table(path=str(folder / "rows.csv")).split("train")


def test_other_separators_than_commas_are_told(folder):
    (folder / "rows.csv").write_text("text;label\na;1\n")
    with pytest.raises(ValueError, match="unknown column 'text;label'.*; cells are separated by c"):
        Table(path=str(folder / "rows.csv")).split("train")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((10, 9, 2), ("2", "9", "10")),
        (("10", 9, "2"), ("2", "9", "10")),
        ((10.0, 9.0, 2.0), ("2", "9", "10")),
        ((0.5, 10, 9), ("0.5", "10", "9")),
        (("b", "B", "a"), ("B", "a", "b")),
        (("07", "7", "1"), ("1", "07", "7")),
        (("-1", "10", "9"), ("-1", "9", "10")),
        (("cafe\u0301 ", "caf\u00e9", "b"), ("b", "caf\u00e9")),
    ],
)
def test_classes_are_in_order_of_numbers_or_of_names(folder, labels, names):
    rows = [row(number, label=labels[number % 3]) for number in range(12)]
    source = write(folder, rows)
    assert source.features()["label"] == Feature((), len(names), names)
    arrays = all_splits(source)
    texts = [class_name(str(label).removesuffix(".0"), "") for label in labels]
    for tone, label in zip(arrays["image"][:, 0, 0, 0], arrays["label"], strict=True):
        assert names[label] == texts[tone % 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "a\u200b"), "'a' and 'a\\u200b' look the same"),
        (("\u0441at", "cat"), "'cat' and '\\u0441at' look the same"),
        (("a b", "a\u00a0b"), "'a b' and 'a\\xa0b' look the same"),
        (("a\nb", "c"), r"rows.jsonl:1: the class 'a\\nb' has control characters"),
        (("a" * 300, "c"), "rows.jsonl:1: the class 'a.* has more than 200 characters"),
    ],
)
def test_names_that_people_cannot_tell_apart_are_refused(folder, labels, message):
    with pytest.raises(ValueError, match=message.replace("\\u", "\\\\u").replace("\\x", "\\\\x")):
        write(folder, [row(number, label=labels[number % 2]) for number in range(12)]).features()


def test_a_file_whose_name_has_unicode_s_other_form_is_found(folder):
    rows = [row(number) for number in range(12)]
    paint(folder / "pictures" / "e\u0301.png", 77)
    rows[3]["image"] = "pictures/\u00e9.png"
    assert 77 in all_splits(write(folder, rows))["image"]


def test_many_columns_and_classes_take_no_time(folder):
    start = time.monotonic()
    names = [f"c{number}" for number in range(30_000)]
    (folder / "wide.csv").write_text(f"{','.join(names)}\n{'a,' * 29_999}a\n")
    with pytest.raises(ValueError, match="unknown column 'c0'"):
        Table(path=str(folder / "wide.csv")).features()
    rows = [{"label": f"class {number % 1500}"} for number in range(3000)]
    assert len(list(write(folder, rows).examples()["train"])) == 2400
    assert time.monotonic() - start < 4.0


def test_gaps_in_a_column_of_numbers_do_not_change_its_classes(folder):
    """Whole numbers with gaps are written as 3.0 and NaN by many programs."""
    rows = [row(number, label=float(number % 3)) for number in range(12)]
    rows[4]["label"] = float("nan")
    source = write(folder, rows)
    assert "NaN" in (folder / "rows.jsonl").read_text()
    assert source.features()["label"].names == ("0", "1", "2")
    arrays = all_splits(source)
    np.testing.assert_array_equal(arrays["present_label"], arrays["image"][:, 0, 0, 0] != 4)


def test_a_picture_that_is_not_there_is_named_and_leaves_nothing(folder, data_folder):
    source = write(folder, [row(number) for number in range(12)] + [row(77)])
    with pytest.raises(
        FileNotFoundError, match=f"rows.jsonl:13, image: no picture {folder}/pictures/77.png"
    ):
        source.split("train")
    assert list(data_folder.glob("*")) == []
    paint(folder / "pictures" / "77.png", 77)
    assert 77 in all_splits(source)["image"]


def test_a_changed_table_or_picture_is_prepared_anew(folder):
    rows = [row(number) for number in range(12)]
    source = write(folder, rows)
    first = source.fingerprint()
    write(folder, [*rows[:-1], row(11, label="class 0")])
    second = source.fingerprint()
    file = paint(folder / "pictures" / "3.png", 200)
    os.utime(file, (1e9, 1e9))
    third = source.fingerprint()
    assert first != second != third
    assert 200 in all_splits(source)["image"]


def test_the_same_rows_elsewhere_have_the_same_fingerprint(folder, tmp_path):
    rows = [row(number) for number in range(12)]
    source = write(folder, rows)
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = write(tmp_path / "copy", rows, "other.csv")
    assert source.fingerprint() == copy.fingerprint()


def test_a_table_that_is_not_there_or_of_another_kind_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=f"no table {tmp_path}/rows.csv; give the path .*--data"
    ):
        Table(path=str(tmp_path / "rows.csv")).split("train")
    (tmp_path / "rows.txt").touch()
    with pytest.raises(ValueError, match=f"{tmp_path}/rows.txt must end in .jsonl, .csv or .pa"):
        Table(path=str(tmp_path / "rows.txt")).split("train")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_texts_are_their_bytes_or_missing(folder, name):
    texts = ["", "a cat", "ein Bär", 7]
    rows = [row(number, text=texts[number % 4]) for number in range(12)]
    source = dataclasses.replace(write(folder, rows, name), length=8)
    assert source.features()["text"] == Feature((8,))
    arrays = all_splits(source)
    assert arrays["text"].dtype == np.uint8
    for tone, text, there in zip(
        arrays["image"][:, 0, 0, 0], arrays["text"], arrays["present_text"], strict=True
    ):
        assert bytes(text) == str(texts[tone % 4]).encode().ljust(8, b"\0")
        assert there == (tone % 4 > 0)


@pytest.mark.parametrize(("name", "line"), [("rows.jsonl", 8), ("rows.csv", 9)])
def test_a_text_that_is_too_long_is_named_by_its_line(folder, data_folder, name, line):
    rows = [row(number, text="né" * (1 + number % 8 // 7)) for number in range(12)]
    source = dataclasses.replace(write(folder, rows, name), length=5)
    match = (
        f"{name}:{line}, text: the text 'néné' has 6 bytes, more than the limit of 5; shorten it"
    )
    with pytest.raises(ValueError, match=match):
        source.split("train")
    assert list(data_folder.glob("*")) == []


def sing(file, number, samples=50, rate=4000, **options):
    sound = np.full(samples, 100 * number, np.int16)
    soundfile.write(file, sound, rate, **options)
    return file.name


def test_sounds_are_read_or_missing(folder):
    endings = (".wav", ".flac")
    rows = [row(n, audio=sing(folder / f"{n}{endings[n % 2]}", n)) for n in range(12)]
    del rows[5]["audio"]
    source = dataclasses.replace(write(folder, rows), samples=50, rate=4000)
    assert source.features()["audio"] == Feature((50,), dtype="int16")
    arrays = all_splits(source)
    tones = arrays["image"][:, 0, 0, 0].astype(int)
    np.testing.assert_array_equal(arrays["present_audio"], tones != 5)
    expected = np.where(tones == 5, 0, 100 * tones)[:, None].repeat(50, 1)
    np.testing.assert_array_equal(arrays["audio"], expected)
    before = source.fingerprint()
    os.utime(folder / sing(folder / "3.flac", 99), (1e9, 1e9))
    assert source.fingerprint() != before and 9900 in all_splits(source)["audio"]


def test_a_sound_of_another_length_is_named_and_leaves_nothing(folder, data_folder):
    rows = [row(n, audio=sing(folder / f"{n}.wav", n, samples=50 + (n == 7))) for n in range(12)]
    source = dataclasses.replace(write(folder, rows), samples=50, rate=4000)
    match = "jsonl:8, audio: the recording is longer than 50 samples at 4000 Hz; change the bounds"
    with pytest.raises(ValueError, match=match):
        source.split("train")
    assert list(data_folder.glob("*")) == []


@pytest.mark.parametrize("fields", [{"size": 0}, {"channels": 2}, {"samples": 0}, {"length": -1}])
def test_bad_fields_are_refused_by_value(fields):
    (value,) = fields.values()
    with pytest.raises(ValueError, match=f"Table needs .*got {value}"):
        Table(**fields)
