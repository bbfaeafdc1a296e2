"""A table with columns of any names: each is read by its own modality, from text or Parquet."""

import csv
import hashlib
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from PIL import Image as Pillow
from pyarrow import parquet

from vqdit import config
from vqdit.data import Data, Table, table_rows
from vqdit.data.sources import SPLITS, Feature
from vqdit.data.table_rows import _group, read_rows
from vqdit.modalities import BPE, Audio, Image, Label, Text
from vqdit.typing import Named

pytestmark = pytest.mark.usefixtures("data_folder")

COLUMNS = Named(
    before=Image(size=(4, 6), channels=1),
    after=Image(size=(2, 2), channels=3),
    instruction=Text(length=12),
    note=Text(length=4),
    speech=Audio(samples=5, rate=8000),
    kind=Label(classes=3),
)
TEXTS = {"instruction", "note", "kind", "split"}


def png(value, size=(6, 4)):
    buffer = io.BytesIO()
    Pillow.new("L", size, value).save(buffer, "PNG")
    return buffer.getvalue()


def wav(value):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.full(5, value, np.int16), 8000, format="WAV")
    return buffer.getvalue()


def rows(count=12):
    """Rows by their contents; files as bytes, and what no column is read from."""
    return [
        {
            "before": png(n),
            "after": png(100 + n, (8, 8)),
            "instruction": f"add {n}",
            "note": n,
            "speech": wav(n) if n % 4 else None,
            "kind": ("cat", "dog", "emu")[n % 3],
            "split": SPLITS[n % 3],
            "other": n,
        }
        for n in range(count)
    ]


def write(folder, found, ending):
    """Writes a table; files lie beside one of text, and in one of Parquet."""
    folder.mkdir(exist_ok=True)
    file = folder / f"rows{ending}"
    if ending == ".parquet":
        hub = {  # as the hub's data sets have pictures, and as other programs do
            "before": lambda cell: {"bytes": cell, "path": "elsewhere.png"},
            "speech": lambda cell: cell and {"bytes": cell, "path": None},
        }
        cells = {
            name: [hub.get(name, lambda cell: cell)(row[name]) for row in found]
            for name in found[0]
        }
        parquet.write_table(pyarrow.table(cells), file, row_group_size=5)
        return Table(path=str(file), columns=COLUMNS)
    for number, row in enumerate(found):
        for name, cell in row.items():
            if isinstance(cell, bytes):
                (folder / f"{number}{name}").write_bytes(cell)
                row[name] = f"{number}{name}"
    if ending == ".csv":
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, found[0])
            writer.writeheader()
            writer.writerows(found)
    else:
        file.write_text("".join(f"{json.dumps(row)}\n" for row in found))
    return Table(path=str(file), columns=COLUMNS)


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_columns_of_any_names_are_read_by_their_modalities(tmp_path, ending):
    source = write(tmp_path, rows(), ending)
    assert source.features() == Named(
        before=Feature((4, 6, 1)),
        after=Feature((2, 2, 3)),
        instruction=Feature((12,)),
        note=Feature((4,)),
        speech=Feature((5,), dtype="int16"),
        kind=Feature((), 3, ("cat", "dog", "emu")),
    )
    for number, split in enumerate(SPLITS):
        (batch,) = Data(source=source, batch_size=4).split_batches(split)
        values = np.arange(number, 12, 3)
        np.testing.assert_array_equal(
            batch.data["before"], values[:, None, None, None] + np.zeros((4, 6, 1))
        )
        assert (batch.data["after"] == 100 + values[:, None, None, None]).all()
        assert COLUMNS["instruction"].unpack(batch.data["instruction"]).tolist() == [
            f"add {value}" for value in values
        ]
        assert COLUMNS["note"].unpack(batch.data["note"]).tolist() == list(map(str, values))
        assert batch.present["speech"].tolist() == (values % 4 > 0).tolist()
        assert (batch.data["speech"] == np.where(values % 4, values, 0)[:, None]).all()
        assert batch.data["kind"].tolist() == [number] * 4


def test_tables_of_every_kind_have_the_same_data(tmp_path):
    sources = [write(tmp_path / end[1:], rows(), end) for end in (".jsonl", ".csv", ".parquet")]
    first, *others = [source.fingerprint() for source in sources]
    assert others == [first, first]
    assert len({source.key() for source in sources}) == 3


def test_parquet_is_read_one_group_at_a_time(tmp_path):
    write(tmp_path, rows(), ".parquet").fingerprint()
    assert _group.cache_info().currsize <= 4  # of 9: three columns of files, three groups


def test_a_cell_of_parquet_may_have_a_path_alone(tmp_path):
    (tmp_path / "a.png").write_bytes(png(7))
    cells = [{"bytes": png(n), "path": "x"} for n in range(9)]
    cells += [{"bytes": None, "path": "a.png"}, {"bytes": None, "path": None}, None]
    split = [SPLITS[n % 3] for n in range(12)]
    texts = pyarrow.array([f"t{n}" for n in range(12)]).dictionary_encode()
    found = pyarrow.table({"photo": cells, "title": texts, "split": split})
    parquet.write_table(found, tmp_path / "rows.parquet")
    columns = Named(photo=Image(size=(4, 6), channels=1), title=Text(length=3))
    source = Table(path=str(tmp_path / "rows.parquet"), columns=columns)
    arrays = {split: source.split(split).take(np.arange(4)) for split in SPLITS}
    photos = {split: found["photo"][:, 0, 0, 0].tolist() for split, found in arrays.items()}
    assert photos == {"train": [0, 3, 6, 7], "validation": [1, 4, 7, 0], "test": [2, 5, 8, 0]}
    there = [arrays[split]["present_photo"][-1] for split in SPLITS]
    assert there == [True, False, False]


def test_the_hub_s_names_of_classes_are_known(tmp_path):
    names = {"_type": "ClassLabel", "names": ["no", "yes"]}
    found = pyarrow.table({"answer": [0, 1, -1] * 4, "text": ["t"] * 12})
    info = json.dumps({"info": {"features": {"answer": names, "text": {"_type": "Value"}}}})
    found = found.replace_schema_metadata({"huggingface": info})
    parquet.write_table(found, tmp_path / "rows.parquet")
    columns = Named(answer=Label(classes=2), text=Text(length=1))
    source = Table(path=str(tmp_path / "rows.parquet"), columns=columns)
    assert source.features()["answer"] == Feature((), 2, ("no", "yes"))
    parts = [source.split(split) for split in SPLITS]
    there = [part.take(np.arange(len(part)))["present_answer"] for part in parts]
    assert sum(map(np.sum, there)) == 8


@pytest.mark.parametrize(
    ("label", "cells", "names", "stored"),
    [
        (Label(classes=10), (7, 3, 0), tuple("0123456789"), (7, 3, 0)),
        (Label(classes=10), ("7", 3.0, "0.0"), tuple("0123456789"), (7, 3, 0)),
        (Label(classes=2), (1, 2, 1), ("1", "2"), (0, 1, 0)),
        (Label(classes=2, names=("no", "yes")), ("yes", "no", 1), ("no", "yes"), (1, 0, 1)),
    ],
)
def test_labels_are_numbers_or_names(tmp_path, label, cells, names, stored):
    file = tmp_path / "rows.jsonl"
    found = [{"kind": cells[n % 3], "split": SPLITS[n // 4]} for n in range(12)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in found))
    source = Table(path=str(file), columns=Named(kind=label))
    assert source.features()["kind"] == Feature((), len(names), names)
    assert source.split("train").take(np.arange(3))["kind"].tolist() == list(stored)


CELLS = [
    ("before", "none.png", "rows.jsonl:3, before: no picture {folder}/none.png"),
    ("before", "1speech", "rows.jsonl:3, before: cannot decode the picture {folder}/1speech: "),
    ("before", 7, "rows.jsonl:3 must have a path in the column before, got 7"),
    ("speech", "1before", "rows.jsonl:3, speech: cannot decode the sound {folder}/1before: "),
    ("note", "seven", "rows.jsonl:3, note: the text 'seven' has 5 bytes, more than the limit of 4"),
    ("note", ["a"], "rows.jsonl:3 must have a text or a number in the column note"),
    ("note", float("inf"), "rows.jsonl:3 must have a finite number in the column note"),
    ("kind", "a\nb", "rows.jsonl:3: the class 'a\\nb' has control characters"),
]


@pytest.mark.parametrize(("column", "cell", "message"), CELLS)
def test_a_cell_that_cannot_be_read_is_named_by_row_and_column(tmp_path, column, cell, message):
    found = rows()
    found[2][column] = cell
    source = write(tmp_path, found, ".jsonl")
    with pytest.raises((ValueError, OSError), match=re.escape(message.format(folder=tmp_path))):
        source.prepare()
    assert list(Path(os.environ["VQDIT_DATA"]).glob("*")) == []


def test_a_name_that_is_no_class_is_refused_with_the_nearest(tmp_path):
    kinds = Label(classes=3, names=("cat", "dog", "emus"))
    source = write(tmp_path, rows(), ".jsonl")
    columns = source.columns | {"kind": kinds}
    with pytest.raises(ValueError, match="jsonl:3, kind: unknown label 'emu'; .*nearest: emus"):
        Table(path=source.path, columns=columns).prepare()


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_a_column_that_the_table_lacks_is_named_with_the_nearest(tmp_path, ending):
    source = write(tmp_path, rows(), ending)
    lacking = Table(path=source.path, columns=Named(instructions=Text()))
    match = f"rows{ending} has no column 'instructions'; nearest: 'instruction'; it has: before, "
    with pytest.raises(ValueError, match=match):
        lacking.prepare()


def test_a_column_may_have_another_name_in_the_file(tmp_path):
    file = tmp_path / "rows.csv"
    rows = "".join(f"text {n},{('cat', 'dog')[n % 2]},{n},{SPLITS[n % 3]}\n" for n in range(12))
    file.write_text(f"label text,class,2nd,fold\n{rows}")
    columns = Named(label_text=Text(length=8), kind=Label(classes=2), second=Text(length=2))
    headers = Named(label_text="label text", kind="class", second="2nd", split="fold")
    source = Table(path=str(file), columns=columns, headers=headers)
    assert source.features()["kind"].names == ("cat", "dog")
    found = source.split("validation").take(np.arange(4))
    read = {name: columns[name].unpack(found[name]).tolist() for name in columns}
    assert read == {
        "label_text": ["text 1", "text 4", "text 7", "text 10"],
        "kind": [1, 0, 1, 0],
        "second": ["1", "4", "7", "10"],
    }
    assert source.key() != Table(path=str(file), columns=Named(fold=Text())).key()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"columns": Named({"label text": Text()})},
            "named 'label text', which is not a Python identifier; name it label_text, and add "
            "headers=Named(label_text='label text')",
        ),
        ({"columns": Named({"2nd": Text()})}, "name it _2nd, and add headers=Named(_2nd='2nd')"),
        (
            {"columns": Named(a=Text()), "headers": Named(b="B")},
            "headers has the column 'b', which is",
        ),
        ({"columns": Named(label_text=Text())}, "add headers=Named(label_text='label text'); it"),
        ({"columns": Named(a=Text()), "headers": Named(a="A")}, "has no column 'A'; it has: label"),
    ],
)
def test_names_of_headers_are_checked(tmp_path, fields, message):
    file = tmp_path / "rows.csv"
    file.write_text("label text,class\n" + "a,b\n" * 12)
    with pytest.raises(ValueError, match=re.escape(message)):
        Table(path=str(file), **fields).features()


def test_a_column_without_values_is_named(tmp_path):
    found = [row | {"note": None} for row in rows()]
    with pytest.raises(ValueError, match="has no value in its column 'note'; remove this"):
        write(tmp_path, found, ".parquet").prepare()


def test_texts_may_have_their_own_lengths(tmp_path):
    texts = ["a", "né", "a\0b", "seven"]
    found = [{"note": texts[n % 4], "split": SPLITS[n // 4]} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    note = Text(length=6, variable=True)
    source = Table(path=str(tmp_path / "rows.jsonl"), columns=Named(note=note))
    assert source.features()["note"] == Feature((6,), ragged=True)
    assert note.unpack(source.split("test").take(np.arange(4))["note"]).tolist() == texts


def test_units_of_texts_are_learned_from_the_training_rows_alone(tmp_path):
    pytest.importorskip("tokenizers")
    texts = {"train": "abab abab", "validation": "xyxy xyxy", "test": "ab xy"}
    found = [{"note": texts[SPLITS[n % 3]], "split": SPLITS[n % 3]} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    note = Text(length=12, units=BPE(size=300))
    source = Table(path=str(tmp_path / "rows.jsonl"), columns=Named(note=note))
    merges = source.features()["note"].units
    assert "a b" in merges and "x" not in merges
    note = Text(length=12, units=BPE(size=300, merges=merges))
    for split, text in texts.items():
        assert note.unpack(source.split(split).take(np.arange(4))["note"]).tolist() == [text] * 4


@pytest.mark.parametrize(
    ("cells", "kind"), [([["a"]] * 12, "list"), ([{"a": 1}] * 12, "struct"), ([True] * 12, "bool")]
)
def test_nested_columns_are_refused_by_name_where_they_are_read(tmp_path, cells, kind):
    found = pyarrow.table({"tags": cells, "text": ["t"] * 12})
    parquet.write_table(found, tmp_path / "rows.parquet")
    source = Table(path=str(tmp_path / "rows.parquet"), columns=Named(text=Text(length=1)))
    assert list(source.features()) == ["text"]
    source = Table(path=source.path, columns=Named(tags=Text(length=1)))
    with pytest.raises(
        ValueError, match=f"rows.parquet has the type {kind}.* in its column 'tags'"
    ):
        source.prepare()


def test_a_damaged_parquet_file_is_named(tmp_path):
    source = write(tmp_path, rows(), ".parquet")
    for content in (b"", b"PAR1" * 9, Path(source.path).read_bytes()[:-9]):
        Path(source.path).write_bytes(content)
        with pytest.raises(ValueError, match=f"cannot read the table {source.path}: "):
            source.prepare()


def test_bytes_are_no_text(tmp_path):
    parquet.write_table(pyarrow.table({"text": [b"a"] * 12}), tmp_path / "rows.parquet")
    source = Table(path=str(tmp_path / "rows.parquet"), columns=Named(text=Text()))
    with pytest.raises(ValueError, match="rows.parquet:1 must have a text or a number in the"):
        source.prepare()


@pytest.mark.parametrize(
    ("outside", "left", "said"),
    [
        ("cut", 12, ("speech: cut to 0.02 s: 2", "speech: padded with silence to 0.01 s: 1")),
        ("skip", 9, ("speech: left out, longer than 0.02 s: 2", "speech: left out, shorter than")),
    ],
)
def test_what_was_done_to_values_is_said_once(tmp_path, caplog, outside, left, said):
    found = [{"speech": f"{n}.wav", "photo": f"{n}.png", "split": SPLITS[n % 3]} for n in range(12)]
    for n in range(12):
        samples, rate = {3: 19, 4: 60, 5: 61}.get(n, 20 + n), 2000 if n < 9 else 4000
        soundfile.write(tmp_path / f"{n}.wav", np.full((samples * rate // 2000, 2), n / 99), rate)
        Pillow.new("L", (8, 8 + 8 * (n > 1))).save(tmp_path / f"{n}.png")
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    columns = Named(
        speech=Audio(rate=2000, seconds=(0.01, 0.02), outside=outside),
        photo=Image(size=(4, 4), channels=1),
    )
    source = Table(path=str(tmp_path / "rows.jsonl"), columns=columns)
    assert source.features()["speech"] == Feature((40,), dtype="int16", ragged=True)
    parts = [source.split(split) for split in SPLITS]
    assert sum(map(len, parts)) == left
    speech = [one for part in parts for one in part.take(np.arange(len(part)))["speech"]]
    assert {len(one) for one in speech} <= set(range(20, 41))
    for one in speech:  # a recording has one value, which says which it is
        n = round(one[10] / 32768 * 99)
        assert len(one) == {3: 20, 4: 40, 5: 40}.get(n, 20 + n)
    lines = [*said, "speech: mixed down to mono", "speech: resampled to 2000 Hz: 3"]
    for line in [*lines, f"photo: cropped: {10 if outside == 'cut' else 7}"]:
        (found,) = [message for message in caplog.messages if line in message]
    assert "enlarged" not in caplog.text


@pytest.mark.parametrize("name", ["split", "present_x", "x_given", "x_mirrored"])
def test_names_that_have_a_meaning_are_refused(name):
    with pytest.raises(ValueError, match=f"Table cannot have the column '{name}'"):
        Table(columns=Named({name: Text()}))


def test_other_modalities_are_other_data(tmp_path):
    source = write(tmp_path, rows(), ".jsonl")
    assert Table(path=source.path, columns=COLUMNS, size=3).key() == source.key()  # not used
    for changed in ({"before": Image(size=(4, 6))}, {"note": Text(length=5)}):
        other = Table(path=source.path, columns=source.columns | changed)
        assert other.key() != source.key()
    before = source.key()
    os.utime(tmp_path / "1before", (1e9, 1e9))
    assert source.key() != before


def test_unnamed_columns_keep_their_prepared_data(tmp_path):
    """The key of a table as it was before columns had names: paths, then files row by row."""
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "a.wav").write_bytes(wav(1))
    file = tmp_path / "rows.jsonl"
    file.write_text('{"audio": "a.wav", "image": "a.png", "text": "t"}\n{"text": ""}\n')
    content = f"{file} (8, 1, 5, 8000, 9)\n".encode() + file.read_bytes()
    for name in ("a.png", "a.wav"):
        stat = (tmp_path / name).stat()
        content += f"{stat.st_size} {stat.st_mtime_ns}\n".encode()
    digest = hashlib.sha256(content + b"without empty rows").hexdigest()
    source = Table(path=str(file), size=8, channels=1, samples=5, rate=8000, length=9)
    assert source.key() == f"table_{digest[:16]}"


def test_columns_are_part_of_a_config_and_its_options(tmp_path):
    from vqdit.cli.overrides import override

    experiment = config.Experiment(data=Data(source=Table(path="rows.csv", columns=COLUMNS)))
    assert config.from_json(json.loads(json.dumps(config.to_json(experiment)))) == experiment
    changed = override(experiment, ["--data.source.columns.before.size=8,9"])
    assert changed.data.source.columns["before"] == Image(size=(8, 9), channels=1)


def test_what_a_parquet_file_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "LARGEST_COLUMN", 2**20)
    file = tmp_path / "rows.parquet"
    columns = Named(title=Text(length=3))
    parquet.write_table(pyarrow.table({"title": ["a"] * 200_000}), file)
    with pytest.raises(ValueError, match="declares 200,000 rows in .* a row takes at least one"):
        Table(path=str(file), columns=columns).split("train")
    parquet.write_table(
        pyarrow.table({"title": ["x" * 1_500_000] * 2}),
        file,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    with pytest.raises(ValueError, match="declares 3,0.* compressed bytes of its column 'title'"):
        Table(path=str(file), columns=columns).split("train")


def test_equal_texts_of_a_parquet_file_take_the_memory_of_one(tmp_path):
    file = tmp_path / "rows.parquet"
    cells = {"title": ["x" * 10_000] * 2000, "other": list(range(2000))}
    parquet.write_table(pyarrow.table(cells), file)
    _, found = read_rows(file, {"title"})
    assert len(found) == 2000 and len({id(row.cells["title"]) for row in found}) == 1


def test_columns_of_parquet_that_hold_no_file_or_have_one_name_are_refused(tmp_path):
    file, columns = tmp_path / "rows.parquet", Named(photo=Image(size=(4, 4), channels=1))
    for cell in ({"bytes": {"bytes": b"x"}}, {"bytes": b"x", "path": [1]}, {"path": "a.png"}):
        parquet.write_table(pyarrow.table({"photo": [cell] * 12}), file)
        with pytest.raises(ValueError, match="has the type struct<.*in its column 'photo'"):
            Table(path=str(file), columns=columns).split("train")
    twice = pyarrow.Table.from_arrays([pyarrow.array([b"x"] * 12)] * 2, ["photo", "photo"])
    parquet.write_table(twice, file)
    with pytest.raises(ValueError, match="has two columns named 'photo'; rename one of them"):
        Table(path=str(file), columns=columns).split("train")
