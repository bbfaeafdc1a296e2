"""Every shipped config compiles for a TPU, sharded, and fits its memory; the plan says so.

The TPU compiler needs no TPU: `pip install 'vqdit[tpu]'` brings it. It runs in its own process.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from vqdit import config
from vqdit.cli.main import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="the TPU compiler, libtpu, is missing"
    ),
]
POD = "image/imagenet256_dit_xl2"
STATED = {
    POD: "v5e:4x8",
    "image/imagenet256_vqvae": "v5e:4x4",
    "image/imagenet256_vqgan": "v6e:2x4",
    "image/imagenet256_vqgan_plus": "v6e:2x4",
}
"""Topologies of configs that are for more than one chip; the others need no more."""

PROGRAM = """
import json, sys
from vqdit import config
from vqdit.cli.overrides import override
from vqdit.profiling.plan import finder, plan

name, target, *overrides = sys.argv[1:]
stem, found = config.load(name)
found = override(found, overrides)
experiments = found if isinstance(found, dict) else {stem: found}
plans = [plan(one, target, finder(experiments)) for one in experiments.values()]
print(json.dumps([{**one._asdict(), "total": one.total, "fits": one.fits} for one in plans]))
"""


def planned(name, target, *overrides):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-c", PROGRAM, name, target, *overrides]
    out = subprocess.run(program, capture_output=True, text=True, check=False, env=environment)
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", sorted(set(config.shipped()) - {POD}))
def test_shipped_configs_fit_what_they_are_for(name):
    for plan in planned(name, STATED.get(name, "v5e:1x1")):
        assert plan["fits"], plan


def test_dit_xl2_fits_a_pod_slice_and_a_quarter_of_it():
    for target, chips in (("v5e:4x8", 32), ("v5e:2x4", 8)):
        (plan,) = planned(POD, target, "--mesh.fsdp=8")
        assert plan["chips"] == chips and plan["total"] < 16e9
        assert plan["kernels"]["tpu_custom_call"] == 4 * 28  # forward, again, and two backward
        times, size = plan["exchanges"]["all-gather"]
        assert times >= 28  # of each layer by itself
        # In bfloat16, forward and backward: twice two bytes of 675 million, and little more.
        assert 2 * 2 * 0.65e9 < size < 2 * 2 * 0.75e9


def test_what_has_no_room_is_said(capsys):
    """The compiler gives up by itself where temporaries alone are more than a chip has."""
    argv = ["plan", "--config=image/imagenet256_vqgan_plus", "--target=v5e:1x1"]
    assert main(argv) == 1
    said = capsys.readouterr().out
    assert "imagenet256_vqgan_plus on v5e:1x1: DOES NOT FIT" in said
    assert "exceeds available HBM (15.75G)" in said and "xla" not in said


def test_tensor_parallelism_fits_too():
    (plan,) = planned(POD, "v5e:2x4", "--mesh.fsdp=4", "--mesh.tensor=2")
    assert plan["fits"]
