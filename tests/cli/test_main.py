"""`vqdit`: its commands, and how errors end a program."""

import json
import traceback

import pytest

import vqdit
from vqdit.cli import main as cli


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
    known = "train, sample, score, evaluate, reconstruct, average, prepare, import, encode, export"
    assert refused(name) == f"no command {name!r}{hint}; one of: {known}, plan, bench"


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
        "the file was not written by this vqdit, or with VQDIT_PARTS set to a module of your own"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "--workdir is missing; see --help"),
        (["--workdir=nowhere"], "--candidates is missing; see --help"),
        (["--workdir=x", "--rounds=0"], "--rounds must be at least 1, got 0"),
        (["--workdir=x", "--seed=-1"], "--seed must be from 0 to 2^32 - 1, got -1"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_a_model_is_looked_for(argv, message, refused):
    assert refused("score", *argv) == message
