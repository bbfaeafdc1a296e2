"""The package away from its checkout: programs, configs in the wheel, and what an import loads."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import vqdit
from vqdit import config
from vqdit.cli.main import COMMANDS, function_of
from vqdit.config import files

CHECKOUT = Path(__file__).parent.parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder laid out as the wheel is: the packages, and what is forced into them."""
    folder = tmp_path_factory.mktemp("site")
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignore = shutil.ignore_patterns("__pycache__")
    for package in wheel["packages"]:
        shutil.copytree(CHECKOUT / package, folder / package, ignore=ignore)
    for source, target in wheel["force-include"].items():
        shutil.copytree(CHECKOUT / source, folder / target, ignore=ignore)
    return folder


def run(*args, cwd, path=None):
    """Runs Python away from the checkout, with `path` before everything else."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(path or "")}
    command = [sys.executable, *map(str, args)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_versions_agree():
    assert PROJECT["project"]["version"] == vqdit.__version__


def test_the_console_script_is_the_command():
    assert PROJECT["project"]["scripts"] == {"vqdit": "vqdit.cli.main:program"}


def test_the_configs_travel_in_the_wheel_and_are_found_there(installed, monkeypatch):
    here = set(config.shipped())
    monkeypatch.setattr(files, "__file__", str(installed / "vqdit/config/files.py"))
    found = config.shipped()
    assert set(found) == here
    assert found["quickstart"] == installed / "vqdit/configs/quickstart.py"
    assert config.load("image/fashion_flow")[0] == "fashion_flow"


def test_a_package_without_configs_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "__file__", str(tmp_path / "vqdit/config/files.py"))
    assert config.shipped() == {}


def test_the_module_runs_without_the_checkout_and_finds_configs_by_name(installed, tmp_path):
    args = ("-m", "vqdit", "train", "--config=quickstart", "--audio.stepz=1")
    done = run(*args, cwd=tmp_path, path=installed)
    assert done.returncode == 2
    assert done.stdout == ""
    message = "error: unknown field --audio.stepz; did you mean --audio.steps?; Experiment"
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["train.py", "sample.py"])
def test_the_scripts_of_the_checkout_are_the_commands(script, tmp_path):
    command = script.removesuffix(".py")
    done = run(CHECKOUT / script, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: vqdit {command} ")
    assert run("-m", "vqdit", command, "--help", cwd=tmp_path, path=CHECKOUT).stdout == done.stdout
    assert command in COMMANDS


def test_bad_input_ends_every_command_with_2_and_one_line(tmp_path):
    """In one process, which takes less time than one for each."""
    codes = "[main([command, '--nosuch=1']) for command in COMMANDS]"
    program = f"from vqdit.cli.main import COMMANDS, main; print({codes})"
    done = run("-c", program, cwd=tmp_path, path=CHECKOUT)
    assert (done.returncode, done.stdout) == (0, f"{[2] * len(COMMANDS)}\n")
    lines = done.stderr.splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.startswith("error: ") for line in lines)


def test_every_command_has_a_file():
    files = {file.stem for file in (CHECKOUT / "vqdit/cli").glob("*.py")}
    assert {function_of(command).__name__ for command in COMMANDS} <= files


@pytest.mark.slow
def test_the_wheel_holds_package_and_configs(tmp_path):
    pytest.importorskip("hatchling")
    args = ("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, CHECKOUT)
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("vqdit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"vqdit/configs/{name}.py" for name in config.shipped()} <= names
    assert {f"vqdit/cli/{function_of(command).__name__}.py" for command in COMMANDS} <= names
    assert "vqdit/cli/report/page.html" in names
    assert not any(name.startswith(("tests/", "configs/")) for name in names)


def test_what_is_loaded_when_it_is_used_is_listed():
    assert {"load", "pretrained"} <= set(dir(vqdit))


def test_files_that_are_skipped_without_a_peer_are_marked_for_ci():
    found = {
        file: "pytest.mark.peers" in text
        for file in Path(__file__).parent.rglob("test_*.py")
        if re.search(
            r'^\w* ?=? ?pytest.importorskip\("(torch|diff|transf|vector)',
            text := file.read_text(),
            re.M,
        )
    }
    assert len(found) >= 5 and all(found.values())
