"""What the commands share: reading options, and naming one another to the user."""

import difflib
import functools
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FLOAT32_MAX = 3.4028234e38
KINDS = {int: "an integer", float: "a number", str: "a text"}
HELP = ("-h", "--help")


class Integer(NamedTuple):
    """What an option takes that is an integer within bounds.

    Attributes:
        rule: how they are told.
        least: the least one.
        end: all are below it.
    """

    rule: str
    least: int
    end: float = math.inf


COUNT = Integer("at least 1", 1)
SEED = Integer("from 0 to 2^32 - 1", 0, 2**32)
Kind = type | Integer
Command = Callable[[list[str]], int]


def with_help(usage: str) -> Callable[[Command], Command]:
    """Makes a command print its usage, and do nothing else, if it is asked for help."""

    def wrap(run: Command) -> Command:
        @functools.wraps(run)
        def main(argv: list[str]) -> int:
            if not set(argv).isdisjoint(HELP):
                print(usage)
                return 0
            return run(argv)

        return main

    return wrap


def near(name: str, known: Iterable[str], before: str = "") -> str:
    """Returns "; did you mean X?" if a known name is close, else nothing; X gets `before`."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {before}{found[0]}?" if found else ""


def take(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Takes `option=VALUE` or `option VALUE` out of the arguments; the last one counts.

    Raises:
        ValueError: the option has no value.
    """
    rest, value = [], None
    arguments = iter(argv)
    for argument in arguments:
        if argument == option:
            value = _value(option, next(arguments, None))
        elif argument.startswith(f"{option}="):
            value = _value(option, argument.partition("=")[2])
        else:
            rest.append(argument)
    return value, rest


def parse(
    argv: Sequence[str],
    known: Mapping[str, Kind],
    *,
    words: Sequence[str] = (),
    repeated: Sequence[str] = (),
    required: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads `--name=value` and `--name value`; underscores may stand for dashes.

    Args:
        argv: the arguments.
        known: the options and what they take; one of type bool takes no value.
        words: names of what may stand without an option, in order.
        repeated: options that may be given several times, and make lists.
        required: options that must be given.

    Raises:
        ValueError: an option is unknown or missing, has no value, or one that it does not take.
    """
    options: dict[str, Any] = {}
    arguments, expected = iter(argv), iter(words)
    for argument in arguments:
        word = None if argument.startswith("-") else next(expected, None)
        if word is not None:
            options[word] = argument
            continue
        name, equals, value = argument.partition("=")
        name = name.removeprefix("--").replace("_", "-")
        if not argument.startswith("--") or name not in known:
            hint = near(name.lstrip("-"), known, "--") or "; see --help"
            raise ValueError(f"unknown option {argument!r}{hint}")
        if known[name] is bool:
            if equals:
                raise ValueError(f"--{name} takes no value, got {value!r}")
            options[name] = True
            continue
        value = _value(f"--{name}", value if equals else next(arguments, None))
        converted = _converted(name, value, known[name])
        if name in repeated:
            options.setdefault(name, []).append(converted)
        else:
            options[name] = converted
    if missing := [f"--{name}" for name in required if name not in options]:
        are = "is" if len(missing) == 1 else "are"
        raise ValueError(f"{' and '.join(missing)} {are} missing; see --help")
    return options


def _value(option: str, value: str | None) -> str:
    if value is None or value == "" or value.startswith("--"):
        raise ValueError(f"{option} needs a value, as in {option}=...")
    return value


def _converted(name: str, value: str, kind: Kind) -> Any:
    if isinstance(kind, Integer):
        number = _converted(name, value, int)
        if not kind.least <= number < kind.end:
            raise ValueError(f"--{name} must be {kind.rule}, got {number}")
        return number
    try:
        converted = kind(value)
    except ValueError as error:
        raise ValueError(f"--{name} must be {KINDS[kind]}, got {value!r}") from error
    if kind is float and not abs(converted) <= FLOAT32_MAX:  # not NaN either
        raise ValueError(f"--{name} must be finite, got {value!r}")
    return converted


def command(name: str) -> str:
    """Returns how to start another command, in the way in which this program was started."""
    started = Path(sys.argv[0])
    if started.stem == "vqdit":
        return f"{_shown(started)} {name}"
    script = started.with_name(f"{name}.py")
    if started.name in ("train.py", "sample.py") and script.is_file():
        return f"{_python()} {_shown(script)}"
    return f"{_python()} -m vqdit {name}"


def _python() -> str:
    """The interpreter: "python" if that is what the shell would find, else its path."""
    executable = Path(sys.executable)
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).parent == executable.parent and executable.samefile(found):
            return name
    return _shown(executable)


def _shown(program: Path) -> str:
    """A program as one types it: by name if the shell finds it, from here if it is below."""
    found = shutil.which(program.name)
    if found and Path(found).absolute() == program.absolute():
        return shlex.quote(program.name)
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
        # Without a slash the shell would search its PATH for it.
        return shlex.quote(str(program) if len(program.parts) > 1 else f"./{program}")
    return shlex.quote(str(program))
