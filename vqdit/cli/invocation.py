"""Shows the user how to start another command of vqdit."""

import shlex
import shutil
import sys
from pathlib import Path


def command(name: str) -> str:
    """Returns the command line of another command, started in the same way as this program."""
    started = Path(sys.argv[0])
    if started.stem == "vqdit":
        return f"{_shown(started)} {name}"
    script = started.with_name(f"{name}.py")
    if started.name in ("train.py", "sample.py") and script.is_file():
        return f"{_python()} {_shown(script)}"
    return f"{_python()} -m vqdit {name}"


def _python() -> str:
    """Returns "python" if this name starts this interpreter in the shell, else its path."""
    executable = Path(sys.executable)
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and Path(found).parent == executable.parent and executable.samefile(found):
            return name
    return _shown(executable)


def _shown(program: Path) -> str:
    """Returns a program's name if the shell finds it, else its path, relative if possible."""
    found = shutil.which(program.name)
    if found and Path(found).absolute() == program.absolute():
        return shlex.quote(program.name)
    if program.is_absolute() and program.is_relative_to(Path.cwd()):
        program = program.relative_to(Path.cwd())
        # Without a slash the shell would search its PATH for it.
        return shlex.quote(str(program) if len(program.parts) > 1 else f"./{program}")
    return shlex.quote(str(program))
