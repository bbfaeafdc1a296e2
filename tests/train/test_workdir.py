"""The folder of a run."""

import errno

import pytest

from vqdit.runs.lock import locked
from vqdit.runs.workdir import make_folder


def test_a_folder_is_made_with_its_parents(tmp_path):
    make_folder(tmp_path / "a" / "b", "--out")
    make_folder(tmp_path / "a" / "b", "--out")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_is_refused_with_the_option(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder, why in (
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path / "file", "File exists"),
    ):
        with pytest.raises(OSError) as error:
            make_folder(folder, "--out")
        assert str(error.value) == f"cannot write in {folder}: {why}; choose another --out"
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def touch(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "touch", touch)
    with pytest.raises(OSError, match="Permission denied; choose another --workdir"):
        make_folder(tmp_path, "--workdir")


def test_a_folder_in_use_is_refused_with_the_option(tmp_path):
    with locked(tmp_path):
        with pytest.raises(ValueError, match="wait for it, stop it, or use another --workdir"):
            with locked(tmp_path):
                pass
        with pytest.raises(ValueError, match="wait for it, stop it, or use another --out"):
            with locked(tmp_path, "--out"):
                pass
