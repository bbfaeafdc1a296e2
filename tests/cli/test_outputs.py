"""Results in a folder are all of one run, whatever ends the command that replaces them."""

import fcntl
import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from vqdit.cli.main import main
from vqdit.cli.outputs import PREFIX, replacing

EARLIER = r"image_\d{4}\.png|explanation/order\.png"


def write(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.*")}


OLD = {
    "samples.json": "old",
    "image_0000.png": "old",
    "image_0001.png": "old",
    "explanation/order.png": "old",
}
FOREIGN = {"image_of_me.png": "mine", "notes/image_0001.png": "mine", "explanation/my.txt": "mine"}
NEW = {"samples.json": "new", "image_0000.png": "new", "explanation/attention.png": "new"}


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "out", OLD | FOREIGN)
    return tmp_path / "out"


def test_new_results_replace_all_of_the_old_ones_and_nothing_else(folder):
    with replacing(folder, "samples.json", EARLIER) as new:
        write(new, NEW)
        assert {name: (folder / name).read_text() for name in OLD} == OLD
    assert contents(folder) == NEW | FOREIGN
    assert not list(folder.glob(f"{PREFIX}*"))


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_the_old_results_as_they_were(folder, error):
    with pytest.raises(error), replacing(folder, "samples.json", EARLIER) as new:
        write(new, {"image_0000.png": "new"})
        raise error
    assert contents(folder) == OLD | FOREIGN


def test_an_interrupt_while_files_are_moved_waits_for_the_rest(folder, monkeypatch):
    replace, calls = os.replace, []

    def interrupted(*paths):
        calls.append(paths)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(folder, "samples.json", EARLIER) as new:
        write(new, NEW)
    assert contents(folder) == NEW | FOREIGN


def test_the_record_is_there_only_while_all_results_are_of_its_run(folder, monkeypatch):
    replace, states = os.replace, []

    def watched(source, target):
        states.append((folder / "samples.json").exists())
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    with replacing(folder, "samples.json", EARLIER) as new:
        write(new, NEW)
    assert states == [False] * 3


def test_numbered_files_are_those_of_the_user_where_there_are_no_results(folder):
    (folder / "samples.json").unlink()
    with replacing(folder, "samples.json", EARLIER) as new:
        write(new, NEW)
    assert contents(folder) == OLD | FOREIGN | NEW


def test_a_folder_in_the_place_of_a_result_is_refused(folder):
    with pytest.raises(IsADirectoryError, match="notes: it is a folder; move it, or choose an"):
        with replacing(folder, "samples.json", EARLIER) as new:
            write(new, {"samples.json": "new", "notes": "new"})
    assert contents(folder) == OLD | FOREIGN


def test_what_a_killed_command_left_is_removed_but_not_what_another_one_writes(folder):
    write(folder / f"{PREFIX}killed", NEW)
    write(folder / f"{PREFIX}written", NEW)
    held = os.open(folder / f"{PREFIX}written", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    with replacing(folder, "samples.json", EARLIER) as new:
        write(new, NEW)
    os.close(held)
    assert [path.name for path in folder.glob(f"{PREFIX}*")] == [f"{PREFIX}written"]


@pytest.mark.slow
def test_samples_killed_over_earlier_ones_are_all_of_the_old_or_all_of_the_new(trained, tmp_path):
    """Killed while it writes, at several times; the seed tells in which run a file was made."""
    args = ["sample", f"--workdir={trained}/runs", f"--out={tmp_path}", "--num=16"]
    made = {}
    for seed in (0, 1):
        assert main([*args, f"--seed={seed}"]) == 0
        made[seed] = state(tmp_path)
    (tmp_path / "mine.png").write_text("mine")
    for number in range(6):
        seed = number % 2
        with subprocess.Popen([sys.executable, "-m", "vqdit", *args, f"--seed={seed}"]) as process:
            while process.poll() is None and not list(tmp_path.glob(f"{PREFIX}*")):
                time.sleep(0.001)
            time.sleep(0.01 * number)
            process.kill()
        assert state(tmp_path) in made.values()
        assert (tmp_path / "mine.png").read_text() == "mine"


def state(folder):
    """The bytes of all results; those of the archive are its arrays, as it has the time in it."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
    found.pop("mine.png", None)
    arrays = np.load(io.BytesIO(found.pop("samples.npz")))
    return found | {name: array.tobytes() for name, array in arrays.items()}
