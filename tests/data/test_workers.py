"""Worker processes: what stops them is named, and they end with the process that started them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from vqdit.data import workers

PROGRAM = """
import multiprocessing, os, signal, sys
from tests.data.rows import Rows
from vqdit.data import Data

def main():
    batches = Data(source=Rows(), batch_size=4, workers=1).train_batches(0, 0)
    next(batches)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    if sys.argv[1:] == ["worker"]:
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        while True:
            next(batches)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_program_that_workers_cannot_import_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__="<stdin>"))
    with pytest.raises(ValueError, match="workers cannot import the program <stdin>; write it to"):
        workers.check(1, 1)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=__file__))
    workers.check(1, 1)
    monkeypatch.setattr(workers.multiprocessing.current_process(), "_inheriting", True, False)
    with pytest.raises(ValueError, match='put its code under `if __name__ == "__main__":`'):
        workers.check(1, 1)


def test_too_little_shared_memory_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=__file__))
    monkeypatch.setattr(workers, "SHARED_MEMORY", workers.Path("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    workers.check(4, 4_000_000)
    match = "8 workers need 128 MB of shared memory, but / has 64 MB free; make it larger .*docker"
    with pytest.raises(ValueError, match=match):
        workers.check(8, 4_000_000)


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (
            -9,
            workers.LostWorker,
            "a data worker was killed by SIGKILL, perhaps for lack of memory",
        ),
        (-7, ValueError, "a data worker ended because .* is full; make it larger"),
        (1, ValueError, "ended with code 1, for the reason above; .* put its code under `if __n"),
    ],
)
def test_the_end_of_a_worker_is_explained(code, kind, message):
    said = f"Worker process was terminated unexpectedly with exit code {code}. Search the logs"
    with pytest.raises(kind, match=message), workers.reported():
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="^other$"), workers.reported():
        raise RuntimeError("other")


def test_what_is_passed_is_loaded_by_others():
    passed = workers.Passed(len)
    assert passed([1, 2]) == 2
    passed.close()


def run(tmp_path, end, *args):
    (tmp_path / "program.py").write_text(PROGRAM + end)
    command = [sys.executable, str(tmp_path / "program.py"), *args]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


@pytest.mark.slow
def test_a_program_without_a_guard_is_told_so(tmp_path):
    done = run(tmp_path, "main()\n")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("because every worker imports the program")


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["worker", "parent"])
def test_workers_and_their_parent_notice_each_others_end(tmp_path, killed):
    done = run(tmp_path, "if __name__ == '__main__':\n    main()\n", killed)
    (worker,) = map(int, done.stdout.split())
    if killed == "worker":
        assert "LostWorker: a data worker was killed by SIGKILL" in done.stderr
    else:
        assert done.returncode == -signal.SIGKILL
    time.sleep(1)
    command = Path(f"/proc/{worker}/cmdline")  # empty for a process that nobody has waited for
    assert not command.exists() or not command.read_bytes()
