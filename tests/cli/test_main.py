"""`vqdit`: its commands, and how errors end a program."""

import io
import json
import logging
import os
import subprocess
import sys
import traceback

import jax
import pytest

import vqdit
from vqdit.cli import main as cli
from vqdit.cli import terminal


def test_without_a_command_the_usage_is_shown(capsys):
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"  {name} " in shown] == list(cli.COMMANDS)
    for help_option in ("-h", "--help", "help"):
        assert cli.main([help_option]) == 0
        assert capsys.readouterr().out == shown


def test_the_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{vqdit.__version__}\n"


@pytest.mark.parametrize(
    ("name", "hint"), [("nosuchcommand", ""), ("trian", "; did you mean train?"), ("--num=3", "")]
)
def test_an_unknown_command_is_refused(name, hint, refused):
    known = "configure, train, sample, chat, score, evaluate, reconstruct, average, prepare"
    known = f"{known}, import, encode, export, plan, bench"
    assert refused(name) == f"no command {name!r}{hint}; choose one of: {known}"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: ")
    assert cli.main([command, "-h"]) == 0
    assert capsys.readouterr().out == shown


def fails_with(error):
    def command():
        raise error

    return command


def test_errors_of_the_system_name_the_file(capsys):
    def command():
        open("/nowhere/at/all")

    assert cli.run(command) == 2
    assert capsys.readouterr().err == "error: No such file or directory: /nowhere/at/all\n"


def test_bad_input_found_by_our_code_ends_with_its_message(capsys, monkeypatch):
    monkeypatch.setattr(cli, "PACKAGE", cli.Path(__file__).parent)
    assert cli.run(fails_with(ValueError("7 is too many; at most 6"))) == 2
    assert capsys.readouterr().err == "error: 7 is too many; at most 6\n"
    assert cli.run(fails_with(ImportError("install it"))) == 2
    assert capsys.readouterr().err == "error: install it\n"


def test_an_error_from_elsewhere_is_a_defect_and_shows_where(capsys):
    assert cli.run(fails_with(ValueError("shapes"))) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("ValueError: shapes\n")


def test_a_library_below_a_folder_of_our_name_is_still_elsewhere(capsys, monkeypatch):
    """As in a checkout called vqdit, with the environment inside."""
    frame = traceback.FrameSummary(
        str(cli.PACKAGE.parent / "vqdit-env" / "jax" / "core.py"), 1, "f", lookup_line=False
    )
    monkeypatch.setattr(cli.traceback, "extract_tb", lambda tb: [frame])
    assert not cli._is_ours(ValueError("x"))


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


def test_ctrl_c_ends_with_130(capsys):
    assert cli.run(fails_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_the_completion_of_a_shell_knows_commands_and_options(capsys, refused):
    assert cli.main(["--tyro-print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*cli.COMMANDS, "--workdir", "--temperature"))
    assert refused("--tyro-print-completion").startswith("--tyro-print-completion needs a shell")


def test_damaged_json_of_a_workdir_is_bad_input(tmp_path, refused):
    (tmp_path / "config.json").write_text('{"type": ')
    assert refused("sample", f"--workdir={tmp_path}").startswith(
        f"{tmp_path}/config.json is damaged: "
    )
    (tmp_path / "config.json").write_text(json.dumps({"type": "os:system", "command": "id"}))
    message = refused("sample", f"--workdir={tmp_path}")
    assert message == (
        f"{tmp_path}/config.json is damaged: unknown component 'os:system'; "
        "the file was written by another version of vqdit, or with VQDIT_PARTS set to a module of "
        "your own; use that version, and set this variable"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--workdir is missing; give --workdir=DIR; see --help"),
        (
            ["--workdir=nowhere"],
            "--candidates is missing; give --candidates=NAME=VALUES; see --help",
        ),
        (["--workdir=x", "--rounds=0"], "--rounds must be at least 1, got 0"),
        (["--workdir=x", "--rounds=1000000000"], "--rounds must be at most 10000, got 1000000000"),
        (["--workdir=x", "--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_a_model_is_looked_for(argv, message, refused):
    assert refused("score", *argv) == message


def test_a_command_whose_output_nobody_reads_ends_as_it_would(monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        monkeypatch.setattr(sys, "stderr", closed)
        assert cli.run(lambda: print("all is well") or print("still", file=sys.stderr) or 0) == 0
    monkeypatch.undo()
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.run(lambda: print("all is well") or 0) == 0


def test_a_program_without_outputs_writes_into_no_other_file(tmp_path):
    program = f"""
import os, sys
from vqdit.cli import main
first = lambda: os.open({str(tmp_path / "mine")!r}, os.O_CREAT | os.O_WRONLY)
sys.exit(main.run(first) < 3)"""
    words = [sys.executable, "-c", program]
    command = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *words]
    assert subprocess.run(command, check=False).returncode == 0


def test_what_an_output_cannot_encode_is_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.run(lambda: print("Zürich \udcff") or 0) == 0
    assert written.getvalue() == b"Z\\xfcrich \\udcff\n"


def test_names_from_elsewhere_cannot_command_the_terminal(capsys, monkeypatch):
    monkeypatch.setattr(cli, "PACKAGE", cli.Path(__file__).parent)
    assert cli.run(fails_with(ValueError("a\x1b[2J\u202eb\n  c"))) == 2
    logging.getLogger("vqdit.test").warning("a\x1b[2Jb")
    with terminal.escaping():
        print("a\x9b2Jb")
    out, err = capsys.readouterr()
    assert (out, err) == ("a\\x9b2Jb\n", "error: a\\x1b[2J\\u202eb\\n  c\na\\x1b[2Jb\n")


def test_an_unknown_home_folder_is_no_defect(capsys, monkeypatch):
    def expand():
        raise RuntimeError("Could not determine home directory.")

    assert cli.run(expand) == 2
    assert capsys.readouterr().err.endswith("set HOME\n")


def test_numbers_of_64_bits_are_not_used(capsys, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    assert cli.run(lambda: int(os.environ["JAX_ENABLE_X64"])) == 0
    assert "JAX_ENABLE_X64 is ignored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["sample", "--workdir=x", "--num=1000000000"],
            "--num must be at most 1000000, got 1000000000",
        ),
        (
            ["sample", "--workdir=x", "--steps=1000000000"],
            "--steps must be at most 10000, got 1000000000",
        ),
        (
            ["evaluate", "--workdir=x", "--num=1000000000"],
            "--num must be at most 1000000, got 1000000000",
        ),
        (
            ["bench", "--model=S/2", "--batch=1", "--size=1000000000"],
            "--size must be at most 16384, got 1000000000",
        ),
        (["prepare", "x", "--size=1000000000"], "--size must be at most 16384, got 1000000000"),
        (
            ["train", "--config=x", "--processes=1000000000"],
            "--processes must be an integer from 0 to 2^20, got",
        ),
    ],
)
def test_numbers_have_ceilings(argv, message, refused):
    assert refused(*argv).startswith(message)


def test_what_is_missing_is_named_with_what_to_give(refused):
    assert refused("plan") == (
        "--config and --target are missing; give --config=CONFIG --target=TARGET; see --help"
    )


@pytest.mark.parametrize(
    "argv",
    [
        ("train", "--config=quickstart", "--workdir=gs://b/x"),
        ("train", "--config=gs://b/x.py"),
        ("sample", "--workdir=s3://b/x"),
        ("sample", "--workdir=x", "--out=gs://b/x"),
        ("score", "--workdir=x", "--candidates=all", "--out=gs://b/x.json"),
        ("import", "https://a.b/c.ckpt", "--out=x"),
    ],
)
def test_buckets_and_addresses_are_refused_at_once(argv, refused):
    assert "is the address of a bucket or server, which vqdit cannot read or" in refused(*argv)


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch, refused):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert refused("sample", "--workdir=~/x").startswith(f"no run in {tmp_path}/x; ")
    assert refused("export", "~/x", "--out=y").startswith(f"no run in {tmp_path}/x; ")
    message = refused("sample", "--workdir=~nobody-here/x")
    assert message == "--workdir '~nobody-here/x' uses an unknown home folder; write the full path"


def test_a_run_in_a_folder_that_looks_like_a_pattern_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "été.py"
    config.write_text("from tests import tiny\n\n\ndef config():\n    return tiny.tokenizer()\n")
    cache = tmp_path / "a[1]/b*/.jax_cache"
    for steps in (8, 10):
        words = f"--config={config}", "--workdir=a[1]/b*", f"--steps={steps}"
        assert cli.main(["train", *words]) == 0
        if steps == 8:
            assert not cache.exists()
            cache.mkdir()
            (cache / "jit_step-0-cache").write_bytes(b"code from elsewhere")
    assert {path.name for path in (tmp_path / "a[1]/b*/checkpoints").iterdir()} == {"8", "10"}
    # A folder of compiled programs that came with a workdir is neither read nor written.
    assert [path.name for path in cache.iterdir()] == ["jit_step-0-cache"]
    assert str(cache) not in str(jax.config.jax_compilation_cache_dir)  # pyright: ignore
