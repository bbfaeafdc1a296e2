"""A process that is killed while it saves leaves a complete checkpoint."""

import random
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from vqdit.runs.array_trees import flatten
from vqdit.runs.checkpoints import Checkpoints

PROGRAM = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_platforms", "cpu")
from tests.test_checkpoint_kill import state
from vqdit.runs.checkpoint_retention import Keep
from vqdit.runs.checkpoints import Checkpoints
with Checkpoints(Path(sys.argv[1]), Keep(last=2)) as checkpoints:
    step = checkpoints.latest() or 0
    while True:
        step += 1
        checkpoints.save(step, state(step))
        print(step, flush=True)
"""


def state(step):
    """Leaves that all tell their step, large enough that saving them takes a while."""
    leaves = {f"leaf_{n}": jnp.full((256, 256), 100.0 * step + n) for n in range(40)}
    return {"step": jnp.int32(step), **leaves}


@pytest.mark.slow
def test_killed_at_any_moment_of_a_save_a_complete_step_is_there(tmp_path):
    draw, seen = random.Random(0), []
    for _ in range(20):
        child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        begun = [int(child.stdout.readline()) for _ in range(2)]  # the first one is complete
        time.sleep(draw.uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        found = flatten(Checkpoints(tmp_path).restore(state(0)))
        step = int(found["step"])
        assert step >= begun[0]
        for path, leaf in flatten(state(step)).items():
            np.testing.assert_array_equal(found[path], leaf, err_msg=path)
        seen.append(step)
    assert seen == sorted(seen) and len(set(seen)) > 10
