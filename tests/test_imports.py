"""The walls: each outside library has its own rooms, and lower layers never import higher ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "vqdit"
FILES = sorted(PACKAGE.rglob("*.py"))

WALLS = {
    "flax": ("nn/", "models/"),
    "orbax": ("checkpoint.py",),
    "grain": ("data/",),
    "tensorflow_datasets": ("data/",),
    "array_record": ("data/",),
    "tyro": ("cli/",),
    "jax.sharding": ("sharding.py",),
    "torch": (),
    "diffusers": (),
    "safetensors": ("pretrained/",),
    "tensorflow": (),
    "chex": (),
}
LAYERS = [
    {
        "typing",
        "random",
        "platform",
        "chips",
        "hlo",
        "manifest",
        "distributed",
        "logs",
        "masking",
    },
    {"flops"},
    {"sharding", "leaves"},
    {"quantizers", "regularizers", "processes", "metrics", "nn"},
    {"samplers", "models"},
    {"losses"},
    {"data"},
    {"modalities"},
    {"tasks", "optimizers", "ema", "checkpoint"},
    {"experiment"},
    {"config"},
    {"train"},
    {"tokenizer", "generator"},
    {"api"},
    {"pretrained"},
    {"attribution"},
    {"explain", "evaluation", "bench", "plan"},
    {"cli"},
]


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
    parts = module.split(".")
    room = parts[1] if len(parts) > 1 else ""
    return next((number for number, rooms in enumerate(LAYERS) if room in rooms), None)


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


def test_devices_are_known_to_sharding_alone():
    words = ("NamedSharding", "PartitionSpec", "make_mesh", "SingleDeviceSharding", "psum", "pmap")
    for file in FILES:
        if file.name == "sharding.py":
            continue
        names = {
            n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)
        }
        assert not names & set(words), file


def test_every_module_is_in_a_layer():
    for file in FILES:
        name = file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")
        if name not in ("__init__", "__main__"):
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


@pytest.mark.parametrize(
    "program",
    [
        "import vqdit",
        "from vqdit.cli.main import main; main(['--help'])",
        "from vqdit.cli.train import main; main(['--help'])",
        "from vqdit.cli.sample import main; main(['--help'])",
        "from vqdit.cli.prepare import main; main(['--help'])",
        "from vqdit.cli.import_ import main; main(['--help'])",
        "from vqdit.cli.reconstruct import main; main(['--help'])",
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
