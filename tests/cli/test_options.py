"""Reading options, and naming one command to the user of another."""

import sys
from pathlib import Path

import pytest

from vqdit.cli.options import COUNT, SEED, command, near, parse, take, with_help

KNOWN = {
    "num": int,
    "guidance": float,
    "out": str,
    "batch-size": COUNT,
    "seed": SEED,
    "given": str,
    "fast": bool,
}


@pytest.mark.parametrize(
    ("argv", "value", "rest"),
    [
        (["--config=a"], "a", []),
        (["--config", "a", "--x=1"], "a", ["--x=1"]),
        (["--x", "1", "--config=a=b"], "a=b", ["--x", "1"]),
        (["--config=a", "--config=b"], "b", []),
        (["--configs=a"], None, ["--configs=a"]),
        ([], None, []),
    ],
)
def test_take_takes_one_option_out(argv, value, rest):
    assert take(argv, "--config") == (value, rest)


@pytest.mark.parametrize("argv", [["--config"], ["--config="], ["--config", "--workdir=x"]])
def test_take_wants_a_value(argv):
    with pytest.raises(ValueError, match=r"^--config needs a value, as in --config=\.\.\.$"):
        take(argv, "--config")


def test_options_are_read_with_their_types():
    argv = ["--num=3", "--guidance", "-1.5", "--batch_size=2", "--out=a b", "--fast"]
    assert parse(argv, KNOWN) == {
        "num": 3,
        "guidance": -1.5,
        "batch-size": 2,
        "out": "a b",
        "fast": True,
    }


def test_repeated_options_make_lists_and_others_take_the_last():
    argv = ["--given=a=1", "--num=1", "--given", "b", "--num=2", "--guidance=2", "--guidance=.5"]
    assert parse(argv, KNOWN, repeated=("given", "guidance")) == {
        "given": ["a=1", "b"],
        "num": 2,
        "guidance": [2.0, 0.5],
    }
    assert parse(["--given=b"], KNOWN, repeated=("given",)) == {"given": ["b"]}


def test_words_are_named_in_order():
    argv = ["digits", "--num", "3", "path"]
    assert parse(argv, KNOWN, words=("name", "path")) == {
        "name": "digits",
        "num": 3,
        "path": "path",
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nun=3"], "unknown option '--nun=3'; did you mean --num?"),
        (["-num=3"], "unknown option '-num=3'; did you mean --num?"),
        (["num=3"], "unknown option 'num=3'; did you mean --num?"),
        (["--zzzz"], "unknown option '--zzzz'; see --help"),
        (["extra"], "unknown option 'extra'; see --help"),
        (["--num"], "--num needs a value, as in --num=..."),
        (["--num="], "--num needs a value, as in --num=..."),
        (["--num", "--out=x"], "--num needs a value, as in --num=..."),
        (["--num=three"], "--num must be an integer, got 'three'"),
        (["--num=2.5"], "--num must be an integer, got '2.5'"),
        (["--guidance=much"], "--guidance must be a number, got 'much'"),
        (["--guidance=nan"], "--guidance must be finite, got 'nan'"),
        (["--guidance=inf"], "--guidance must be finite, got 'inf'"),
        (["--guidance=-1e39"], "--guidance must be finite, got '-1e39'"),  # in float32
        (["--fast=1"], "--fast takes no value, got '1'"),
        (["--batch-size=0"], "--batch-size must be at least 1, got 0"),
        (["--batch_size=few"], "--batch-size must be an integer, got 'few'"),
        (["--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--seed=4294967296"], "--seed must be from 0 to 2^32 - 1, got 4294967296"),
        ([], "--out and --given are missing; see --help"),
        (["--given=a"], "--out is missing; see --help"),
    ],
)
def test_a_bad_option_is_refused(argv, message):
    with pytest.raises(ValueError) as error:
        parse(argv, KNOWN, required=("out", "given"))
    assert str(error.value) == message


def test_the_ends_of_a_range_are_within_it():
    for seed in (0, 2**32 - 1):
        assert parse([f"--seed={seed}", "--batch-size=1"], KNOWN) == {"seed": seed, "batch-size": 1}


@pytest.mark.parametrize(
    ("argv", "code", "shown"),
    [(["--help"], 0, "usage\n"), (["--num=x", "-h"], 0, "usage\n"), (["help"], 7, ""), ([], 7, "")],
)
def test_help_is_shown_instead_of_running_the_command(argv, code, shown, capsys):
    assert with_help("usage")(lambda argv: 7)(argv) == code
    assert capsys.readouterr().out == shown


def test_near_names_the_nearest_or_nothing():
    assert near("trian", ["train", "sample"]) == "; did you mean train?"
    assert near("x", ["train", "sample"]) == ""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A checkout with programs and an environment; starts a program there, asks for a command."""
    for name in ("train.py", "sample.py", ".venv/bin/python", ".venv/bin/vqdit", "bin/python"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)

    def ask(argv0, name, *, python=".venv/bin/python", path="bin"):
        monkeypatch.setattr(sys, "argv", [str(argv0), "--config=x"])
        monkeypatch.setattr(sys, "executable", str(tmp_path / python))
        monkeypatch.setenv("PATH", str(tmp_path / path))
        return command(name)

    return ask


def test_a_script_names_the_script_beside_it_and_its_own_python(started, tmp_path):
    assert started("train.py", "sample") == ".venv/bin/python sample.py"
    assert started(tmp_path / "train.py", "sample") == ".venv/bin/python ./sample.py"


def test_python_goes_by_name_only_if_the_shell_finds_the_same(started):
    assert started("train.py", "sample", path=".venv/bin") == "python sample.py"
    assert started("train.py", "sample", python="bin/python") == "python sample.py"


def test_a_python_elsewhere_is_named_in_full(started, tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    full = f"{tmp_path}/.venv/bin/python"
    assert started(tmp_path / "train.py", "sample") == f"{full} {tmp_path}/sample.py"
    assert started("../train.py", "sample") == f"{full} ../sample.py"


def test_a_script_without_a_sibling_names_the_module(started):
    assert started("train.py", "reconstruct") == ".venv/bin/python -m vqdit reconstruct"


def test_the_module_names_the_module(started):
    assert started("/x/vqdit/__main__.py", "sample") == ".venv/bin/python -m vqdit sample"


def test_the_console_script_names_itself(started, tmp_path):
    assert started(tmp_path / ".venv/bin/vqdit", "sample") == ".venv/bin/vqdit sample"
    assert started(".venv/bin/vqdit", "reconstruct") == ".venv/bin/vqdit reconstruct"
    assert started(tmp_path / ".venv/bin/vqdit", "sample", path=".venv/bin") == "vqdit sample"


def test_whatever_else_started_it_the_module_works(started):
    assert started("-c", "sample") == ".venv/bin/python -m vqdit sample"
    assert started("/usr/bin/pytest", "sample") == ".venv/bin/python -m vqdit sample"


def test_paths_with_blanks_are_quoted(started, tmp_path):
    file = tmp_path / "my env" / "python"
    file.parent.mkdir()
    file.touch(mode=0o755)
    shown = started("train.py", "sample", python="my env/python")
    assert shown == "'my env/python' sample.py"
    assert Path("my env/python").is_file()
