"""Sphinx settings: MyST pages, an API reference from docstrings, commands from their own help."""

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import vqdit
from vqdit.cli.main import COMMANDS

HERE = Path(__file__).parent

project = "vqdit"
author = "the vqdit authors"
version = release = vqdit.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "sphinx_book_theme"
html_title = "vqdit"
html_theme_options = {"show_navbar_depth": 1, "home_page_in_toc": True}
exclude_patterns = ["_build", "launch/*"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}

ROOMS = {
    "quantizers": "Quantizers",
    "processes": "Diffusion processes",
    "samplers": "Samplers and guidance",
    "models": "Networks",
    "nn": "Layers",
    "losses": "Losses",
    "metrics": "Metrics",
    "modalities": "Modalities",
    "data": "Data sources and pipeline",
    "tasks": "Tasks",
    "config": "Experiments and config files",
    "optim": "Optimizers and moving averages",
    "parallel": "Devices and processes",
    "train": "Training",
    "runs": "Workdirs and checkpoints",
    "inference": "Inference",
    "pretrained": "Public weights",
    "evaluation": "Evaluation",
    "profiling": "Speed and memory",
}


def write_api() -> None:
    """Writes a page for each room of the package, with all of its modules."""
    folder = HERE / "api"
    folder.mkdir(exist_ok=True)
    infos = pkgutil.walk_packages(vqdit.__path__, "vqdit.")
    modules = sorted(info.name for info in infos)
    loose = [name for name in modules if name.count(".") == 1 and name.split(".")[1] not in ROOMS]
    skipped = ("vqdit.cli", "vqdit.__main__", "vqdit.configs")
    pages = {room: [m for m in modules if f"{m}.".startswith(f"vqdit.{room}.")] for room in ROOMS}
    pages["base"] = [name for name in loose if not name.startswith(skipped)]
    titles = {**ROOMS, "base": "Shared vocabulary"}
    for room, names in pages.items():
        blocks = [f"{titles[room]}\n{'=' * len(titles[room])}\n"]
        blocks += [f"{n}\n{'-' * len(n)}\n\n.. automodule:: {n}\n" for n in names]
        (folder / f"{room}.rst").write_text("\n".join(blocks))
    entries = "\n".join(f"   {room}" for room in pages)
    index = f"API reference\n=============\n\n.. toctree::\n   :maxdepth: 1\n\n{entries}\n"
    (folder / "index.rst").write_text(index)


def write_commands() -> None:
    """Writes the command reference: what each command prints for `--help`."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "COLUMNS": "100", "NO_COLOR": "1"}
    blocks = ["# Commands\n", "`vqdit COMMAND --help` prints these texts.\n"]
    for command in COMMANDS:
        run = [sys.executable, "-m", "vqdit", command, "--help"]
        text = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        plain = re.sub(r"\x1b\[[0-9;]*m", "", text.stdout)
        blocks.append(f"## vqdit {command}\n\n```text\n{plain.strip()}\n```\n")
    (HERE / "commands.md").write_text("\n".join(blocks))


def escape(app, what, name, obj, options, lines):
    """Escapes what docstrings mean literally, such as `*` in shapes, outside of code."""
    for number, line in enumerate(lines):
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [
            re.sub(r"\*(?! )|(?<=\S)\*|\||(?<=\w)_(?=\W|$)", r"\\\g<0>", p) for p in parts[::2]
        ]
        lines[number] = "".join(parts)


def skip(app, what, name, obj, skip, options):
    """Leaves out the fields of named tuples, which their class describes."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    """Connects the above."""
    write_api()
    write_commands()
    app.connect("autodoc-process-docstring", escape, priority=900)
    app.connect("autodoc-skip-member", skip)
