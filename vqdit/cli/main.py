"""`vqdit COMMAND ...`: runs a command, and prints a user's error as one line."""

import importlib
import keyword
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from vqdit.cli import terminal
from vqdit.escapes import LINES, escaped
from vqdit.runs import logs
from vqdit.train.exit_codes import leave

log = logging.getLogger(__name__)

COMMANDS = (
    "configure",
    "train",
    "sample",
    "chat",
    "score",
    "evaluate",
    "reconstruct",
    "average",
    "prepare",
    "import",
    "encode",
    "export",
    "plan",
    "bench",
)
PACKAGE = Path(__file__).parent.parent


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    return run(lambda: _dispatch(words))


def _dispatch(argv: list[str]) -> int:
    if argv == ["--version"]:
        import vqdit

        print(vqdit.__version__)
        return 0
    if argv and argv[0] in COMMANDS:
        return call(argv[0], argv[1:])
    if not argv or argv[0] in ("-h", "--help", "help"):
        return _list_commands() if argv else _list_commands() or 2
    if argv[0].startswith("--tyro-"):
        return _print_completion(argv)
    return _refuse(argv[0])


def call(name: str, argv: list[str]) -> int:
    """Parses the arguments of a command, and runs it."""
    from vqdit.cli import options

    command = function_of(name)
    prog = f"vqdit {name}"
    wants_help = not set(argv).isdisjoint(options.HELP)
    try:
        bound = options.bind(command, argv, prog)
    except SystemExit as end:
        rest = [word for word in argv if word not in options.HELP]
        names_config = any(word.partition("=")[0] == "--config" for word in rest)
        if wants_help and names_config and options.takes_overrides(command):
            from vqdit.cli.fields import print_fields

            call = options.bind(command, rest, prog).keywords
            print_fields(call["config"], call["overrides"], prog)
        return int(end.code or 0)
    with terminal.escaping():
        return bound()


def _list_commands() -> int:
    """Prints every command with the first line of its docstring."""
    print("usage: vqdit COMMAND [OPTIONS]\n")
    for name in COMMANDS:
        print(f"  {name:12} {(function_of(name).__doc__ or '').partition(chr(10))[0]}")
    print("\n`vqdit COMMAND --help` explains a command.")
    print('Tab completion: eval "$(vqdit --tyro-print-completion bash)" (also zsh, fish)')
    return 0


def _print_completion(argv: list[str]) -> int:
    """Prints the completion script of a shell, or writes it to a file."""
    from tyro.extras import subcommand_cli_from_dict

    from vqdit.cli.options import CONFIG

    if len(argv) < 2 or argv[1] not in ("bash", "zsh", "fish", "tcsh"):
        raise ValueError(
            f"{argv[0]} needs a shell, as in {argv[0]} bash; choose one of: bash, zsh, fish"
        )
    commands = {name: function_of(name) for name in COMMANDS}
    try:
        subcommand_cli_from_dict(commands, prog="vqdit", args=argv, config=CONFIG)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _refuse(name: str) -> int:
    from vqdit.cli.options import near

    raise ValueError(
        f"no command {name!r}{near(name, COMMANDS)}; choose one of: {', '.join(COMMANDS)}"
    )


def program() -> None:
    """Runs the command in `sys.argv`, and ends the process with the exit code of the command."""
    end(main())


def end(code: int) -> None:
    """Ends the process; if the code is not 0, does so without waiting for other threads."""
    if code:
        leave(code)
    sys.exit(0)


def function_of(name: str) -> Callable[..., int]:
    """Returns the function of a command; `import_` for `import`, which is a Python keyword."""
    name = f"{name}_" if keyword.iskeyword(name) else name
    return getattr(importlib.import_module(f"vqdit.cli.{name}"), name)


def run(command: Callable[[], int]) -> int:
    """Calls a command and returns its exit code.

    A ValueError, OSError or ImportError that vqdit raised for the user is printed as one line, and
    the exit code is 2. The error of an unknown home folder is treated in the same way. The exit
    code after Ctrl-C is 130. Any other error is a bug, and its traceback is printed.
    """
    with terminal.surviving():
        logs.to_terminal()
        if os.environ.get("JAX_ENABLE_X64", "0").lower() not in ("", "0", "false", "off"):
            os.environ["JAX_ENABLE_X64"] = "0"
            log.warning("JAX_ENABLE_X64 is ignored: vqdit computes with 32-bit numbers")
        return _ended(command)


def _ended(command: Callable[[], int]) -> int:
    try:
        return command()
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.strerror}: {error.filename}"
        else:
            message = str(error)
        if _is_ours(error):
            print(f"error: {escaped(message)}", file=sys.stderr)
            return 2
        print(escaped(traceback.format_exc(), keep=LINES), end="", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        print(
            "error: your home folder, where vqdit stores files, is unknown; set HOME",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_ours(error: BaseException) -> bool:
    """Returns whether vqdit raised an error for the user; an error inside JAX is a bug."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, OSError) or last.is_relative_to(PACKAGE)


if __name__ == "__main__":
    program()
