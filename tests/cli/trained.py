"""A config with three tiny experiments, trained once a session by the command itself."""

import contextlib
import io
from pathlib import Path

import jax
import pytest

from vqdit.cli.main import main
from vqdit.sharding import Mesh

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
    build, out = Mesh.build, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(Mesh, "build", lambda mesh: build(mesh, jax.devices()[:1]))
        code = main(["train", f"--config={folder / 'digits.py'}", f"--workdir={folder / 'runs'}"])
    (folder / "out.txt").write_text(out.getvalue())
    assert code == 0
    return folder
