"""The folder of a run."""

import dataclasses
import errno
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vqdit.files import write_json
from vqdit.modalities import Audio, Image
from vqdit.modalities.drawing import save_png
from vqdit.models import TiTok, VideoAutoencoder
from vqdit.runs import logs, workdir
from vqdit.runs.component_files import write_component
from vqdit.runs.frozen_arrays import read_frozen, write_frozen
from vqdit.runs.lock import locked
from vqdit.runs.workdir import make_folder, refuse_links
from vqdit.train.jsonl_writer import JsonlWriter
from vqdit.typing import Named


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
    def touch(path, exist_ok):
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
    with pytest.raises(ValueError, match="experiments.json is damaged: .* restore it from a copy"):
        workdir.runs_of(tmp_path)


@pytest.mark.parametrize(
    "content", [[], {"step": "8"}, {"step": 0, "validation": [], "preview": ""}]
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
    with pytest.raises(ValueError, match="task.json has a component Experiment instead of Task"):
        read_frozen(tmp_path)


def test_changed_data_are_named(tmp_path):
    workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 4)})
    workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 4)})
    with pytest.raises(ValueError, match=r"counts: \[3, 4\] -> \[3, 5\]"):
        workdir.check_data(tmp_path, {"name": "digits", "counts": (3, 5)})


@pytest.mark.parametrize(
    "name",
    ["metrics.jsonl", "config.json", "previews", "checkpoints/4", "frozen/task.json", ".lock"],
)
def test_a_link_that_leads_out_of_a_workdir_is_refused(tmp_path, name):
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / name).parent.mkdir(parents=True)
    outside.write_text("mine")
    (run / "link").symlink_to(outside)  # no file of a run
    refuse_links(run)
    (run / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is a link out of the workdir, to '"):
        tiny.run(tiny.tokenizer(), run)
    (run / workdir.ORDER).symlink_to(outside)
    with pytest.raises(ValueError, match="is a link out of the workdir"):
        workdir.runs_of(run)
    assert outside.read_text() == "mine"


def test_a_pipe_in_a_workdir_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="metrics.jsonl is neither a file nor a folder; remove it"):
        tiny.run(tiny.tokenizer(), tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(ValueError, match="metrics.jsonl is a folder, but must be a file"):
        tiny.run(tiny.tokenizer(), tmp_path)


def test_nothing_is_read_or_written_through_a_link_that_appears_later(tmp_path, caplog):
    """A link that is made after the workdir was looked through leads nowhere either."""
    outside = tmp_path / "outside"
    outside.write_text('{"step": 1}\n')
    run = tmp_path / "run"
    run.mkdir()
    for name in ("metrics.jsonl", "log.txt", ".lock", "stacks.txt", "config.json", "a.png"):
        (run / name).symlink_to(outside)
    writer = JsonlWriter(run / "metrics.jsonl")
    writer.write(2, loss=1.0)
    assert "metrics.jsonl is a link, and links in a workdir are" in caplog.text
    for attempt in (
        lambda: writer.cut(0),
        lambda: logs.to_file(run / "log.txt").__enter__(),
        lambda: locked(run).__enter__(),
        lambda: workdir.read_experiment(run),
    ):
        with pytest.raises(OSError, match="is a link, and links in a workdir are not followed"):
            attempt()
    save_png(run / "a.png", np.zeros((1, 1, 3), np.uint8))
    workdir.claim(run, tiny.tokenizer())  # these replace the link
    assert not (run / "a.png").is_symlink() and not (run / "config.json").is_symlink()
    assert outside.read_text() == '{"step": 1}\n'


def test_links_within_a_workdir_and_to_one_are_followed(tmp_path):
    workdir.claim(tmp_path, tiny.tokenizer())
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "last").symlink_to("../config.json")
    link = tmp_path.with_name(f"{tmp_path.name}-link")
    link.symlink_to(tmp_path)
    assert workdir.find_run(link) == link


@pytest.mark.parametrize("there", [(), ("4",), ("4", "damaged-6")])
@pytest.mark.parametrize("evidence", ["saved.json", "result.json"])
def test_checkpoints_that_vanished_are_missed(tmp_path, evidence, there):
    experiment = tiny.tokenizer()
    workdir.claim(tmp_path, experiment)
    write_json(tmp_path / evidence, {"step": 8})
    for name in there:
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    with pytest.raises(
        ValueError, match="saved at step 8, but .* mount the disk or put the checkpoint back"
    ):
        tiny.run(experiment, tmp_path)
    (tmp_path / "checkpoints" / "damaged-8").mkdir(parents=True)  # found damaged, and set aside
    assert workdir.changes(tmp_path, experiment) == []


def test_a_run_that_has_begun_misses_the_record_of_its_data(tmp_path):
    workdir.claim(tmp_path, tiny.tokenizer())
    with pytest.raises(ValueError, match="data.json is missing: .* put it back, or use another"):
        workdir.check_data(tmp_path, {})
    assert not (tmp_path / "data.json").exists()


@pytest.mark.parametrize("name", ["config.json", "frozen/task.json"])
def test_an_edited_description_is_refused(tmp_path, name):
    experiment, file = tiny.tokenizer(), tmp_path / name
    write_frozen(tmp_path, experiment.task, {})
    workdir.claim(tmp_path, experiment)
    text = file.read_text()
    file.write_text(text.replace('"commitment": 0.25', '"commitment": 9.25'))
    assert file.read_text() != text
    with pytest.raises(
        ValueError, match=f"{name} is damaged: the file has changed since vqdit wrote it"
    ):
        workdir.read_experiment(tmp_path) if name == "config.json" else read_frozen(tmp_path)
    file.write_text(text)
    assert workdir.read_experiment(tmp_path) == experiment
    assert read_frozen(tmp_path)[0] == experiment.task


def test_frozen_arrays_of_another_run_are_refused(tmp_path, monkeypatch):
    task = tiny.tokenizer().task
    monkeypatch.setattr(type(task), "frozen_like", lambda task: {"table": jnp.zeros(3)})
    for name, value in {"one": 1.0, "other": 2.0}.items():
        (tmp_path / name).mkdir()
        write_frozen(tmp_path / name, task, {"table": jnp.full(3, value)})
    one, other = tmp_path / "one" / "frozen", tmp_path / "other" / "frozen"
    assert read_frozen(tmp_path / "one")[1]["table"].tolist() == [1.0] * 3
    shutil.rmtree(one / "arrays")
    shutil.copytree(other / "arrays", one / "arrays")
    with pytest.raises(ValueError, match="the arrays in .*arrays do not belong to .*task.json"):
        read_frozen(tmp_path / "one")
    (one / "arrays" / "0" / "manifest.json").unlink()  # as from before there were checksums
    with pytest.raises(ValueError, match="restore all of"):
        read_frozen(tmp_path / "one")
    write_component(one / "task.json", task)
    assert read_frozen(tmp_path / "one")[1]["table"].tolist() == [2.0] * 3


def test_a_description_whose_parts_do_not_fit_is_refused(tmp_path):
    image, audio = tiny.tokenizer().task, tiny.audio_tokenizer().task
    varying = dataclasses.replace(audio, modality=Audio(rate=8000, seconds=(0.01, 0.1)))
    missing = "the tokenizer of the target 'image' is missing from the task; `Task.load` reads it"
    for task, changes, why in (
        (None, {}, missing),
        (image, {"modality": Image(size=(5, 8))}, "size 5x8 is not divisible .*"),
        (audio, {"modality": Audio(samples=1, rate=8000)}, "size 1 is not divisible .* 160 .*"),
        (varying, {"model": VideoAutoencoder()}, "a VideoAutoencoder takes clips .*"),
        (varying, {"model": TiTok(size=(800,), patch=8)}, "TiTok has 32 tokens for every .*"),
    ):
        tokenizers = {} if task is None else {"image": dataclasses.replace(task, **changes)}
        whole = dataclasses.replace(tiny.generator().task, tokenizers=Named(**tokenizers))
        write_frozen(tmp_path, whole, {})
        with pytest.raises(ValueError, match=f"task.json is damaged: {why}; restore all of"):
            read_frozen(tmp_path)
