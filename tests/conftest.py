"""Settings of all tests: 8 fake devices, a compilation cache, data in a folder of their own."""

import gc
import os
import re
import signal
import tempfile
from pathlib import Path

import pytest

CACHE = Path(tempfile.gettempdir()) / f"vqdit-test-jax-{os.getuid()}"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # of the programs that tests start too
# Reading a small program takes half as long as compiling it; workers compile many of the same.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# A full collection visits all that JAX has traced so far: with the defaults, collecting grows to a
# third of a worker's time.
gc.set_threshold(100_000, 50, 1000)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where tests run under nohup
# Tiny programs run once or twice: compiling them well takes longer than it saves.
if os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") == "1":
    # XLA's older code generator for fused operations compiles a training step in half the time.
    fewer = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{fewer} {os.environ.get('XLA_FLAGS', '')}"

import jax  # noqa: E402

from vqdit.parallel import Mesh  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_debug_key_reuse", True)

# Shared by the workers of pytest-xdist: preparing is atomic, and what is prepared is reused.
DATA = Path(tempfile.gettempdir()) / f"vqdit-test-data-{os.getuid()}"
os.environ["VQDIT_DATA"] = str(DATA)

PEERS = re.compile(r"could not import '(torch|diffusers|transformers|vector_quantize_pytorch)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Fails a quick test that takes longer than `VQDIT_TEST_SECONDS`, which CI sets.

    Fails a test that is skipped without a peer, too, unless it has the mark by which CI finds it.
    """
    report = yield
    if report.skipped and PEERS.search(str(report.longrepr)):
        if not item.get_closest_marker("peers"):
            report.outcome, report.longrepr = "failed", "needs @pytest.mark.peers"
    limit = float(os.environ.get("VQDIT_TEST_SECONDS", "inf"))
    if report.passed and call.when == "call" and call.duration > limit:
        if not item.get_closest_marker("slow"):
            report.outcome = "failed"
            report.longrepr = f"took {call.duration:.0f} s; share what it compiles, or mark it slow"
    return report


@pytest.fixture(autouse=True)
def one_device(request, monkeypatch):
    """Runs are on one of the fake devices, which is quicker; `eight_devices` is the exception."""
    if "eight_devices" in request.fixturenames:
        return
    build = Mesh.build
    monkeypatch.setattr(
        Mesh, "build", lambda mesh, devices=None: build(mesh, devices or jax.devices()[:1])
    )


@pytest.fixture
def eight_devices():
    """Lets the test's runs use all eight devices."""


@pytest.fixture
def key():
    """The key of a test."""
    return jax.random.key(0)
