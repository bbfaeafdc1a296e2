"""`vqdit configure DATA --out=my_config.py`: writes a config that trains on your data."""

import math
import os
import shlex
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from vqdit.cli.invocation import command
from vqdit.cli.options import FILE, near, parsed_by, text

CPU_MINUTES, CHIP_MINUTES = 30.0, 120.0


def _minutes(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0.0 < value < math.inf:
        raise ValueError(f"must be a number above 0, got {word!r}")
    return value


def configure(
    data: Positional[Annotated[str, text("DATA")]],
    *,
    out: Annotated[str, FILE],
    want: Annotated[str | None, text("NAME,NAME")] = None,
    target: Annotated[str | None, text("TARGET")] = None,
    minutes: Annotated[float | None, parsed_by(_minutes, "NUMBER")] = None,
) -> int:
    """Write a config that trains on your data.

    Inspects the data (columns, sizes, lengths, classes, missing values) and writes a commented
    Python file with one experiment for each tokenizer and one for the generator. The models are as
    large as the machine can train in the time. The config can be used as it is, or edited.

    Args:
        data: A folder of pictures, whose sub-folders, if any, are classes; a folder in which files
            with the same name belong together, such as hello.wav and hello.txt; a table (.jsonl,
            .csv or .parquet) with one example per row; or a text, or a folder of texts.
        out: Path of the new Python file.
        want: Columns to generate; the others are only given. Default: all columns; but if there is
            only one column besides classes, only that column.
        target: Machine that will train: cpu, GPUs such as h100:1, or a TPU such as v5e:2x4.
            Default: this machine.
        minutes: Total training time in minutes. Default: 30 on a CPU, 120 elsewhere.
    """
    file = _new_file(out)
    if target is not None:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # another machine's steps are only estimated
    from vqdit.configure.deciding import plan, size
    from vqdit.configure.inspection import inspect
    from vqdit.configure.machine import machine_of
    from vqdit.configure.report import decided, described, documented, duration
    from vqdit.configure.writing import write
    from vqdit.files import write_whole
    from vqdit.parallel import use_compilation_cache

    use_compilation_cache()
    machine = machine_of(target)
    limit = minutes or (CPU_MINUTES if machine.is_cpu else CHIP_MINUTES)
    found = inspect(data)
    planned = plan(found, _wanted(want, found), machine, limit, file.with_suffix(".jsonl"))
    print("\n".join(described(found, planned.unused)), flush=True)
    try:
        configured = size(planned, machine, limit)
        options = f"--config={shlex.quote(out)}"
        workdir = f"--workdir={shlex.quote(f'runs/{file.stem}')}"
        sample = f"vqdit sample {workdir} --num=16 --out=samples"
        doc = documented(configured, [f"vqdit train {options}", sample])
        write_whole(file, write(configured, doc).encode())
    except BaseException:
        if planned.table is not None:
            planned.table.unlink(missing_ok=True)
        raise
    count = len(configured.sized)
    experiments = f"{count} experiment{'s' * (count != 1)}"
    print(f"{out}: {experiments}, about {duration(configured.seconds)} on {machine.name}")
    if configured.seconds > 1.5 * 60 * limit:
        print(
            f"  --minutes={limit:g} is too short for the smallest training that is written; the "
            "config takes longer"
        )
    print("\n".join(decided(configured)))
    if planned.table is not None:
        print(f"  {planned.table} has the examples for training")
    if not machine.is_here:
        print(f"  check its memory: {command('plan')} {options} --target={target}")
    print(f"  train: {command('train')} {options}")
    return 0


def _wanted(want: str | None, found: Any) -> list[str]:
    """Returns the columns that `--want` names.

    Raises:
        ValueError: there is no such column, or it cannot be used.
    """
    known = [column.name for column in found.columns]
    wanted = [name.strip() for name in want.split(",")] if want else []
    for name in wanted:
        if name in found.unused:
            raise ValueError(f"--want={name} cannot be used: {found.unused[name]}")
        if name not in known:
            hint = near(name, known)
            raise ValueError(
                f"--want={name} is no column of the data{hint}; give one of: {', '.join(known)}"
            )
    return wanted


def _new_file(out: str) -> Path:
    file = Path(out)
    if file.suffix != ".py":
        raise ValueError(f"--out must be a Python file, which ends in .py, got {out!r}")
    if file.exists() or file.is_symlink():
        raise ValueError(f"{out} exists already; remove it, or choose another --out")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"the folder {file.parent} of --out does not exist; create it first"
        )
    return file
