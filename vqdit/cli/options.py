"""Options of commands: types that tyro parses, and one-line errors for invalid command lines."""

import difflib
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, get_type_hints

import tyro
from tyro import _errors as events  # tyro has no public hook for parsing errors: pinned to tyro 1.0
from tyro.constructors import PrimitiveConstructorSpec

from vqdit import rules
from vqdit.files import local_path
from vqdit.rules import Integer, finite

HELP = ("-h", "--help")
CONFIG = (tyro.conf.FlagCreatePairsOff,)

Repeated = Annotated[list[str], tyro.conf.UseAppendAction]
"""An option that may be given several times."""
Overrides = Annotated[tuple[str, ...], tyro.conf.Suppress, tyro.conf.Fixed]
"""Collects all arguments that are not options of the command."""


def parsed_by(
    parse: Callable[[str], Any], metavar: str, choices: tuple[str, ...] | None = None
) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of an option with one value, which `parse` converts.

    Args:
        parse: converts the value; raises ValueError with a message such as "must be above 0", which
            is printed after the option's name.
        metavar: placeholder of the value in the help.
        choices: all allowed values, or None.
    """

    def from_words(words: list[str]) -> Any:
        return parse(words[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=from_words,
        is_instance=lambda value: not isinstance(value, list | tuple),
        str_from_instance=lambda value: [str(value)],
        choices=choices,
    )


def integer(rule: Integer) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of an integer that satisfies a rule."""

    def parse(word: str) -> int:
        try:
            value = int(word)
        except ValueError as error:
            raise ValueError(f"must be an integer, got {word!r}") from error
        return rule(value)

    return parsed_by(parse, "INT")


def text(metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of a text whose placeholder in the help is `metavar`."""
    return parsed_by(str, metavar)


def several(count: int, metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of an option with `count` values, parsed to a tuple of texts."""
    return PrimitiveConstructorSpec(
        nargs=count,
        metavar=" ".join([metavar] * count),
        instance_from_str=tuple,
        is_instance=lambda value: value is None or isinstance(value, tuple),
        str_from_instance=lambda value: list(value or ["None"] * count),
    )


def path(metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of a local path whose placeholder in the help is `metavar`."""
    return parsed_by(lambda word: str(local_path(word)), metavar)


def choice(*names: str) -> PrimitiveConstructorSpec[Any]:
    """Returns the annotation of an option whose value is one of several names."""
    return parsed_by(str, f"{{{','.join(names)}}}", names)


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError as error:
        raise ValueError(f"must be a number, got {word!r}") from error
    return finite(value)


COUNT, STEP = integer(rules.COUNT), integer(rules.STEP)
SAMPLES, EDGE, SEED = integer(rules.SAMPLES), integer(rules.EDGE), integer(rules.SEED)
BATCH, ROUNDS = integer(rules.BATCH), integer(rules.ROUNDS)
INDEX = integer(Integer(0, 2**20, "an integer from 0 to 2^20"))
NUMBER = parsed_by(_number, "NUMBER")
FOLDER, FILE, RUN, NAME = path("DIR"), path("FILE"), path("WORKDIR"), text("NAME")
Workdir = Annotated[str, FOLDER]
Seed = Annotated[int, SEED]


def read_number(option: str, word: str) -> float:
    """Parses a number that is part of the value of an option."""
    try:
        return _number(word)
    except ValueError as error:
        raise ValueError(f"{option} {error}") from error


def near(name: str, known: Iterable[str], before: str = "") -> str:
    """Returns "; did you mean X?" if a known name X is close, else ""; `before` precedes X."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {before}{found[0]}?" if found else ""


def takes_overrides(command: Callable[..., int]) -> bool:
    """Returns whether unknown arguments of the command are overrides of config fields."""
    return "overrides" in inspect.signature(command).parameters


def _binder(command: Callable[..., int]) -> Callable[..., functools.partial[int]]:
    return lambda *args, **options: functools.partial(command, *args, **options)


def documented(command: Callable[..., int]) -> Callable[..., functools.partial[int]]:
    """Returns a function that has the signature of a command, and only binds the arguments.

    The function returns `functools.partial` of the command with its arguments. tyro reads its
    docstring, which has one line per argument; the help omits "default: None".
    """
    parsed = _binder(command)
    kinds = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    for name, parameter in signature.parameters.items():
        if parameter.default is None:
            kinds[name] = Annotated[kinds[name], tyro.conf.arg(help_behavior_hint="")]
    parsed.__name__ = command.__name__
    parsed.__annotations__ = kinds
    # tyro would otherwise ask for the arguments of `parsed` itself.
    parsed.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
    parsed.__doc__ = re.sub(r"\n {8,}", " ", inspect.getdoc(command) or "")
    return parsed


def bind(command: Callable[..., int], argv: Sequence[str], prog: str) -> functools.partial[int]:
    """Parses the arguments of a command with tyro; returns `functools.partial` of the command.

    Raises:
        ValueError: an argument is unknown, missing, repeated or malformed.
        SystemExit: tyro has printed the help or a completion script.
    """
    kinds = get_type_hints(command, include_extras=True)
    names = [name.replace("_", "-") for name in kinds if name not in ("return", "overrides")]
    if set(argv).isdisjoint(HELP):
        _check(argv, {name: kinds[name.replace("-", "_")] for name in names})

    parsed = documented(command)

    def fail(event: events.ParseErrorEvent) -> None:
        raise ValueError(_message(event, names))

    with events.on_parse_error(fail):
        if takes_overrides(command):
            call, rest = tyro.cli(
                parsed, args=argv, prog=prog, config=CONFIG, return_unknown_args=True
            )
            return functools.partial(call, overrides=tuple(rest))
        return tyro.cli(parsed, args=argv, prog=prog, config=CONFIG)


def _check(argv: Sequence[str], kinds: dict[str, Any]) -> None:
    """Rejects what tyro accepts: repeated options, empty values, and values of flags."""
    seen = set()
    for argument in argv:
        name, equals, value = argument.partition("=")
        name = name.removeprefix("--").replace("_", "-")
        if not argument.startswith("--") or name not in kinds:
            continue
        if equals and kinds[name] is bool:
            raise ValueError(f"--{name} takes no value, got {value!r}")
        if equals and not value:
            raise ValueError(f"--{name} needs a value, as in --{name}=...")
        if name in seen and kinds[name] != Repeated:
            raise ValueError(f"--{name} is given twice; give it once")
        seen.add(name)


def _message(event: events.ParseErrorEvent, names: Sequence[str]) -> str:
    """Returns a one-line description of a parsing error of tyro."""
    if isinstance(event, events.UnrecognizedArgs):
        hint = _hint(event.tokens[0], names) or _path_hint(event.tokens[0]) or "; see --help"
        return f"unknown option {event.tokens[0]!r}{hint}"
    if isinstance(event, events.MissingArgs):
        for token in event.unrecognized_tokens:
            if hint := _hint(token, names):
                return f"unknown option {token!r}{hint}"
        missing = [one.arg for one in event.missing_arguments]
        shown = f"{' and '.join(map(_shown, missing))} {'are' if missing[1:] else 'is'} missing"
        named = [one for one in missing if not one.is_positional()]
        examples = " ".join(f"{_shown(one)}={one.lowered.metavar}" for one in named)
        return f"{shown}{f'; give {examples}' if named else ''}; see --help"
    if isinstance(event, events.BadValue) and event.argument.is_positional():
        return f"{_shown(event.argument)} is missing; see --help"
    if isinstance(event, events.BadValue):
        name = _shown(event.argument)
        return f"{name} needs a value, as in {name}=..."
    if isinstance(event, events.InvalidChoice):
        choices = ", ".join(event.choices)
        return f"{_shown(event.argument)} must be one of {choices}, got {event.value!r}"
    if isinstance(event, events.InstantiationFailure) and event.argument is not None:
        return f"{_shown(event.argument)} {event.message}"
    return f"{type(event).__name__}; see {event.prog} --help"


def _hint(token: str, names: Sequence[str]) -> str:
    return near(token.partition("=")[0].lstrip("-").replace("_", "-"), names, "--")


def _path_hint(token: str) -> str:
    return f"; write ./{token} for the file or folder" if os.path.lexists(token) else ""


def _shown(argument: Any) -> str:
    if argument.is_positional():
        return str(argument.lowered.metavar)
    return argument.lowered.name_or_flags[-1]
