"""What is found in folders, tables and texts, by value."""

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from tests.configure.files import WORDS, picture, sound
from vqdit.configure.columns import MOST, Classes, Documents, Pictures, Sounds, Texts, sampled
from vqdit.configure.inspection import inspect
from vqdit.configure.report import described
from vqdit.configure.tables import absolute_rows


def by_name(found):
    return {column.name: column for column in found.columns}


def test_pictures_in_classes(classes):
    (classes / "notes.pdf").write_bytes(b"%PDF")
    found = inspect(str(classes))
    assert (found.form, found.rows, found.train) == ("image_folder", 30, 24)
    image, label = found.columns
    assert isinstance(image.facts, Pictures) and not image.facts.is_grey
    assert image.facts.sizes.min(axis=0).tolist() == [20, 24]
    assert image.facts.sizes.max(axis=0).tolist() == [20, 53]
    assert isinstance(label.facts, Classes)
    assert dict(label.facts.counts) == {"red": 10, "green": 10, "blue": 10}
    assert found.left_out == ("because of their endings: 1 .pdf",)


def test_a_table_with_gaps(table):
    found = inspect(str(table))
    columns = by_name(found)
    assert (found.form, found.rows, found.train) == ("table", 40, 32)
    kinds = {name: type(column.facts) for name, column in columns.items()}
    assert kinds == {"photo": Pictures, "caption": Texts, "noise": Sounds, "kind": Classes}
    assert columns["photo"].facts.is_grey
    assert [columns[name].given for name in columns] == [40, 40, 20, 32]
    assert set(columns["noise"].facts.samples) == {400}
    assert columns["noise"].facts.seconds[0] == 0.1
    assert columns["caption"].facts.lengths.max() == len("green number 37")
    assert columns["kind"].facts.counts["red"] == 8
    assert set(found.unused) == {"id", "price", "source"}
    assert found.unused["price"] == "its numbers are measurements, for which there is no modality"
    assert found.unused["source"] == "every row has the same value, 'the same'"
    lines = described(found)
    assert "  noise: sounds of 0.1 s, 4,000 Hz, mono; 20 examples have none" in lines
    assert "  photo: grey pictures, 12x12 pixels" in lines


def test_files_of_one_name_are_one_example(speech):
    found = inspect(str(speech))
    columns = by_name(found)
    assert found.form == "files" and found.rows == len(found.table) == 20
    assert (columns["audio"].given, columns["text"].given) == (20, 17)
    assert found.left_out == ("1 empty texts",)
    assert found.table[5] == {
        "audio": str(speech / "part/05.wav"),
        "text": "recording 5",
    }


def test_pictures_with_captions_beside_them(data_folder):
    for number in range(12):
        picture(data_folder / f"in/{number}.png", 16, 16, number)
        (data_folder / f"in/{number}.txt").write_text(f"a picture of {number}")
    found = inspect("in")
    assert found.form == "files"
    assert [column.name for column in found.columns] == ["image", "text"]


def test_a_folder_with_a_table_is_the_table(table):
    assert inspect(str(table.parent)).path == table


def test_splits_by_folders(data_folder):
    for split, count in (("train", 6), ("validation", 2), ("test", 2)):
        for number in range(count):
            picture(data_folder / f"in/{split}/{WORDS[number % 2]}/{number}.png", 9, 9, number)
    found = inspect("in")
    assert (found.rows, found.train) == (10, 6)
    assert dict(found.columns[1].facts.counts) == {"red": 5, "green": 5}


def test_unreadable_files_are_named_and_their_cells_are_emptied(table):
    (table.parent / "files/3.png").write_bytes(b"no picture")
    (table.parent / "files/5.wav").unlink()
    found = inspect(str(table))
    columns = by_name(found)
    (bad,) = columns["photo"].unreadable
    assert bad.file.name == "3.png" and bad.why
    assert [one.file.name for one in columns["noise"].unreadable] == ["5.wav"]
    assert found.table[3]["photo"] is None
    assert found.table[5]["noise"] is None
    assert found.table[4]["photo"] == str(table.parent / "files/4.png")
    assert any("cannot be read: 1 of 40 files of photo:" in line for line in described(found))


def test_a_parquet_table_holds_files(data_folder):
    contents = []
    for number in range(12):
        picture(data_folder / "one.png", 10, 14, number)
        contents.append({"bytes": (data_folder / "one.png").read_bytes(), "path": None})
    columns = {"photo": contents, "digit": [n % 2 for n in range(12)], "box": [[1.0]] * 12}
    parquet.write_table(pyarrow.table(columns), data_folder / "rows.parquet")
    found = inspect("rows.parquet")
    photo, digit = found.columns
    assert photo.facts.sizes.tolist() == [[10, 14]] * 12
    assert dict(digit.facts.counts) == {"0": 6, "1": 6}
    assert "list" in found.unused["box"]
    parquet.write_table(pyarrow.table({"box": [[1.0]] * 12}), data_folder / "boxes.parquet")
    with pytest.raises(ValueError, match=r"no usable column \(box: the type list<.*'box'"):
        inspect("boxes.parquet")


@pytest.mark.parametrize(
    ("text", "documents", "split_by", "count"),
    [
        ("".join(f"line {n}\n" for n in range(60)), "line", "documents", 60),
        ("one\n\ntwo\n\n" * 60, "file", "position", 1),
        ("a line\n" * 60, "file", "position", 1),
    ],
)
def test_a_file_of_text(data_folder, text, documents, split_by, count):
    (data_folder / "text.txt").write_text(text)
    found = inspect("text.txt")
    facts = found.columns[0].facts
    assert isinstance(facts, Documents)
    assert (facts.documents, facts.split_by, len(facts.lengths)) == (documents, split_by, count)
    assert found.rows == len(text)


def test_a_folder_of_texts(data_folder):
    (data_folder / "in").mkdir()
    for number in range(60):
        (data_folder / f"in/{number}.md").write_text(f"Text {number}\n")
    facts = inspect("in").columns[0].facts
    assert (facts.documents, facts.split_by, len(facts.lengths)) == ("file", "documents", 60)


def test_names_that_a_config_cannot_have_are_changed(data_folder):
    names = ("a b", "a_b", "1", "é", "present_x", "x_given")
    lines = [",".join(names), *(",".join(f"{name} {n}" for name in names) for n in range(12))]
    (data_folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    found = inspect("rows.csv")
    assert found.renamed == {
        "a b": "a_b_",
        "1": "_1",
        "present_x": "column_present_x_",
        "x_given": "column_x_given_",
    }
    assert [column.name for column in found.columns][:4] == ["a_b_", "a_b", "_1", "é"]
    assert not found.table  # the table is read as it is
    (row, *_) = absolute_rows(found)
    assert (row["a_b_"], row["a_b"], row["_1"]) == ("a b 0", "a_b 0", "1 0")


def test_of_many_files_an_even_sample_is_looked_at():
    looked = sampled(range(10 * MOST))
    assert len(looked) == MOST and (looked[0], looked[-1]) == (0, 10 * MOST - 1)
    assert np.ptp(np.diff(looked)) <= 1


def test_what_cannot_be_learned_from_is_refused(data_folder):
    def refused(path):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            inspect(path)
        message = str(caught.value)
        assert "\n" not in message
        return message

    picture(data_folder / "a.png", 9, 9)
    assert refused("nothing") == ("no file or folder nothing; give a table or a folder of files")
    (data_folder / "empty").mkdir()
    assert refused("empty").startswith("empty has no files; the names of files must end in png, ")
    (data_folder / "empty/a.doc").write_text("x")
    assert refused("empty").startswith("empty has no files that vqdit reads, only 1 .doc; ")
    (data_folder / "a.doc").write_bytes(b"\0")
    assert refused("a.doc").startswith("a.doc is of an unknown kind; give a table (.jsonl, ")
    (data_folder / "a.json").write_text("[]")
    assert refused("a.json").startswith("a.json is JSON; write a table as JSON Lines")
    assert refused("a.png") == "a.png is a single example; give the folder that contains it"
    (data_folder / "id.csv").write_text("id,score\n" + "".join(f"{n},{n / 3}\n" for n in range(20)))
    assert refused("id.csv").startswith("id.csv has no usable column (id: its numbers differ")
    for number in range(12):
        picture(data_folder / f"dots/{number}.png", 1, 1, number)
    assert refused("dots") == (
        "dots has pictures with edges of 1 to 1 pixels; there is nothing to learn from fewer than 8"
    )
    (data_folder / "damaged").mkdir()
    (data_folder / "damaged/a.jpg").write_bytes(b"x")
    assert refused("damaged").startswith(
        "damaged has 1 files, none of which can be read: damaged/a.jpg, cannot identify"
    )
    (data_folder / "empty.txt").write_text("")
    assert refused("empty.txt") == "empty.txt has only empty files; add some text"
    (data_folder / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    assert refused("latin.txt") == "latin.txt is not UTF-8 at byte 0; save it as UTF-8"
    (data_folder / "val.csv").write_text("text,split\na,train\nb,val\n")
    assert refused("val.csv").startswith(
        "val.csv has the split 'val'; the column split may only have"
    )
    sound(data_folder / "two/a.wav")
    (data_folder / "two/a.txt").write_bytes(b"\xff\xfe")
    assert refused("two").startswith("the text two/a.txt is not UTF-8 at byte 0")
    (data_folder / "tables").mkdir()
    for name in "ab":
        (data_folder / f"tables/{name}.csv").write_text("text\nx\n")
    assert refused("tables") == "tables has 2 tables; give one of them, such as tables/a.csv"
