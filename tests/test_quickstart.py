"""The quickstart keeps its promises: digits that one can read, varied, from faithful codes."""

import json

import numpy as np
import pytest

from benchmarks import quality
from vqdit.cli.train import main


@pytest.mark.slow
def test_the_quickstart_gives_legible_and_varied_digits(tmp_path):
    assert main(["--config=quickstart", f"--workdir={tmp_path}"]) == 0
    found = quality.measure(tmp_path, num=500)
    print(json.dumps(found, indent=2))
    original = found["judge on held-out pictures"]
    assert original >= 0.97  # the judge itself can be trusted
    assert found["judge on their reconstructions"] >= original - 0.01
    assert found["PSNR of reconstructions, dB"] >= 23.0
    assert found["samples judged as the asked class"] >= 0.97
    assert found["coverage by samples"] >= 0.8 * found["coverage by training pictures"]


def test_coverage_is_its_definition():
    rng = np.random.default_rng(0)
    held_out = rng.integers(0, 256, (20, 3, 1, 1)).astype(np.uint8)
    samples = rng.integers(0, 256, (6, 3, 1, 1)).astype(np.uint8)
    covered = 0
    for i, picture in enumerate(held_out / 255.0):
        others = [np.sum((picture - other) ** 2) for other in np.delete(held_out, i, 0) / 255.0]
        nearest = min(np.sum((picture - sample) ** 2) for sample in samples / 255.0)
        covered += nearest <= sorted(others)[2]
    assert 0 < covered < 20
    assert quality.coverage(held_out, samples, k=3) == covered / 20
    assert quality.coverage(held_out, held_out) == 1.0
