"""Configs: found by path or name, refused with the reason, written as JSON and read back."""

import ast
import dataclasses
import importlib
import json
import math
import re
import sys
from typing import get_type_hints

import pytest

from tests import tiny
from vqdit import config, processes
from vqdit.cli.overrides import override
from vqdit.config import (
    ConfigError,
    Difference,
    Experiment,
    NonFinite,
    Profile,
    Timeouts,
    old_names,
)
from vqdit.data import Affine, Data, Digits, HorizontalFlip
from vqdit.models import DiT
from vqdit.optim import AdamW, PosthocEMA
from vqdit.parallel import Mesh
from vqdit.quantizers import VQ
from vqdit.samplers import Unmasking
from vqdit.tasks import CodeTarget, DiffusionTask
from vqdit.typing import Component, Named

GOOD = "from vqdit.config import Experiment\n\n\ndef config():\n    return "


def write(folder, text, name="mine.py"):
    file = folder / name
    file.write_text(text)
    return str(file)


def test_a_file_is_loaded_and_named_after_itself(tmp_path):
    found = config.load(write(tmp_path, GOOD + "Experiment(steps=7)"))
    assert found == ("mine", Experiment(steps=7))


def test_a_dict_keeps_its_order(tmp_path):
    _, found = config.load(
        write(tmp_path, GOOD + "{'z': Experiment(steps=1), 'a': Experiment(steps=2)}")
    )
    assert found == {"z": Experiment(steps=1), "a": Experiment(steps=2)}
    assert list(found) == ["z", "a"]


def test_a_shipped_config_is_found_by_name_with_or_without_its_ending():
    assert config.load("image/fashion_dit") == config.load("image/fashion_dit.py")
    assert config.load("quickstart")[0] == "quickstart"
    assert list(config.load("quickstart")[1]) == ["image", "audio", "joint"]


def test_a_file_here_goes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, GOOD + "Experiment(steps=7)", "quickstart.py")
    assert config.load("quickstart.py")[1] == Experiment(steps=7)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("quickstrt", "quickstart"),
        ("configs/quickstart.py", "quickstart"),  # as in the README, away from the checkout
        ("fashion_dit", "image/fashion_dit"),
    ],
)
def test_a_missing_config_is_refused_with_the_nearest(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        config.load(name)
    start = f"no config {name!r}; did you mean {hint!r}?; give the path of a Python file, or one of"
    assert str(error.value).startswith(start)


def test_a_missing_config_without_a_near_one_names_them_all():
    with pytest.raises(ConfigError) as error:
        config.load("zzz.py")
    listed = str(error.value).partition("one of: ")[2].split(", ")
    assert "did you mean" not in str(error.value)
    assert listed == list(config.shipped())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 3\n", r"FILE has no function config\(\); a config defines `def config\(\) ->"),
        ("config = 3\n", r"FILE has no function config\(\)"),
        ("\nraise RuntimeError('no luck')\n", r"FILE:2: RuntimeError: no luck"),
        ("def config():\n    x = {}\n    return x['a']\n", r"FILE:3: KeyError: 'a'"),
        ("def config(:\n", r"FILE:1: SyntaxError: "),
        ("import sys\nsys.exit(0)\n", r"FILE:2: SystemExit: 0"),
        ("def config():\n    raise SystemExit\n", r"FILE:2: SystemExit: "),
        ("\n\nimport nothing_like_this\n", r"FILE:3: ModuleNotFoundError: No module named"),
        (GOOD + "Experiment(step=3)\n", r"FILE:5: TypeError: Experiment has no field 'step'; it "),
        (GOOD + "Experiment(steps=0)\n", r"FILE:5: ValueError: Experiment needs steps >= 1, got 0"),
        (GOOD + "3\n", r"config\(\) in FILE must return an Experiment or a dict .*, got int"),
        (GOOD + "None\n", r"got NoneType"),
        (GOOD + "[Experiment()]\n", r"got list"),
        (GOOD + "{}\n", r"got an empty dict"),
        (GOOD + "{'a': Experiment(), 'b': 3}\n", r"got a dict with int"),
        (GOOD + "Experiment\n", r"got type"),
        (GOOD + "{'my run': Experiment()}\n", r"such as 'tokenizer', got 'my run'"),
        (GOOD + "{3: Experiment()}\n", r"such as 'tokenizer', got 3"),
    ],
)
def test_a_bad_config_is_refused_with_its_place(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in (write(tmp_path, text), "mine.py"):  # an absolute path, and one from here
        with pytest.raises(ConfigError, match=message.replace("FILE", file)):
            config.load(file)


def test_a_file_that_is_not_python_is_refused(tmp_path):
    file = write(tmp_path, "{}", "mine.json")
    with pytest.raises(ConfigError, match=r"mine\.json is not a Python file; the name of a config"):
        config.load(file)


BY_FORCE = """
from vqdit.data import Data, Digits, HorizontalFlip
from vqdit.config import Experiment
from vqdit.modalities import Image
from vqdit.tasks import TokenizerTask


class Mine(Digits):
    pass


def config():
    experiment = Experiment(task=TokenizerTask(modality=Image()), data=Data())
    object.__setattr__(experiment.PLACE, "FIELD", VALUE)  # past the constructor
    return experiment
"""


@pytest.mark.parametrize(
    ("place", "field", "value", "message"),
    [
        (
            "",
            "data",
            "Data(source=Mine())",
            "Mine is not part of vqdit, so the workdir could not be read",
        ),
        ("", "data", "{1, 2}", "{1, 2} cannot be part of a config; use components, tuples,"),
        ("", "steps", "'many'", "Experiment.steps must be int, got 'many'"),
        ("", "steps", "2.5", "Experiment.steps must be int, got 2.5"),
        ("", "steps", "True", "Experiment.steps must be int, got True"),
        ("", "ema", "'0.9'", "Experiment.ema must be float, got '0.9'"),
        ("", "ema", "2.0", "Experiment needs ema in [0, 1), got 2.0; 0.9999 is usual"),
        ("", "data", "Digits()", "Experiment.data must be Data, got Digits(seed=0)"),
        (
            "data",
            "source",
            "Digits",
            "<class 'vqdit.data.digits.Digits'> cannot be part of a config",
        ),
        (
            "data",
            "augment",
            "[HorizontalFlip()]",
            "cannot be part of a config; use components, tup",
        ),
        (
            "data",
            "augment",
            "(Digits(),)",
            "Data.augment must be tuple[vqdit.data.augment.Augmentat",
        ),
        ("task.modality", "size", "(8, 8, 8)", "Image.size must be tuple[int, int], got (8, 8, 8)"),
        ("task.modality", "size", "8", "Image.size must be tuple[int, int], got 8"),
        (
            "task",
            "reconstruction",
            "'l3'",
            "TokenizerTask.reconstruction must be typing.Literal['l1",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_field(place, field, value, message, tmp_path):
    text = BY_FORCE.replace(".PLACE", f".{place}" if place else "")
    file = write(tmp_path, text.replace("FIELD", field).replace("VALUE", value))
    with pytest.raises(ConfigError) as error:
        config.load(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)


EXPERIMENTS = {
    "tokenizer": tiny.tokenizer(data=Data(augment=(Affine(rotate=5.0), HorizontalFlip()))),
    "masked": tiny.generator(mesh=Mesh(data=2, fsdp=4)),
    "flow": tiny.flow_generator(init_from="there"),
}


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_json_gives_an_equal_experiment_back(kind):
    experiment = EXPERIMENTS[kind]
    text = json.dumps(config.to_json(experiment))
    assert config.from_json(json.loads(text)) == experiment
    assert hash(config.from_json(json.loads(text))) == hash(experiment)


def test_json_is_plain_and_names_classes_by_module():
    assert config.to_json(Named(b=Mesh(), a=(1, 2.5, None, "x", True))) == {
        "type": "Named",
        "items": {
            "a": [1, 2.5, None, "x", True],
            "b": {"type": "vqdit.parallel.mesh:Mesh", "data": -1, "fsdp": 1, "tensor": 1},
        },
    }


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "builtins:eval",
        "vqdit.cli.main:importlib",
        "vqdit.config.files:traceback",
        "vqdit.runs.workdir:shutil",
        "vqdit.something:subprocess",
        "vqdit.typing:Component",
        "vqdit.typing:Named",
        "vqdit.config.files:ConfigError",
        "vqdit_evil:Experiment",
        "vqdit",
        "",
    ],
)
def test_json_constructs_nothing_but_our_components(name):
    with pytest.raises(ConfigError, match=f"unknown component '{name}'; the file was written by"):
        config.from_json({"type": name, "args": "touch /tmp/evil"})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"steps": 3}, "unknown component 'None'"),
        ({"type": "Named"}, "unknown component 'Named'"),
        ({"type": "Named", "items": [1]}, "unknown component 'Named'"),
        (
            {"type": "vqdit.parallel.mesh:Mesh", "rows": 3, "columns": 2},
            "Mesh has no field columns, rows; the file was written by another version of vqdit",
        ),
        (
            {"type": "vqdit.parallel.mesh:Mesh", "fsdp": 0},
            "Mesh needs fsdp >= 1",
        ),
    ],
)
def test_damaged_json_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        config.from_json(value)


def test_a_value_of_another_type_in_json_is_refused():
    value = config.to_json(Experiment()) | {"steps": "many"}
    with pytest.raises(ConfigError, match="Experiment.steps must be int, got 'many'"):
        config.from_json(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"type": ["os:system"]}, r"unknown component .*os:system"),
        ({"type": "Named", "items": {"../x": 1}}, "'../x' cannot be a name; use letters, digits"),
        ({"steps\n": 1}, r"Experiment has no field 'steps\\n'"),
        (
            {"steps": {"type": "vqdit.data.digits:Digits"}},
            r"steps must be int, got Digits\(seed=0\)",
        ),
        ({"steps": "\x1b[31m" + 999 * "x"}, r"steps must be int, got '\\x1b\[31mxxx.*'"),
        ({"type": "vqdit.models.dit:DiT", "heads": 0}, "DiT "),
    ],
)
def test_json_by_a_stranger_is_refused_in_one_short_line(value, message):
    with pytest.raises(ConfigError, match=message) as error:
        config.from_json({"type": "vqdit.config.experiment:Experiment", **value})
    assert str(error.value).isprintable() and len(str(error.value)) < 250


def test_a_number_that_is_not_finite_is_refused_before_it_is_stored():
    with pytest.raises(ConfigError, match="nan cannot be part of a config"):
        config.to_json(Named(weight=math.nan))


def test_differences_are_named_by_path_in_order_and_say_what_may_change():
    old = tiny.tokenizer()
    weights = old.task.quantizer.weights | {"commitment": 1.0}
    quantizer = dataclasses.replace(old.task.quantizer, dim=8, weights=weights)
    task = dataclasses.replace(old.task, quantizer=quantizer)
    new = tiny.changed(old, task=task, steps=9, mesh=Mesh(fsdp=2))
    assert config.differences(old, new) == [
        Difference("task.quantizer.dim", 4, 8, False),
        Difference("task.quantizer.weights.commitment", 0.25, 1.0, False),
        Difference("mesh.fsdp", 1, 2, True),
        Difference("steps", 8, 9, True),
    ]
    assert str(Difference("steps", 8, 9, True)) == "steps: 8 -> 9"


def test_another_class_is_one_difference():
    old = tiny.generator()
    process = tiny.flow_generator().task.targets
    changes = config.differences(
        old, tiny.changed(old, task=dataclasses.replace(old.task, targets=process))
    )
    assert [change.path for change in changes] == [
        "task.targets.image.process",
        "task.targets.image.sampler",
    ]


def test_other_names_are_one_difference():
    assert config.differences(Named(a=1), Named(b=1)) == [
        Difference("", Named(a=1), Named(b=1), False)
    ]


def test_equal_experiments_differ_in_nothing():
    assert config.differences(tiny.generator(), tiny.generator()) == []


def test_a_resumable_field_covers_what_is_inside():
    old, new = Experiment(mesh=Mesh(data=2)), Experiment(mesh=Mesh(data=4))
    assert config.differences(old, new) == [Difference("mesh.data", 2, 4, True)]
    old, new = Experiment(data=Data(workers=0)), Experiment(data=Data(workers=2))
    assert config.differences(old, new) == [Difference("data.workers", 0, 2, True)]
    old, new = Experiment(data=Data(source=Digits())), Experiment(data=Data(batch_size=2))
    assert [change.resumable for change in config.differences(old, new)] == [False]


def test_modules_that_the_user_calls_parts_are_read_and_no_others(tmp_path, monkeypatch):
    (tmp_path / "other.py").touch()
    (tmp_path / "my_parts.py").write_text(
        "from vqdit.typing import Component\n\n\nclass Pool(Component):\n    size: int = 2\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    written = {"type": "my_parts:Pool", "size": 3}
    with pytest.raises(ConfigError, match="unknown component 'my_parts:Pool'.*VQDIT_PARTS"):
        config.from_json(written)
    assert "my_parts" not in sys.modules
    monkeypatch.setenv("VQDIT_PARTS", "other, my_parts")
    pool = config.from_json(written)
    assert pool.size == 3 and config.to_json(pool) == written
    for name in ("my_parts_too:Pool", "my_parts:Component", "subprocess:Popen"):
        with pytest.raises(ConfigError, match="unknown component"):
            config.from_json({"type": name})


def test_modules_in_the_current_folder_are_found_and_those_that_are_nowhere_are_named(
    tmp_path, monkeypatch
):
    (tmp_path / "parts_here.py").write_text(
        "from vqdit.typing import Component\n\n\nclass Here(Component):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [part for part in sys.path if part])
    monkeypatch.setenv("VQDIT_PARTS", "parts_here")
    assert type(config.from_json({"type": "parts_here:Here"})).__name__ == "Here"
    for wrong in ("no_such_parts", "parts_here.no", "."):
        monkeypatch.setenv("VQDIT_PARTS", f"parts_here,{wrong}")
        with pytest.raises(ConfigError, match=f"VQDIT_PARTS names the module '{wrong}'"):
            config.to_json(Experiment())


def test_a_config_imports_modules_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    write(tmp_path, "STEPS = 7\n", "lengths_beside.py")
    text = "from vqdit.config import Experiment\nfrom lengths_beside import STEPS\n"
    file = write(tmp_path, text + "def config():\n    return Experiment(steps=STEPS)\n")
    assert config.load(str(file))[1].steps == 7


def test_what_is_no_component_cannot_be_written():
    class Loose(Component):
        x: int = 1

    with pytest.raises(ConfigError, match="Loose is not part of vqdit.* and set VQDIT_PARTS=mine"):
        config.to_json(Loose())
    with pytest.raises(ConfigError, match=r"\{1, 2\} cannot be part of a config"):
        config.to_json({1, 2})


OLD = {
    "type": "vqdit.experiment:Experiment",
    "deadlines": {"type": "vqdit.experiment:Deadlines", "start": 5.0},
    "nonfinite": {"type": "vqdit.experiment:NonFinite", "limit": 3},
    "profile": {"type": "vqdit.experiment:Profile", "steps": 2},
    "optimizer": {"type": "vqdit.optimizers:AdamW", "warmup": 7},
    "posthoc": {"type": "vqdit.ema:PosthocEMA", "every": 9},
    "mesh": {"type": "vqdit.sharding:Mesh", "fsdp": 2},
}
OLD_JOINT = {"single": 0.5, "clamp": 0.25, "drop": 0.125, "partial": 0.75}
JOINT = {"p_one_known": 0.5, "p_known": 0.25, "p_dropped": 0.125, "max_known_time": 0.75}
OLD_FILE = """
from vqdit.experiment import Experiment, Deadlines
from vqdit.optimizers import AdamW
from vqdit.processes import Independent
from vqdit.tasks import DiffusionTask, Symbols
from vqdit.typing import Named


def config():
    joint = Independent(single=0.5, clamp=0.25, drop=0.125, partial=0.75)
    task = DiffusionTask(targets=Named(label=Symbols()), joint=joint)
    return Experiment(task=task, optimizer=AdamW(warmup=7), deadlines=Deadlines(start=5.0))
"""


@pytest.fixture
def notices(caplog, monkeypatch):
    monkeypatch.setattr(old_names, "_NOTICED", set())
    caplog.set_level("INFO", "vqdit")
    return lambda: [text for text in caplog.messages if "old names are replaced" in text]


def test_json_with_old_names_is_read_with_one_notice(notices):
    found = config.from_json(OLD)
    assert found == Experiment(
        timeouts=Timeouts(start=5.0),
        nonfinite=NonFinite(limit=3),
        profile=Profile(steps=2),
        optimizer=AdamW(warmup=7),
        posthoc=PosthocEMA(every=9),
        mesh=Mesh(fsdp=2),
    )
    assert len(notices()) == 1 and "deadlines -> timeouts" in notices()[0]
    for module, name in [("bench", "Latents"), ("checkpoint", "Keep"), ("ema", "Averaging")]:
        moved = old_names.update_json({"type": f"vqdit.{module}:{name}"})["type"].split(":")
        assert hasattr(importlib.import_module(moved[0]), moved[1])
    for name in ("Conditional", "Independent", "Shared", "Unbalanced"):
        cls = getattr(processes, name)
        old = {"type": f"{cls.__module__}:{name}", **OLD_JOINT}
        assert config.from_json(old) == cls(**JOINT)


def test_a_file_with_old_names_is_read_with_one_notice(tmp_path, notices):
    (_, found) = config.load(write(tmp_path, OLD_FILE))
    targets = Named(label=CodeTarget())
    task = DiffusionTask(targets=targets, joint=processes.Independent(**JOINT))
    optimizer, timeouts = AdamW(warmup=7), Timeouts(start=5.0)
    today = Experiment(task=task, optimizer=optimizer, timeouts=timeouts)
    assert found == today
    assert len(notices()) == 1


IMPORT = "from vqdit.experiment import Experiment, Deadlines"


@pytest.mark.parametrize(
    ("line", "experiment", "deadlines"),
    [
        ("from vqdit.experiment import Experiment as E, Deadlines as D", "E", "D"),
        ("import vqdit.experiment as e", "e.Experiment", "e.Deadlines"),
        ("import vqdit.experiment", "vqdit.experiment.Experiment", "vqdit.experiment.Deadlines"),
    ],
)
def test_old_names_are_found_however_they_are_imported(tmp_path, line, experiment, deadlines):
    assert IMPORT in OLD_FILE
    file = OLD_FILE.replace(IMPORT, line)
    file = file.replace(" Experiment(", f" {experiment}(").replace("=Deadlines(", f"={deadlines}(")
    found = config.load(write(tmp_path, file))[1]
    assert (found.timeouts, found.optimizer) == (Timeouts(start=5.0), AdamW(warmup=7))


@pytest.mark.parametrize("field", ["tokenizer", "inpaint", "posterior"])
def test_removed_fields_are_dropped_where_they_changed_nothing(field):
    dropped = old_names.REMOVED_FIELDS["CodeTarget"][field]
    old = {"type": "vqdit.tasks.targets:Symbols"}
    assert config.from_json({**old, field: dropped}) == CodeTarget()
    with pytest.raises(config.ConfigError, match=field):
        config.from_json({**old, field: "mine"})
    for value, is_dropped in [(dropped, True), ("mine", False)]:
        source = f"from vqdit.tasks import Symbols\nt = Symbols({field}={value!r})"
        current = ast.unparse(old_names.update_source(source, "mine.py"))
        assert (field not in current) == is_dropped


def test_options_with_old_names_work_and_new_names_give_no_notice(notices):
    task = DiffusionTask(targets=Named(label=CodeTarget()), joint=processes.Independent())
    now = override(Experiment(task=task), ["--timeouts.start=5", "--task.joint.p-one-known=0.5"])
    assert config.from_json(config.to_json(now)) == now and notices() == []
    old = override(Experiment(task=task), ["--deadlines.start=5", "--task.joint.single=0.5"])
    assert old == now
    assert len(notices()) == 1
    assert override(old, ["--task.targets.label=Symbols"]) == now
    assert "Symbols -> CodeTarget" in notices()[-1]


@pytest.mark.parametrize(
    ("cls", "field", "value", "known"),
    [
        (VQ, "distance", "cosin", "'euclidean', 'cosine'"),
        (DiT, "positions", "rotary", "'rope'"),
        (DiT, "remat", "all", "'attention'"),
        (Unmasking, "order", ["halton"], "'confidence'"),
        (Experiment, "log_to", ("wandb", "wandbe"), "'tensorboard', 'wandb'"),
    ],
)
def test_a_value_that_a_field_does_not_list_is_refused_where_it_is_made(cls, field, value, known):
    got = value[-1] if isinstance(value, tuple) else value
    message = f"^{cls.__name__}.{field} must be one of .*{known}.*, got {re.escape(repr(got))}$"
    with pytest.raises(ValueError, match=message):
        cls(**{field: value})


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda x: AdamW(learning_rate=x), "AdamW.learning_rate"),
        (lambda x: Unmasking(temperature=x), "Unmasking.temperature"),
        (lambda x: DiffusionTask(guidance=x), "DiffusionTask.guidance"),
        (lambda x: dataclasses.replace(tiny.tokenizer(), ema=x), "Experiment.ema"),
        (lambda x: PosthocEMA(widths=(0.05, x)), "PosthocEMA.widths"),
        (lambda x: VQ(weights=Named(commitment=x)), "VQ.weights"),
    ],
)
def test_numbers_of_a_component_are_finite(make, field):
    for number in (math.nan, math.inf, -1e39):
        with pytest.raises(
            ValueError, match=f"^{field} must be finite, got {re.escape(str(number))}$"
        ):
            make(number)


def components():
    def derived(cls):
        for each in cls.__subclasses__():
            yield each
            yield from derived(each)

    for room in ("losses", "models", "processes", "quantizers", "samplers", "tasks"):
        importlib.import_module(f"vqdit.{room}")
    return sorted(
        {cls for cls in derived(Component) if cls.__module__.startswith("vqdit.")},
        key=lambda cls: (cls.__module__, cls.__qualname__),
    )


def test_every_component_answers_bad_values_by_an_error_of_its_own():
    """0, -1, NaN and unknown choices: accepted or a ValueError, never a division by zero."""
    for cls in components():
        kinds = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            kind = kinds[field.name]
            has_choice = "Literal" in str(kind)
            bad = ["nonsense"] if has_choice else [math.nan] if kind is float else [0, -1]
            if not (has_choice or kind in (int, float)):
                continue
            for value in bad:
                try:
                    cls(**{field.name: value})
                except ValueError:
                    continue
                except TypeError as error:
                    assert "missing" in str(error)  # fields without a default
                    continue
                assert kind is int, f"{cls.__name__} takes {field.name}={value!r}"
