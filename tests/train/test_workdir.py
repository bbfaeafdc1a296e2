"""The folder of a run."""

import errno

import pytest

from tests import tiny
from vqdit.files import write_json
from vqdit.runs import workdir
from vqdit.runs.frozen_arrays import read_frozen
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


@pytest.mark.parametrize("content", [{}, ["../other"], ["a", 1], "a", [["a"]]])
def test_a_list_of_experiments_that_names_no_experiments_is_refused(tmp_path, content):
    write_json(tmp_path / workdir.ORDER, content)
    with pytest.raises(ValueError, match="experiments.json is damaged: .* put back a copy of it"):
        workdir.runs_of(tmp_path)


@pytest.mark.parametrize(
    "content", [[], {"step": "8"}, {"step": 8, "validation": [], "preview": ""}]
)
def test_a_damaged_result_means_that_a_run_is_not_complete(tmp_path, caplog, content):
    workdir.claim(tmp_path, tiny.tokenizer())
    write_json(tmp_path / workdir.RESULT, content)
    assert workdir.finished(tmp_path, tiny.tokenizer()) is None
    assert "result.json is damaged: " in caplog.text


def test_a_task_file_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / workdir.FROZEN).mkdir()
    workdir.claim(tmp_path / workdir.FROZEN, tiny.tokenizer())
    (tmp_path / workdir.FROZEN / workdir.CONFIG).rename(tmp_path / workdir.FROZEN / "task.json")
    with pytest.raises(ValueError, match="task.json holds a component Experiment, not Task"):
        read_frozen(tmp_path)


def test_changed_data_are_named(tmp_path):
    workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 4)})
    workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 4)})
    with pytest.raises(ValueError, match=r"counts: \[3, 4\] -> \[3, 5\]"):
        workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 5)})
