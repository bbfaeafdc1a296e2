"""README and docs: their Python is run, their commands are parsed, their links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli import trained as helper
from vqdit import config
from vqdit.cli import options
from vqdit.cli.main import COMMANDS, function_of
from vqdit.cli.overrides import override

ROOT = Path(__file__).parent.parent
GENERATED = ("commands.md",)
ELSEWHERE = ("adding_a_quantizer.md", "launch.md")
"""Pages whose code has tests of its own: test_worked_example.py and test_launch.py."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [page for page in PAGES if page.name not in GENERATED]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)```", re.S
)
OTHERS = ("bash", "export", "ffmpeg", "pip", "python3", "source", "sudo")
"""Programs that are not vqdit's."""


def blocks(language):
    """The code blocks of a language that are not marked, as (page and number, code)."""
    return [
        pytest.param(found["code"], id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in ELSEWHERE
        for number, found in enumerate(BLOCK.finditer(page.read_text()))
        if found["language"] == language and not found["reason"]
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with trained runs where the pages have them."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(helper.joint(tmp_path_factory), folder / "runs/quickstart")
    pictures = helper.runs(tmp_path_factory) / "runs/tokenizer"
    shutil.copytree(pictures, folder / "runs/quickstart/image")
    return folder


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_of_the_pages_runs(code, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code, names)
    if "samples" in names:
        assert names["samples"]["image"].shape == names["images"].shape == (16, 8, 8, 1)
        assert names["samples"]["audio"].shape == (16, 800)
        assert names["scores"].shape == (16, 2) and names["codes"].shape == (16, 4, 4, 1)


@pytest.mark.parametrize("code", blocks("bash"))
def test_the_commands_of_the_pages_are_understood(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    for line in code.splitlines():
        for words in map(shlex.split, re.sub(r"\s#.*", "", line).split("&&")):
            if not words or words[0] in OTHERS:
                continue
            program, *argv = [word.removeprefix(".venv/bin/") for word in words]
            if program in ("python", "vqdit"):
                program, *argv = argv
            if program == "-m":
                assert (ROOT / f"{argv[0].replace('.', '/')}.py").is_file()
                continue
            command = program.removesuffix(".py")
            if command not in COMMANDS:
                assert program in ("pytest", "pip", "sphinx-build"), line
                continue
            rest = [word for word in argv if word != "--help"]
            call = options.bind(function_of(command), rest, f"vqdit {command}")
            if command == "train":
                override(config.load(call.keywords["config"])[1], call.keywords["overrides"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http") and target not in ("commands.md", "api/index.rst"):
            assert (page.parent / target).exists(), target


def test_the_readme_is_short_and_has_the_marked_commands():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 180
    for name in ("quickstart", "tests"):
        command = text.split(f"<!-- command: {name} -->\n```bash\n")[1].split("```")[0]
        assert command.count("\n") == 1
