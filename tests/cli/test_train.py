"""`vqdit train`: several experiments in order, what it writes and says, and what it refuses."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.trained import CONFIG
from vqdit.cli.invocation import command
from vqdit.cli.main import main
from vqdit.data.workers import LostWorker
from vqdit.train import loop
from vqdit.train.signals import Interrupts

NAMES = ("tokenizer", "flow", "generator")
PAIR = CONFIG.replace('"flow": tiny.flow_generator(),', "")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with configs: `pair.py` with a tokenizer and a generator, `one.py` with one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.py").write_text(PAIR)
    (tmp_path / "one.py").write_text(
        "from tests import tiny\n\n\ndef config():\n    return tiny.tokenizer()\n"
    )
    (tmp_path / "dit.py").write_text(
        "from tests import tiny\n\n\ndef config():\n    return tiny.generator()\n"
    )
    return tmp_path


def made(folder):
    """Everything in a folder but the configs, with contents."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() if file.is_file() else None
        for file in folder.rglob("*")
        if "__pycache__" not in file.parts and file.suffix != ".py"
    }


def test_several_experiments_are_trained_in_order_each_in_its_folder(trained):
    runs = trained / "runs"
    assert json.loads((runs / "experiments.json").read_text()) == list(NAMES)
    for name in NAMES:
        assert {path.name for path in (runs / name).iterdir()} >= {
            "config.json",
            "checkpoints",
            "metrics.jsonl",
            "performance.jsonl",
            "previews",
            "log.txt",
        }
    ends = [(runs / name / "result.json").stat().st_mtime_ns for name in NAMES]
    assert ends == sorted(ends)


def test_the_last_lines_say_what_was_made_where_and_how_to_sample_it(trained):
    runs, out = trained / "runs", (trained / "out.txt").read_text()
    results = {name: json.loads((runs / name / "result.json").read_text()) for name in NAMES}
    expected = ""
    for name, steps in zip(NAMES, (8, 6, 6), strict=True):
        numbers = results[name]["validation"].items()
        expected += f"{name}: {steps} steps, in {runs / name}\n  validation: "
        expected += "  ".join(f"{key} {value:.4g}" for key, value in numbers) + "\n"
        expected += f"  preview: {runs / name}/previews/step_{steps:07d}.png\n"
        if name == "tokenizer":
            expected += f"  reconstruct: {command('reconstruct')} --workdir={runs / name}"
            expected += " --out=reconstructions\n"
        else:  # the folder of the whole config stands for its last experiment
            workdir = runs if name == "generator" else runs / name
            expected += (
                f"  sample: {command('sample')} --workdir={workdir} --num=64 --out=samples\n"
            )
    assert out == expected
    assert results["tokenizer"]["validation"]["psnr"] > 5
    assert results["generator"]["validation"]["loss_image"] > 0
    for line in out.splitlines():
        if line.startswith("  preview: "):
            Image.open(line.removeprefix("  preview: ")).verify()


def test_finished_experiments_are_skipped_and_say_the_same_again(trained, capsys, monkeypatch):
    before = made(trained / "runs")
    monkeypatch.setattr(loop, "Run", None)  # whoever builds a run fails
    args = ["train", f"--config={trained}/digits.py", f"--workdir={trained}/runs"]
    assert main(args) == 0
    assert capsys.readouterr().out == (trained / "out.txt").read_text()
    assert made(trained / "runs") == before


def test_an_interrupted_one_goes_on_and_ends_as_if_it_had_not_been(trained, mine, monkeypatch):
    """Stopped within the second experiment, whose tokenizer then is no longer needed."""
    shutil.copytree(trained / "runs/tokenizer", mine / "runs/pair/tokenizer")

    class Stop(Interrupts):
        def should_stop(self, step):
            if step == 4:
                self.requested = signal.SIGTERM
            return super().should_stop(step)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupts", Stop)
        assert main(["train", "--config=pair.py"]) == 75
    assert main(["train", "--config=pair.py"]) == 0
    for name in ("tokenizer", "generator"):
        ours, straight = mine / "runs/pair" / name, trained / "runs" / name
        assert (ours / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()


def test_the_workdir_is_by_default_named_after_the_config(mine, monkeypatch):
    seen = []

    def train(experiment, folder, resolve, strict):
        seen.append((experiment.steps, folder))
        return loop.Outcome(experiment.steps, {}, None, 0)

    monkeypatch.setattr(loop, "train", train)
    assert main(["train", "--config", "one.py", "--steps=3"]) == 0
    assert main(["train", "--config", "pair.py", "--generator.steps=4"]) == 0
    assert main(["train", "--config=one.py", "--workdir", "here"]) == 0
    shown = [(steps, folder.as_posix()) for steps, folder in seen]
    assert shown == [
        (3, "runs/one"),
        (8, "runs/pair/tokenizer"),
        (4, "runs/pair/generator"),
        (8, "here"),
    ]


def test_the_help_of_a_config_shows_usage_and_fields_of_the_overridden_config(mine, capsys):
    assert main(["train", "--config=one.py", "--help", "--data.source=ImageFolder"]) == 0
    shown = capsys.readouterr().out
    assert "usage: vqdit train [-h] [OPTIONS]" in shown
    assert "--data.source.path STR" in shown
    assert "--optimizer.learning-rate FLOAT" in shown
    assert not made(mine)


def test_options_of_the_command_itself(refused, mine):
    assert refused("train") == "--config is missing; give --config=CONFIG; see --help"
    assert refused("train", "--workdir=x").startswith("--config is missing")
    assert refused("train", "--confg=x") == "unknown option '--confg=x'; did you mean --config?"
    assert refused("train", "--config") == "--config needs a value, as in --config=..."
    hint = "unknown field --work-dir; did you mean --workdir?"
    assert refused("train", "--config=one.py", "--work-dir=x") == hint
    assert refused("train", "--config=nothing.py").startswith(
        "no config 'nothing.py'; give the path"
    )
    assert not made(mine)


@pytest.mark.parametrize(
    ("config", "args", "message"),
    [
        (
            "pair.py",
            ["--generator.data.batch-size=30"],
            "generator: the global batch_size 30 is not divisible by the 8 devices; "
            "the nearest possible sizes are 24 or 32",
        ),
        (
            "pair.py",
            ["--generator.task.model.patch=3"],
            "generator: the grid of 'image', 4x4, is not divisible by the DiT's patch 3; use a "
            "grid of 3x3 or 6x6, or patch=1",
        ),
        (
            "pair.py",
            ["--generator.task.conditions.label.modality.classes=7"],
            "generator: 'label' has 10 classes in the data and 7 in the config; "
            "both numbers must be equal",
        ),
        (
            "pair.py",
            ["--generator.data.batch-size=4096"],
            "generator: the training split has 1437 examples, fewer than the batch_size 4096; use "
            "a smaller batch_size or more data",
        ),
        (
            "pair.py",
            ["--generator.task.targets.image.tokenizer=generator"],
            "cannot find 'generator': no run in generator; a workdir holds config.json and is made "
            "by `python train.py --config=... --workdir=DIR`; earlier experiments here: tokenizer",
        ),
        (
            "pair.py",
            ["--generator.data.source=ImageFolder", "--generator.data.source.path=none"],
            "no folder none; give the path (in training: --data.source.path) of a folder of "
            "pictures",
        ),
        (
            "pair.py",
            ["--generator.mesh.fsdp=3"],
            "generator: the mesh data=-1 x fsdp=3 x tensor=1 does not fit 8 devices; their product "
            "must be 8, or set data=-1 and others whose product divides it",
        ),
        (
            "pair.py",
            ["--generator.init-from=nowhere"],
            "no run in nowhere; a workdir holds config.json and is made by `python train.py "
            "--config=... --workdir=DIR`",
        ),
        (
            "one.py",
            ["--task.model.channels=4,8,8,8,8"],
            "one: size 8x8 is not divisible by the encoder's down-sampling 16 (5 levels of "
            "channels); nearest sizes: 16x16",
        ),
        (
            "one.py",
            ["--task.modality.size=16,16"],
            "one: 'image' in the data has shape (8, 8, 1), but (16, 16, 1) in the config; change "
            "the modality's size and channels, or the size of the data source",
        ),
        (
            "one.py",
            ["--task.name=picture"],
            "one: the data have no 'picture'; they have: audio, image, label, text",
        ),
        (
            "dit.py",
            [],
            "cannot find 'tokenizer': no run in tokenizer; a workdir holds config.json and is made "
            "by `python train.py --config=... --workdir=DIR`",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    config, args, message, mine, refused, monkeypatch, eight_devices
):
    monkeypatch.setattr(loop, "train", None)  # whoever trains fails
    assert refused("train", f"--config={config}", *args) == message
    assert not made(mine)


def test_a_tokenizer_elsewhere_is_checked_before_anything_is_written(trained, mine, refused):
    where = f"--task.targets.image.tokenizer={trained}/runs"
    message = refused("train", "--config=dit.py", where)
    assert message == (
        f"dit: '{trained}/runs', the tokenizer of 'image', is a DiffusionTask; name the workdir of "
        "a tokenizer with codes"
    )
    message = refused("train", "--config=dit.py", f"{where}/tokenizer", "--task.model.patch=3")
    assert message.startswith(
        "dit: the grid of 'image', 4x4, is not divisible by the DiT's patch 3"
    )
    assert not made(mine)


def picture(file, size=8):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size, size), np.uint8)).save(file)


def of_folder(folder):
    options = {"": "ImageFolder", ".path": folder, ".size": 8, ".channels": 1}
    return [f"--data.source{name}={value}" for name, value in options.items()]


def test_a_folder_with_too_few_pictures_is_refused(mine, refused):
    for number in range(9):
        picture(mine / f"pictures/{number}.png")
    message = refused("train", "--config=one.py", *of_folder(mine / "pictures"))
    assert message == (
        f"one: {mine}/pictures has 9 examples, but training, validation and test need at least 10; "
        "add more"
    )
    picture(mine / "pictures/9.png")
    before = made(mine)
    message = refused("train", "--config=one.py", *of_folder(mine / "pictures"))
    assert message == (
        "one: the training split has 8 examples, fewer than the batch_size 32; use a smaller "
        "batch_size or more data"
    )
    assert made(mine) == before


def test_a_size_that_does_not_fit_is_refused_before_data_are_prepared(mine, refused, monkeypatch):
    monkeypatch.setenv("VQDIT_DATA", str(mine / "data"))
    for number in range(20):
        picture(mine / f"pictures/{number}.png")
    options = [*of_folder(mine / "pictures"), "--data.source.size=16"]
    message = refused("train", "--config=one.py", *options)
    assert message.startswith("one: ") and "(8, 8, 1)" in message and "(16, 16, 1)" in message
    assert not (mine / "data").exists()


def test_a_picture_that_cannot_be_decoded_is_named(mine, refused):
    for number in range(20):
        picture(mine / f"pictures/{number}.png")
    (mine / "pictures/13.png").write_bytes(b"no picture")
    message = refused("train", "--config=one.py", *of_folder(mine / "pictures"))
    assert f"cannot decode the picture {mine}/pictures/13.png" in message
    assert not (mine / "runs").exists()


def test_a_workdir_that_cannot_be_written_is_refused(mine, refused):
    (mine / "file").write_text("mine")
    before = made(mine)
    for folder, why in (("file", "File exists"), ("file/run", "Not a directory")):
        message = f"cannot write in {folder}: {why}; choose another --workdir"
        for config in ("one.py", "pair.py"):
            assert refused("train", f"--config={config}", f"--workdir={folder}") == message
    assert made(mine) == before


def differing(capsys, *argv):
    assert main(["train", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_a_workdir_of_a_different_experiment_is_refused_with_the_differences(
    trained, capsys, monkeypatch
):
    """Also where it is the last experiment that differs, and the first could go on."""
    monkeypatch.setattr(loop, "train", None)
    before = made(trained / "runs")
    args = [f"--config={trained}/digits.py", f"--workdir={trained}/runs"]
    args += ["--tokenizer.steps=100", "--generator.seed=3", "--generator.task.model.depth=1"]
    assert differing(capsys, *args) == (
        f"error: generator: the workdir {trained}/runs/generator has a different experiment "
        "(workdir -> this command): task.model.depth: 2 -> 1, seed: 0 -> 3; use another --workdir, "
        "or the same settings\n"
    )
    assert made(trained / "runs") == before


def test_a_workdir_of_other_experiments_is_refused(trained, mine, refused, monkeypatch):
    monkeypatch.setattr(loop, "train", None)
    before, runs = made(trained / "runs"), trained / "runs"
    these, use = "the experiments of the workdir", "; use another --workdir"
    assert refused("train", "--config=one.py", f"--workdir={runs}") == (
        f"{these} {runs} (tokenizer, flow, generator) are not those of the config "
        f"(a single one){use}"
    )
    assert refused("train", "--config=pair.py", f"--workdir={runs}") == (
        f"{these} {runs} (tokenizer, flow, generator) are not those of the config "
        f"(tokenizer, generator){use}"
    )
    assert refused("train", "--config=pair.py", f"--workdir={runs}/flow") == (
        f"{these} {runs}/flow (a single one) are not those of the config "
        f"(tokenizer, generator){use}"
    )
    assert made(trained / "runs") == before


def test_a_config_that_grew_goes_on_in_its_folder(trained, mine, monkeypatch, capsys):
    shutil.copytree(trained / "runs/tokenizer", mine / "w/tokenizer")
    (mine / "w/experiments.json").write_text('["tokenizer"]')
    seen = []

    def train(experiment, folder, resolve, strict):
        seen.append(folder.as_posix())
        return loop.Outcome(1, {}, None, 0)

    monkeypatch.setattr(loop, "train", train)
    assert main(["train", "--config=pair.py", "--workdir=w"]) == 0
    assert seen == ["w/tokenizer", "w/generator"]
    assert json.loads((mine / "w/experiments.json").read_text()) == ["tokenizer", "generator"]


def test_the_code_of_an_interruption_ends_the_whole(mine, monkeypatch, capsys):
    monkeypatch.setattr(loop, "train", lambda *args, strict: loop.Outcome(3, {}, None, 130))
    assert main(["train", "--config=pair.py"]) == 130
    assert capsys.readouterr().out == ""


def test_a_killed_worker_ends_with_the_code_that_starts_again(mine, monkeypatch, capsys):
    def lost(*_, strict):
        raise LostWorker("a data worker was killed by SIGKILL")

    monkeypatch.setattr(loop, "train", lost)
    assert main(["train", "--config=one.py"]) == 75
    assert capsys.readouterr().err.endswith(": a data worker was killed by SIGKILL\n")


@pytest.mark.slow
def test_the_printed_command_works_when_copied(trained, tmp_path):
    """From the script of the checkout, in a shell."""
    checkout = Path(__file__).parents[2]
    train = [sys.executable, "train.py", "--config", trained / "digits.py"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    kwargs = {"cwd": checkout, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run([*train, "--workdir", trained / "runs"], check=True, **kwargs)
    line = next(part for part in reversed(done.stdout.splitlines()) if "  sample: " in part)
    command = line.removeprefix("  sample: ")
    assert " sample.py --workdir=" in command
    copied = command.replace("--num=64", "--num=2").replace("--out=", f"--out={tmp_path}/")
    subprocess.run(copied, shell=True, check=True, **kwargs)
    assert np.load(tmp_path / "samples/samples.npz")["image"].shape == (2, 8, 8, 1)
