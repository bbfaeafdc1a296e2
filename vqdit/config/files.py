"""Config files: Python files with `def config()`, given by path or by name of a shipped config.

`config()` returns an `Experiment`, or a dict of named experiments, which are run in order. Options
of the command line override fields (`vqdit.cli.overrides`).
"""

import difflib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Any

from vqdit.config.experiment import Experiment
from vqdit.config.old_names import update_source
from vqdit.config.serialization import ConfigError, from_json, to_json
from vqdit.files import local_path

Config = Experiment | dict[str, Experiment]


def shipped() -> dict[str, Path]:
    """Returns the configs that come with vqdit, keyed by name."""
    here = Path(__file__).parent.parent
    for folder in (here / "configs", here.parent / "configs"):  # in a wheel, or in a checkout
        if folder.is_dir():
            files = sorted(folder.rglob("*.py"))
            return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
    return {}


def load(name: str) -> tuple[str, Config]:
    """Loads a config.

    Args:
        name: path of a Python file, or the name of a shipped config such as "image/fashion_dit".

    Returns:
        The name of the config (the file name without folder and ending), and the config.

    Raises:
        ConfigError: the file does not exist, has no `config()`, raises an error, or its `config()`
            returns something else.
    """
    known = shipped()
    file = local_path(name) if local_path(name).is_file() else known.get(name.removesuffix(".py"))
    if file is None:
        near = difflib.get_close_matches(Path(name).stem, [Path(n).name for n in known], n=1)
        hint = [shown for shown in known if Path(shown).name in near]
        raise ConfigError(
            f"no config {name!r}{f'; did you mean {hint[0]!r}?' if hint else ''}; "
            f"give the path of a Python file, or one of: {', '.join(known)}"
        )
    spec = importlib.util.spec_from_file_location(f"vqdit_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file; the name of a config must end in .py")
    module = importlib.util.module_from_spec(spec)
    if file not in known.values() and (folder := str(file.absolute().parent)) not in sys.path:
        sys.path.append(folder)  # it may import modules from its folder, also in workers
    try:
        source, path = file.read_text(encoding="utf-8"), str(file.absolute())
        exec(compile(update_source(source, path), path, "exec"), vars(module))
        if not callable(getattr(module, "config", None)):
            raise ConfigError(
                f"{file} has no function config(); a config defines `def config() -> Experiment`, "
                "or returns a dict of named experiments"
            )
        result = module.config()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{_where(error, file)}: {type(error).__name__}: {error}") from error
    _check(result, file)
    return file.stem, result


def _where(error: BaseException, file: Path) -> str:
    """Returns "FILE:LINE", the last line of the config file in the traceback of an error."""
    frames, name = traceback.extract_tb(error.__traceback__), str(file.absolute())
    lines = [frame.lineno for frame in frames if frame.filename == name]
    if isinstance(error, SyntaxError) and error.filename == name:
        lines.append(error.lineno)
    return f"{file}:{lines[-1]}" if lines else str(file)


def _check(result: Any, file: Path) -> None:
    named = result if isinstance(result, dict) else {"experiment": result}
    if not named or not all(isinstance(value, Experiment) for value in named.values()):
        wrong = [value for value in named.values() if not isinstance(value, Experiment)]
        got = f"a dict with {_described(wrong[0])}" if wrong and named is result else ""
        raise ConfigError(
            f"config() in {file} must return an Experiment or a dict of named experiments, got "
            f"{got or _described(result)}"
        )
    for name, experiment in named.items():
        if not str(name).isidentifier():
            raise ConfigError(
                f"{file}: names of experiments must be Python identifiers, such as 'tokenizer', "
                f"got {name!r}"
            )
        try:
            from_json(to_json(experiment))
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error


def _described(value: Any) -> str:
    return "an empty dict" if value == {} else type(value).__name__
