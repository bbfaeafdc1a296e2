"""Tiny experiments, each trained once a session: three by the command itself, and a joint one."""

import contextlib
import io
from pathlib import Path

import jax
import pytest

from tests import tiny
from vqdit.cli.main import main
from vqdit.parallel import Mesh

CONFIG = """
from tests import tiny


def config():
    return {
        "tokenizer": tiny.tokenizer(),
        "flow": tiny.flow_generator(),
        "generator": tiny.generator(),
    }
"""


def runs(factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with `digits.py`, its workdir `runs`, and what was printed, `out.txt`."""
    folder = factory.getbasetemp() / "trained"
    if folder.is_dir():
        return folder
    folder.mkdir()
    (folder / "digits.py").write_text(CONFIG)
    out = io.StringIO()
    with one_device(), contextlib.redirect_stdout(out):
        code = main(["train", f"--config={folder / 'digits.py'}", f"--workdir={folder / 'runs'}"])
    (folder / "out.txt").write_text(out.getvalue())
    assert code == 0
    return folder


def joint(factory: pytest.TempPathFactory) -> Path:
    """Returns the workdir of `tiny.joint`, trained once a session."""
    folder = factory.getbasetemp() / "joint"
    if not folder.is_dir():
        pictures = runs(factory) / "runs" / "tokenizer"
        with one_device(), contextlib.redirect_stdout(io.StringIO()):
            tiny.run(tiny.audio_tokenizer(), folder / "audio")
            tiny.run(tiny.joint(), folder / "dit", tokenizer=pictures, audio=folder / "audio")
    return folder / "dit"


@contextlib.contextmanager
def one_device():
    """As the fixture of the same name, which is not yet at work when a session's one is made."""
    build = Mesh.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mesh, "build", lambda mesh: build(mesh, jax.devices()[:1]))
        yield
