"""A table in several files, whose names say the splits."""

import csv
import io
import os
import re

import numpy as np
import pyarrow
import pytest
from PIL import Image as Pillow
from pyarrow import parquet

from vqdit.configure.inspection import inspect
from vqdit.data import Table
from vqdit.data.sources import SPLITS
from vqdit.modalities import Image, Label, Text
from vqdit.typing import Named

pytestmark = pytest.mark.usefixtures("data_folder")

COLUMNS = Named(photo=Image(size=(4, 4), channels=1), caption=Text(length=8), kind=Label(classes=2))


def png(value):
    buffer = io.BytesIO()
    Pillow.new("L", (9, 9), value).save(buffer, "PNG")
    return buffer.getvalue()


def shards(folder, splits=SPLITS, count=2, rows=3):
    """Writes tiny shards as the Hugging Face hub has them; row n of all has the brightness n."""
    (folder / "data").mkdir(parents=True)
    first = 0
    for split in splits:
        for number in range(count):
            own = range(first, first + rows)
            cells = {
                "photo": [{"bytes": png(n), "path": f"{n}.png"} for n in own],
                "caption": [f"row {n}" for n in own],
                "kind": [("cat", "dog")[n % 2] for n in own],
            }
            name = f"{split}-{number:05}-of-{count:05}.parquet"
            parquet.write_table(pyarrow.table(cells), folder / "data" / name)
            first += rows
    return Table(path=str(folder), columns=COLUMNS)


def brightness(source, split):
    found = source.split(split)
    pictures = found.take(np.arange(len(found)))["photo"]
    return pictures[:, 0, 0, 0].tolist()


def test_shards_of_the_hub_are_one_table(tmp_path):
    source = shards(tmp_path / "set")
    (tmp_path / "set/data/._train-00000-of-00002.parquet").write_bytes(b"of another system")
    os.mkfifo(tmp_path / "set/data/train.parquet")  # is not waited for
    assert source.features()["kind"].names == ("cat", "dog")
    for number, split in enumerate(SPLITS):
        assert brightness(source, split) == [*range(6 * number, 6 * number + 6)]
    found = source.split("test").take(np.arange(6))
    assert [str(text) for text in COLUMNS["caption"].unpack(found["caption"])] == [
        f"row {n}" for n in range(12, 18)
    ]
    inside = Table(path=str(tmp_path / "set/data"), columns=COLUMNS)
    assert brightness(inside, "test") == [*range(12, 18)]


def test_a_changed_shard_is_prepared_anew(tmp_path):
    source = shards(tmp_path)
    before = source.key()
    file = tmp_path / "data/test-00001-of-00002.parquet"
    parquet.write_table(parquet.read_table(file).slice(0, 2), file)
    assert source.key() != before
    assert Table(path=str(tmp_path), columns=COLUMNS).key() == source.key()


def test_a_split_that_is_not_there_is_a_tenth_of_train(tmp_path, caplog):
    source = shards(tmp_path, ("train", "test"), count=1, rows=40)
    train, validation = (brightness(source, split) for split in SPLITS[:2])
    assert (len(train), len(validation)) == (36, 4)
    assert sorted(train + validation) == [*range(40)]
    assert brightness(source, "test") == [*range(40, 80)]
    assert caplog.text.count("has no validation split; a tenth of train is used for it") == 1


def test_files_whose_names_say_no_split_are_divided(tmp_path):
    for number in range(2):
        rows = "".join(f"word {n},{n % 2}\n" for n in range(number * 10, number * 10 + 10))
        (tmp_path / f"part_{number}.csv").write_text(f"caption,kind\n{rows}")
    source = Table(path=str(tmp_path), columns=COLUMNS | {"photo": Text()})
    with pytest.raises(ValueError, match="has no column 'photo'"):
        source.features()
    columns = Named({name: COLUMNS[name] for name in ("caption", "kind")})
    source = Table(path=str(tmp_path), columns=columns)
    assert [len(source.split(split)) for split in SPLITS] == [16, 2, 2]


def test_tables_of_splits_beside_their_pictures(tmp_path):
    for split in SPLITS:
        (tmp_path / f"{split}.png").write_bytes(png(7))
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("photo",), (f"{split}.png",)])
    source = Table(path=str(tmp_path), columns=Named(photo=COLUMNS["photo"]))
    assert [brightness(source, split) for split in SPLITS] == [[7]] * 3


def test_configure_knows_them(tmp_path):
    shards(tmp_path / "set", ("train", "test"), count=2, rows=20)
    found = inspect(str(tmp_path / "set"))
    assert [column.name for column in found.columns] == ["photo", "caption", "kind"]
    assert (found.rows, found.train, found.table) == (80, 36, ())
    assert found.path == tmp_path / "set"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "train-00000-of-00002.parquet").unlink(), "1 of the 2 shards of 'train'; "),
        (lambda f: (f / "more.parquet").write_bytes(b""), "more.parquet has no split"),
        (lambda f: (f / "train.csv").write_text("a\n"), r"several kinds \(.csv, .parquet\)"),
        (lambda f: [one.unlink() for one in f.iterdir()], "no table in the folder .*set; give a"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, change, message):
    source = shards(tmp_path / "set")
    change(tmp_path / "set/data")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        source.features()


def test_a_column_that_one_file_lacks_is_named(tmp_path):
    source = shards(tmp_path)
    file = tmp_path / "data/validation-00001-of-00002.parquet"
    parquet.write_table(parquet.read_table(file).drop(["caption"]), file)
    message = f"{file} has no column 'caption', which other files of the table have"
    with pytest.raises(ValueError, match=re.escape(message)):
        source.features()
