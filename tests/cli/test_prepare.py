"""`vqdit prepare`: what it makes and says, and what it refuses."""

import json
import shlex
import shutil

import numpy as np
import pytest
import soundfile
from PIL import Image

from vqdit.cli.main import main
from vqdit.cli.overrides import override
from vqdit.config import Experiment
from vqdit.data import AudioFolder, ImageFolder, Table, TextFiles, VideoFolder
from vqdit.modalities import Audio, Video
from vqdit.modalities.video_files import gif


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty pictures of two classes, where data go into a folder of their own."""
    monkeypatch.setenv("VQDIT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for number in range(20):
        file = tmp_path / "my pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 12), number, np.uint8)).save(file)
    return tmp_path


def source_of(line):
    """The source that the printed options make of any config."""
    options = line.removeprefix("  train on it with: ")
    return override(Experiment(), shlex.split(options)).data.source


def test_the_digits_are_prepared(capsys):
    assert main(["prepare", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "digits: 1437 train, 180 validation, 180 test",
        "  audio: [800]",
        "  image: [8, 8, 1]",
        "  label: [], 10 classes",
        "  text: [5]",
    ]
    assert lines[-1] == "  train on it with: --data.source=Digits"


def test_a_folder_is_prepared_and_the_printed_options_name_it(folder, capsys):
    args = ["prepare", "image_folder", "my pictures", "--size", "8", "--channels=1"]
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "image_folder: 16 train, 2 validation, 2 test",
        "  image: [8, 8, 1]",
        "  label: [], 2 classes",
        "  a: 8 train, 1 validation, 1 test",
        "  b: 8 train, 1 validation, 1 test",
    ]
    assert source_of(lines[5]) == ImageFolder(path="my pictures", size=8, channels=1)
    assert [path.name.split("_")[0] for path in (folder / "data").iterdir()] == ["image"]


def test_videos_are_prepared_in_a_form_of_the_options(folder, capsys):
    for number in range(10):
        level = (10 * number + np.arange(3))[:, None, None, None]
        clip = np.broadcast_to(level, (3, 8, 8, 3)).astype(np.uint8)
        (folder / "clips").mkdir(exist_ok=True)
        (folder / "clips" / f"{number}.gif").write_bytes(gif(clip, 4.0))
    options = ["--size=8", "--channels=1", "--frames=3", "--fps=4", "--captions=names"]
    assert main(["prepare", "video_folder", "clips", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "video_folder: 8 train, 1 validation, 1 test",
        "  text: at most [256]",
        "  video: [3, 8, 8, 1]",
    ]
    video = Video(frames=3, size=(8, 8), fps=4.0, channels=1, outside="skip")
    assert source_of(lines[-1]) == VideoFolder(path="clips", video=video, captions="names")


def test_what_is_left_out_is_said(folder, capsys, refused):
    pictures = folder / "my pictures"
    for number in range(3):
        (pictures / "a" / f"bad{number}.png").write_bytes(b"no picture")
    for name in ("c/1.heic", "notes.txt", "a/.DS_Store"):
        (pictures / name).parent.mkdir(exist_ok=True)
        (pictures / name).touch()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(pictures / "b" / "one.gif")
    (pictures / "d").mkdir()
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(pictures / "d" / "rare.png")
    message = refused("prepare", "image_folder", "my pictures", "--size=8")
    assert message.startswith("3 pictures cannot be decoded: my pictures/a/bad")
    assert all(f"bad{number}.png (cannot identify" in message for number in range(3))
    assert main(["prepare", "image_folder", "my pictures", "--size=8", "--on-error=skip"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  d: 1 train, 0 validation, 0 test" in lines
    assert "  left out, because of their endings: 1 .heic, 1 .txt" in lines
    assert "  not a class, since it has no picture: my pictures/c" in lines
    assert "  no example in the validation split of: d" in lines
    assert sum("left out, since it cannot be decoded" in line for line in lines) == 3
    assert source_of(lines[-1]) == ImageFolder(path="my pictures", size=8, on_error="skip")


def test_a_table_is_prepared(folder, capsys):
    files = sorted((folder / "my pictures").rglob("*.png"))
    rows = [{"image": str(file), "label": file.parent.name} for file in files]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["prepare", "table", "rows.jsonl", "--size=8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["table: 16 train, 2 validation, 2 test", "  image: [8, 8, 3]"]
    assert source_of(lines[-1]) == Table(path="rows.jsonl", size=8)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["digit"],
            "unknown data set 'digit'; did you mean digits?; choose one of: digits, ",
        ),
        ([], "NAME is missing; see --help"),
        (["--size=3"], "NAME is missing; see --help"),
        (["tfds:"], "unknown data set 'tfds:'"),
        (["digits", "--size=3"], "the data set digits takes no --size; see --help"),
        (["digits", "here"], "the data set digits takes no path, got 'here'; see --help"),
        (["digits", "here", "there"], "unknown option 'there'; see --help"),
        (["image_folder", "x", "--download"], "the data set image_folder takes no --download"),
        (
            ["image_folder"],
            "vqdit prepare image_folder needs a path, as in vqdit prepare image_folder",
        ),
        (
            ["image_folder", "none"],
            "no folder none; give the path (in training: --data.source.path) of a folder of pic",
        ),
        (["image_folder", "x", "--size=big"], "--size must be an integer, got 'big'"),
        (["image_folder", "x", "--size=0"], "--size must be at least 1, got 0"),
        (["image_folder", "x", "--sizes=8"], "unknown option '--sizes=8'; did you mean --size?"),
        (
            ["table", "none.csv"],
            "no table none.csv; give the path of a .jsonl, .csv or .parquet file (in ",
        ),
        (["tfds:no_such_set"], "TFDS has no data set 'no_such_set'"),
    ],
)
def test_what_cannot_be_prepared_is_refused(args, message, folder, refused):
    assert refused("prepare", *args).startswith(message)
    assert not (folder / "data").exists()


def test_a_table_of_sounds_and_texts_is_prepared(folder, capsys):
    soundfile.write(folder / "a.wav", np.zeros(50, np.int16), 4000)
    (folder / "rows.jsonl").write_text('{"audio": "a.wav", "text": "quiet"}\n' * 10)
    form = ["--samples=50", "--rate=4000", "--length=5"]
    assert main(["prepare", "table", "rows.jsonl", *form]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == ["  audio: [50]", "  text: [5]"]
    assert source_of(lines[-1]) == Table(path="rows.jsonl", samples=50, rate=4000, length=5)


def test_spoken_fashion_without_its_program_is_refused(folder, refused, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    message = refused("prepare", "spoken_fashion")
    assert message.startswith("SpokenFashion needs the program espeak-ng, which is not installed")
    assert not (folder / "data").exists()


def test_texts_are_prepared_and_the_printed_options_name_them(folder, capsys):
    (folder / "my texts.log").write_text("\n".join(f"line {number}" for number in range(99)))
    args = ["prepare", "text_files", "my texts.log", "--length=8", "--documents=line"]
    assert main([*args, "--split-by=position", "--errors=replace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["text_files: 89 train, 5 validation, 5 test", "  text: [8]"]
    fields = {"length": 8, "documents": "line", "split_by": "position", "errors": "replace"}
    assert source_of(lines[2]) == TextFiles(path="my texts.log", **fields)


CONFIG = """
from vqdit.config import Experiment
from vqdit.data import Data, Table
from vqdit.modalities import Text
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Named

TEXT = Text(length=8, outside="cut")


def config():
    source = Table(path="my rows.csv", columns=Named(a_word=TEXT), headers=Named(a_word="a word"))
    task = DiffusionTask(targets=Named(a_word=CodeTarget(modality=TEXT)))
    one = Experiment(task=task, data=Data(source=source, batch_size=2))
    return {"one": one, "two": one}
"""


def test_the_data_of_a_config_are_prepared(folder, capsys, refused):
    rows = "".join(f"word number {number}\n" for number in range(20))
    (folder / "my rows.csv").write_text(f"a word\n{rows}")
    (folder / "my_config.py").write_text(CONFIG)
    assert main(["prepare", "my_config.py"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "my rows.csv: 16 train, 2 validation, 2 test",
        "  a_word: [8]",
        "  a_word: cut to 8 bytes: 20",
        "  train on it with: --config=my_config.py",
    ]
    message = refused("prepare", "my_config.py", "--size=8")
    assert message == "the config my_config.py defines the data; leave out size=8"
    message = refused("prepare", "table", "my rows.csv")
    assert (
        "unknown column 'a word'" in message and "let `vqdit configure` write a config" in message
    )


def test_a_data_set_of_texts_names_its_columns(folder, capsys, monkeypatch):
    columns = "columns=Named(text=Text(length=512))"
    monkeypatch.setattr("vqdit.data.stock.prepare_stock", lambda name: name)
    monkeypatch.setattr("vqdit.data.stock.lacks_pictures", lambda name: columns)
    assert main(["prepare", "tfds:letters"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tfds:letters: prepared; it has no feature named image with pictures",
        f"  list its columns in a config: TFDS(name='letters', {columns})",
    ]


def test_a_folder_of_sounds_is_prepared_and_the_printed_options_name_it(folder, capsys, refused):
    for number in range(20):
        file = folder / "my sounds" / "ab"[number % 2] / f"{number}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.3 * np.sin(0.5 * np.arange(4000 if number else 400))
        soundfile.write(file, tone, 8000)
    form = ["--rate=4000", "--seconds=0.1,0.3", "--transcripts=names", "--loudness=-20"]
    assert main(["prepare", "audio_folder", "my sounds", *form]) == 0
    lines = capsys.readouterr().out.splitlines()
    counts = [int(word) for word in lines[0].replace(",", "").split() if word.isdigit()]
    assert sum(counts) == 2 * 19
    form = ["  audio: at most [1200]", "  label: [], 2 classes", "  text: at most [256]"]
    assert lines[1:4] == form
    assert "  brought to -20 LUFS: 20" in lines
    assert "  left out, shorter than 0.1 s: 1" in lines
    assert "  resampled to 4000 Hz: 20" in lines
    assert source_of(lines[-1]) == AudioFolder(
        path="my sounds",
        audio=Audio(rate=4000, seconds=(0.1, 0.3), outside="skip"),
        transcripts="names",
        loudness=-20.0,
    )
    windows = ["--rate=8000", "--samples=100", "--channels=2"]
    assert main(["prepare", "audio_folder", "my sounds", *windows]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  audio: [100, 2]"
    audio = Audio(rate=8000, samples=100, seconds=(), outside="skip", channels=2)
    assert source_of(lines[-1]) == AudioFolder(path="my sounds", audio=audio)
    both = refused("prepare", "audio_folder", "my sounds", "--samples=9", "--seconds=1")
    assert both == "--samples and --seconds both set the length of sounds; give only one of them"
    bad = refused("prepare", "audio_folder", "my sounds", "--seconds=a,3")
    assert bad == "--seconds must be a number, got 'a'"
    assert refused("prepare", "audio_folder").startswith("vqdit prepare audio_folder needs a path")


def test_prompts_without_their_package_are_refused(folder, refused, monkeypatch):
    monkeypatch.setattr("vqdit.data.asterisk_speech.SOUNDS", str(folder))
    message = refused("prepare", "asterisk_speech")
    assert "run `apt-get install asterisk-core-sounds-en-wav asterisk-core-sounds-en`" in message
