"""Reading options, and naming one command to the user of another."""

import sys
from pathlib import Path
from typing import Annotated

import pytest

from vqdit.cli.invocation import command
from vqdit.cli.options import COUNT, NUMBER, Overrides, Repeated, Seed, bind, choice, near, text


def tool(
    *,
    out: Annotated[str, text("DIR")],
    kind: Annotated[str, choice("a", "b")] = "a",
    num: Annotated[int | None, COUNT] = None,
    guidance: Annotated[float, NUMBER] = 1.0,
    seed: Seed = 0,
    given: Repeated = [],  # noqa: B006
    fast: bool = False,
) -> int:
    """Do something.

    Args:
        out: Folder.
        num: A number that is described on
            two lines.
    """
    del out, kind, num, guidance, seed, given, fast
    return 7


def configured(*, config: str, overrides: Overrides = ()) -> int:
    """Do something to a config."""
    del config, overrides
    return 7


def test_options_are_read_with_their_types():
    argv = ["--num=3", "--guidance", "-1.5", "--seed=4294967295", "--out=a b=c", "--fast"]
    call = bind(tool, [*argv, "--given=a=1", "--given", "b"], "tool")
    assert call.keywords == {
        "out": "a b=c",
        "kind": "a",
        "num": 3,
        "guidance": -1.5,
        "seed": 2**32 - 1,
        "given": ["a=1", "b"],
        "fast": True,
    }
    assert call() == 7


def test_other_arguments_are_overrides_in_their_order():
    argv = ["--a.b", "3", "--config=x", "--c=d", "--c=e"]
    expected = {"config": "x", "overrides": ("--a.b", "3", "--c=d", "--c=e")}
    assert bind(configured, argv, "tool").keywords == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nun=3"], "unknown option '--nun=3'; did you mean --num?"),
        (["--out=x", "--nun=3"], "unknown option '--nun=3'; did you mean --num?"),
        (["--out=x", "--zzzz"], "unknown option '--zzzz'; see --help"),
        (["--out=x", "extra"], "unknown option 'extra'; see --help"),
        (["--num"], "--num needs a value, as in --num=..."),
        (["--num="], "--num needs a value, as in --num=..."),
        (["--num", "--out=x"], "--num needs a value, as in --num=..."),
        (["--out=x", "--num=three"], "--num must be an integer, got 'three'"),
        (["--out=x", "--num=2.5"], "--num must be an integer, got '2.5'"),
        (["--out=x", "--num=0"], "--num must be at least 1, got 0"),
        (["--out=x", "--guidance=much"], "--guidance must be a number, got 'much'"),
        (["--out=x", "--guidance=nan"], "--guidance must be finite, got nan"),
        (["--out=x", "--guidance=-1e39"], "--guidance must be finite, got -1e+39"),  # in float32
        (["--out=x", "--fast=1"], "--fast takes no value, got '1'"),
        (["--out=x", "--kind=c"], "--kind must be one of a, b, got 'c'"),
        (["--out=x", "--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
        (["--out=x", "--seed=4294967296"], "--seed must be from 0 to 2^32 - 1, got 4294967296"),
        (["--out=x", "--out=y"], "--out is given twice; give it once"),
        (["--out=x", "--num=1000000000"], "--num must be at most 10000000, got 1000000000"),
        ([], "--out is missing; give --out=DIR; see --help"),
    ],
)
def test_a_bad_option_is_refused(argv, message):
    with pytest.raises(ValueError) as error:
        bind(tool, argv, "tool")
    assert str(error.value) == message


def test_a_file_whose_name_begins_like_an_option_is_told_how_to_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-x").mkdir()
    message = "^unknown option '-x'; write ./-x for the file or folder$"
    with pytest.raises(ValueError, match=message):
        bind(tool, ["--out=x", "-x"], "tool")


def test_help_comes_from_the_signature_and_its_docstring(capsys):
    with pytest.raises(SystemExit):
        bind(tool, ["--num=x", "-h"], "tool")
    shown = capsys.readouterr().out
    assert shown.startswith("usage: tool ")
    for part in ("--kind {a,b}", "(default: a)", "--out DIR", "described on two lines."):
        assert part in shown
    assert "None" not in shown


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
