"""Tiny experiments, each trained once a session: three by the command itself, and a joint one.

The workers of pytest-xdist share them, so no test may change them.
"""

import contextlib
import fcntl
import io
import os
from collections.abc import Callable
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


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that the first worker to need it makes, while the others wait."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with (root / f"{name}.made").open("a") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        if os.fstat(made.fileno()).st_size == 0:
            make(root / name)
            made.write("yes")
    return root / name


def runs(factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with `digits.py`, its workdir `runs`, and what was printed, `out.txt`."""

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "digits.py").write_text(CONFIG)
        out = io.StringIO()
        argv = ["train", f"--config={folder / 'digits.py'}", f"--workdir={folder / 'runs'}"]
        with one_device(), contextlib.redirect_stdout(out):
            code = main(argv)
        (folder / "out.txt").write_text(out.getvalue())
        assert code == 0

    return once(factory, "trained", make)


def joint(factory: pytest.TempPathFactory) -> Path:
    """Returns the workdir of `tiny.joint`, trained once a session."""
    pictures = runs(factory) / "runs" / "tokenizer"

    def make(folder: Path) -> None:
        with one_device(), contextlib.redirect_stdout(io.StringIO()):
            tiny.run(tiny.audio_tokenizer(), folder / "audio")
            tiny.run(tiny.joint(), folder / "dit", tokenizer=pictures, audio=folder / "audio")

    return once(factory, "joint", make) / "dit"


@contextlib.contextmanager
def one_device():
    """As the fixture of the same name, which is not yet at work when a session's one is made."""
    build = Mesh.build
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mesh, "build", lambda mesh: build(mesh, jax.devices()[:1]))
        yield
