"""What can be said of a plan without the compilers of accelerators."""

import importlib.util

import pytest

from vqdit import config
from vqdit.cli import main as command
from vqdit.cli.plan import report
from vqdit.profiling import compiled_program
from vqdit.profiling.plan import Plan, _want, finder, plan
from vqdit.profiling.targets import has

PLAN = Plan(
    chips=8,
    kind="TPU v5 lite",
    memory={"parameters": 2 * 10**9, "optimizer": 4 * 10**9, "temporary": 3 * 10**9},
    flops=1.97e13,
    traffic=8.19e10,
    exchanges={"all-gather": compiled_program.Collective(28, 2 * 10**9)},
    kernels={"tpu_custom_call": 112},
    bounds={"arithmetic": 0.1, "memory": 0.2, "links": 0.01},
)


def test_the_report_says_what_counts():
    _, experiment = config.load("image/imagenet256_dit_xl2")
    lines = report(PLAN, experiment, 1.2)
    assert lines[0] == "memory of a chip     9 GB of 16 GB: fits"
    assert "roofline of a step   200 ms, of memory" in "\n".join(lines)
    assert "at that rate         1280 examples a second" in lines
    assert "1,000 steps          0.444 chip-hours, 0.533 at 1.2 an hour" in lines
    too_large = PLAN._replace(memory={"parameters": 17 * 10**9})
    assert "DOES NOT FIT" in report(too_large, experiment, None)[0]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("h100", "unknown target 'h100'; did you mean h100:1.*v5e:4x4 .*, or GPUs: .*h100:8"),
        ("h100:none", "the target 'h100:none' must have from 1 to"),
        ("cpu:4", "unknown target 'cpu:4'; give a TPU topology such as v5e:4x4"),
        ("v5e", "unknown target 'v5e'"),
        ("v", "unknown target 'v'"),
        ("v5e:0x0", "the target 'v5e:0x0' must have from 1 to 16,384 chips, as in v5e:4x4"),
        ("v5e:4x", "the target 'v5e:4x' must have"),
        ("v5e:-1x4", "the target 'v5e:-1x4' must have"),
        ("v5e:9999x9999", "the target 'v5e:9999x9999' must have"),
        ("h100:99999", "the target 'h100:99999' must have from 1 to 16,384 chips, as in h100:8"),
        ("h100:²", "the target 'h100:²' must have"),
    ],
)
def test_bad_targets_are_named(target, message):
    _, experiment = config.load("quickstart")
    with pytest.raises(ValueError, match=message):
        plan(experiment["image"], target, finder({}))


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_a_compiler_it_says_what_to_install():
    with pytest.raises(ImportError, match=r"pip install 'vqdit\[tpu\]'"):
        plan(config.load("quickstart")[1]["image"], "v5e:2x2", finder({}))


@pytest.mark.skipif(has("jax_plugins.xla_cuda13"), reason="the CUDA compiler is installed")
def test_without_a_compiler_of_gpus_it_says_what_to_install_too():
    with pytest.raises(ImportError, match=r"pip install 'vqdit\[cuda\]'"):
        plan(config.load("quickstart")[1]["image"], "h100:1", finder({}))


@pytest.mark.parametrize(
    ("message", "want"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: Ran out of memory, (79.8G) exceeds (15.75G). HLO: x.",
            "Ran out of memory, (79.8G) exceeds (15.75G).",
        ),
        ("RESOURCE_EXHAUSTED: no room\nand more", "RESOURCE_EXHAUSTED: no room"),
    ],
)
def test_what_the_compiler_had_no_room_for_is_one_sentence(message, want):
    assert _want(message) == want


def test_references_are_found_among_configs():
    name, joint = config.load("quickstart")
    assert finder(joint)("image").name == "image"
    tokenizer = finder({})("runs/imagenet256_vqvae")
    assert tokenizer.modality.size == (256, 256)
    with pytest.raises(ValueError, match="'runs/nothing' is neither an experiment of this config"):
        finder({})("runs/nothing")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--target=v5e:2x2"], "--config is missing"),
        (["--config=quickstart"], "--target is missing"),
        (["--config=quickstart", "--target=v5e:2x2", "--price=-1"], "--price must be a number"),
    ],
)
def test_bad_options_end_with_a_message(argv, message, capsys):
    assert command.main(["plan", *argv]) == 2
    assert message in capsys.readouterr().err
