"""Damaged files end a command well: with success or one line, soon, in little memory."""

import json
import os
import subprocess
import sys

import pytest

from tests.fuzz.run import KINDS

CASES = {"workdir": 1000, "resume": 250, "dialogues": 400, "units": 400}
"""Damaged copies of each kind of files; of other kinds there are 650."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_end_a_command_well(kind):
    argv = [sys.executable, "-m", "tests.fuzz.run", kind, "0", str(CASES.get(kind, 650))]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    ended = subprocess.run(argv, capture_output=True, text=True, env=environment)
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert not found, "\n\n".join(
        f"{kind} {one['seed']} ({one['damage']}): {one['end']} after {one['seconds']} s\n"
        f"{one['output']}"
        for one in found[:10]
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
