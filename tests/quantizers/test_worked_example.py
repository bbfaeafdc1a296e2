"""The quantizer that docs/adding_a_quantizer.md writes keeps the contract."""

import importlib.util
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.quantizers import test_contract as contract
from vqdit.quantizers import RVQ, GroupedVQ

PAGE = Path(__file__).parents[2] / "docs" / "adding_a_quantizer.md"
CHECKS = [name for name in dir(contract) if name.startswith("test_")]


@pytest.fixture(scope="module")
def ternary(tmp_path_factory):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    file = tmp_path_factory.mktemp("example") / "ternary.py"
    file.write_text(code)
    spec = importlib.util.spec_from_file_location("ternary", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Ternary


@pytest.mark.parametrize("check", CHECKS)
def test_the_example_keeps_the_contract(ternary, check, key):
    function = getattr(contract, check)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    given = {"quantizer": ternary(dim=4), "key": key}
    function(**{name: given[name] for name in names})


def test_the_example_is_what_the_page_says(ternary):
    z = jnp.asarray([[-0.2, 0.6, -7.0, 0.4]])
    out = ternary(dim=4).quantize({}, {}, z)
    np.testing.assert_array_equal(out.z_q, [[0.0, 1.0, -1.0, 0.0]])
    assert out.codes == 1 + 2 * 3 + 0 * 9 + 1 * 27


def test_the_example_can_be_stacked_and_grouped(ternary):
    for quantizer in (RVQ(quantizer=ternary(dim=4), depth=2), GroupedVQ(quantizer=ternary(dim=2))):
        params, stats = quantizer.init(jax.random.key(0))
        out = quantizer.quantize(params, stats, jnp.ones((3, 4)))
        np.testing.assert_array_equal(quantizer.lookup(params, stats, out.codes), out.z_q)


def test_the_page_names_the_files_there_are():
    for name in re.findall(r"`(?:vqdit/quantizers/)?(\w+\.py)`", PAGE.read_text()):
        assert (Path(contract.__file__).parents[2] / "vqdit/quantizers" / name).exists() or (
            Path(contract.__file__).parent / name
        ).exists(), name
