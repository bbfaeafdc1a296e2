"""Shared by the tests of the command line: trained runs, and what a refused command says."""

import pytest

from tests.cli import trained as helper
from vqdit.cli.main import main


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of trained experiments; see `helper.runs`."""
    return helper.runs(tmp_path_factory)


@pytest.fixture(scope="session")
def joint(tmp_path_factory):
    """The workdir of a trained model of several modalities; see `helper.joint`."""
    return helper.joint(tmp_path_factory)


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail as bad input does; returns its one line, without "error: "."""

    def run(*argv):
        capsys.readouterr()
        assert main([str(arg) for arg in argv]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        *notes, last = err.splitlines()
        assert last.startswith("error: ")
        assert all(note.startswith("preparing ") for note in notes)
        return last.removeprefix("error: ")

    return run
