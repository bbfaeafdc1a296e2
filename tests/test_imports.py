"""The walls: each outside library has its own rooms, and lower layers never import higher ones."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vqdit"
FILES = sorted(PACKAGE.rglob("*.py"))

WALLS = {
    "flax": ("nn/", "models/"),
    "orbax": ("runs/checkpoints.py", "runs/checkpoint_retention.py"),
    "grain": ("data/",),
    "tensorflow_datasets": ("data/",),
    "array_record": ("data/",),
    "tyro": ("cli/",),
    "jax.sharding": ("parallel/",),
    "torch": (),
    "diffusers": (),
    "safetensors": ("pretrained/",),
    "tensorflow": (),
    "chex": (),
    "matplotlib": ("cli/report/",),
    "jinja2": ("cli/report/",),
    "pyarrow": ("data/",),
    "soundfile": ("modalities/",),
    "tokenizers": ("modalities/units.py",),
    "soxr": ("modalities/",),
    "av": ("modalities/",),
    "pocketsphinx": ("evaluation/",),
}
LAYERS = """
typing rules files escapes random precision masked_mean ragged train.exit_codes train.preemption
runs.logs runs.file_checksums runs.orbax_paths runs.failed_saves
profiling.accelerators profiling.compiled_program
parallel
profiling.flops
quantizers regularizers processes metrics nn runs.array_trees runs.array_fingerprints
samplers models
losses
modalities
data
optim runs.checkpoints runs.checkpoint_retention runs.checkpoint_verification
tasks
config
runs.component_files runs.workdir runs.lock runs.frozen_arrays runs.restoring
inference.requests inference.scoring inference.templates
inference.examples inference.clips inference.pieces inference.waveforms
inference.tokenizer
inference.generator inference.loading
train
pretrained
inference.attribution
inference.explanation evaluation profiling.benchmark profiling.plan profiling.targets
configure
cli
"""
"""From the lowest layer to the highest: a module imports from its own line and those above it.

A room stands for all of its modules that are not named themselves.
"""


@functools.cache
def imports(file: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> int | None:
    """Returns the line of `LAYERS` that has the module, or its room."""
    lines = [line.split() for line in LAYERS.strip().splitlines()]
    parts = module.split(".")[1:]
    for count in (2, 1):
        name = ".".join(parts[:count])
        for number, rooms in enumerate(lines):
            if name in rooms:
                return number
    return None


@pytest.mark.parametrize("library", WALLS)
def test_a_library_stays_behind_its_wall(library):
    for file in FILES:
        name = file.relative_to(PACKAGE).as_posix()
        uses = any(
            module == library or module.startswith(library + ".") for module in imports(file)
        )
        allowed = any(name == room or name.startswith(room) for room in WALLS[library])
        assert allowed or not uses, f"{name} imports {library}"


@pytest.mark.parametrize("library", [name for name, rooms in WALLS.items() if rooms])
def test_each_wall_has_something_behind_it(library):
    """Keeps the check above honest: it does find the imports that there are."""
    users = [file for file in FILES if any(m.startswith(library) for m in imports(file))]
    assert users or library == "array_record"


def test_devices_are_known_to_parallel_alone():
    words = ("NamedSharding", "PartitionSpec", "make_mesh", "SingleDeviceSharding", "psum", "pmap")
    for file in FILES:
        if file.parent.name == "parallel":
            continue
        names = {
            n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)
        }
        assert not names & set(words), file


def test_every_module_is_in_a_layer():
    for file in FILES:
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if file.stem not in ("__init__", "__main__"):
            assert layer(f"vqdit.{name}") is not None, f"{name} has no layer"


def test_lower_layers_never_import_higher_ones():
    for file in FILES:
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if name in ("__init__", "__main__"):
            continue
        own = layer(f"vqdit.{name}")
        for module in imports(file):
            if module.startswith("vqdit."):
                other = layer(module)
                assert other is None or other <= own, f"{name} imports {module}"


def test_no_module_imports_itself_through_others():
    """Imports within functions and under TYPE_CHECKING count too."""
    names = {f: ".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in FILES}
    names = {file: name.removesuffix(".__init__") for file, name in names.items()}
    graph: dict[str, set[str]] = {}
    for file, name in names.items():
        found = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom) and node.module:
                pairs = [(node.module, f"{node.module}.{alias.name}") for alias in node.names]
                found |= {inner if inner in names.values() else outer for outer, inner in pairs}
        graph[name] = found & set(names.values())
    circle = []
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        circle = error.args[1]
    assert circle == []


@pytest.mark.parametrize(
    "program",
    [
        "import vqdit",
        "from vqdit.cli.main import main; main(['--help'])",
        "from vqdit.cli.main import main; main(['train', '--help'])",
        "from vqdit.cli.main import main; main(['sample', '--help'])",
        "from vqdit.cli.main import main; main(['prepare', '--help'])",
        "from vqdit.cli.main import main; main(['import', '--help'])",
        "from vqdit.cli.main import main; main(['reconstruct', '--help'])",
    ],
)
def test_help_and_import_load_no_jax(program):
    check = f"{program}\nimport sys; assert 'jax' not in sys.modules; print('no jax')"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert out.stdout.endswith("no jax\n")


def test_no_assert_outside_tests():
    for file in FILES:
        found = [
            n.lineno for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Assert)
        ]
        assert not found, f"{file}: {found}"


ANNOTATIONS = """
import importlib, inspect, sys, typing

def check(owner, module):
    for item in vars(owner).values():
        item = item.fget if isinstance(item, property) else item
        item = getattr(item, "func", getattr(item, "__func__", item))  # cached, class, static
        if getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(item) or inspect.isclass(item):
            typing.get_type_hints(item, localns={"ArrayTree": typing.Any})  # Optax's, recursive
            seen.append(item)
        if inspect.isclass(item) and item is not owner:
            check(item, module)

seen = []
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    check(module, module)
print(len(seen))
"""


def test_annotations_name_only_what_is_imported():
    """A linter cannot tell a forgotten import from an axis of jaxtyping."""
    names = [".".join(f.relative_to(PACKAGE.parent).with_suffix("").parts) for f in FILES]
    names = [name for name in names if not name.endswith(("__main__", "__init__"))]
    argv = [sys.executable, "-c", ANNOTATIONS, *names]  # of its own: the hints are kept by typing
    ended = subprocess.run(argv, capture_output=True, text=True, cwd=PACKAGE.parent)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert int(ended.stdout) > 4000
