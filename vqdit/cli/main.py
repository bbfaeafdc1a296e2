"""`vqdit COMMAND ...`: finds the command, and turns errors of its user into plain messages."""

import importlib
import keyword
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from vqdit.cli.options import near
from vqdit.runs import logs
from vqdit.train.exit_codes import leave

COMMANDS = {
    "train": "train the experiments of a config",
    "sample": "generate from a trained model",
    "score": "say which candidate fits what is given best",
    "evaluate": "measure how well modalities agree",
    "reconstruct": "show what a tokenizer keeps of its data",
    "average": "make a workdir of parameters averaged after training",
    "prepare": "prepare a data set",
    "import": "make a workdir of a public tokenizer or DiT",
    "encode": "encode a data set once and for all by a tokenizer",
    "export": "make a folder of diffusers of a trained DiT",
    "plan": "say what a training will need on accelerators that are not here",
    "bench": "time the training and sampling of a DiT",
}
PACKAGE = Path(__file__).parent.parent
USAGE = """usage: vqdit COMMAND [OPTIONS]

{commands}

`vqdit COMMAND --help` explains a command."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        commands = "\n".join(f"  {name:12} {text}" for name, text in COMMANDS.items())
        print(USAGE.format(commands=commands))
        return 0 if argv else 2
    if argv[0] == "--version":
        import vqdit

        print(vqdit.__version__)
        return 0
    if argv[0] not in COMMANDS:
        hint = near(argv[0], COMMANDS)
        print(
            f"error: no command {argv[0]!r}{hint}; one of: {', '.join(COMMANDS)}", file=sys.stderr
        )
        return 2
    return run(importlib.import_module(f"vqdit.cli.{module_of(argv[0])}").main, argv[1:])


def program() -> None:
    """The program: runs the command of the shell, and ends with its exit code."""
    end(main())


def end(code: int) -> None:
    """Ends the process; after a failure or an interruption also if some thread still hangs."""
    if code:
        leave(code)
    sys.exit(0)


def module_of(command: str) -> str:
    """Returns the name of a command's module: `import` is a word of Python's, so import_."""
    return f"{command}_" if keyword.iskeyword(command) else command


def run(command: Callable[[list[str]], int], argv: list[str] | None = None) -> int:
    """Runs one command.

    Bad input (ValueError, OSError, ImportError) ends with its message and code 2, Ctrl-C with 130;
    anything else is a defect, and shows where it happened.
    """
    logs.to_terminal()
    try:
        return command(sys.argv[1:] if argv is None else argv)
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, OSError) and error.filename and error.strerror:
            message = f"{error.strerror}: {error.filename}"
        else:
            message = str(error)
        if _is_ours(error):
            print(f"error: {message}", file=sys.stderr)
            return 2
        traceback.print_exc()
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _is_ours(error: BaseException) -> bool:
    """True if our code raised it for its user; a ValueError from within JAX is a defect."""
    last = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, OSError) or last.is_relative_to(PACKAGE)


if __name__ == "__main__":
    program()
