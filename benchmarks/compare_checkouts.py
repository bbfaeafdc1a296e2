"""Checks that two checkouts of vqdit compute the same numbers, bit for bit.

    python -m benchmarks.compare_checkouts --old=../before --new=.
    python -m benchmarks.compare_checkouts --old=../before --new=. --only=digits,FSQ --out=DIR

For a change that must not change a number, such as a reorganisation. The same small trainings run
in both checkouts with the same Python, seeds and options (one process per case, `PYTHONPATH` and
current folder set to the checkout): the digits, the quickstart, a VQGAN and a flow over
Fashion-MNIST (`vqdit prepare fashion_mnist`), and a tokenizer for each quantizer. Trained models
then sample, score and reconstruct. The comparison covers every number of every `metrics.jsonl`,
`result.json`, `scores.json` and reconstruction report as its exact JSON text, and every array of
every `samples.npz` and `reconstructions.npz` as its bytes.

The program prints a table and exits with code 1 if anything differs or a command fails; `log.txt`
in the case's folder shows why it failed. Results of the old checkout are reused as long as its
commit, the case and the installed JAX are the same and its tracked files are unmodified; the new
checkout always runs. Numbers depend on the processor and the versions of libraries, so compare
results of one machine only. One checkout takes about nine minutes of CPU time.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RENAMED: dict[str, str] = {}
"""Names of metrics that changed: old name -> new name. Options keep their old names, which stay
valid."""

NUMBERS = ("metrics.jsonl", "result.json", "scores.json", "metrics.json")
ARRAYS = ("samples.npz", "reconstructions.npz")
FAILED, STAMP = "failed.txt", "stamp.json"

WORKER = """
import json, pathlib, runpy, sys, time
import vqdit
folder = pathlib.Path.cwd().resolve()
assert pathlib.Path(vqdit.__file__).resolve().is_relative_to(folder), vqdit.__file__
for command in json.loads(sys.argv[1]):
    print("+ vqdit", *command, flush=True)
    began = time.monotonic()
    sys.argv = ["vqdit", *command]
    try:
        runpy.run_module("vqdit", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        if error.code:
            raise
    print(f"{time.monotonic() - began:.1f} s", flush=True)
"""
"""Runs commands of the checkout that is the current folder, in one process."""


class Case(NamedTuple):
    """Commands of `vqdit`; {out} is the case's folder and {image} its first sampled picture."""

    name: str
    commands: tuple[str, ...]


def cases() -> list[Case]:
    """Returns all cases; those of one quantizer are named after it."""
    return [digits(), quickstart(), vqgan(), flow(), *map(tokenizer, QUANTIZERS)]


def digits() -> Case:
    """A VQ-VAE and a masked DiT, sampled in three ways and scored."""
    train = (
        "train --config=configs/image/digits.py --workdir={out}/run "
        "--tokenizer.steps=24 --tokenizer.log-every=1 --tokenizer.evaluate-every=12 "
        "--tokenizer.task.quantizer.start=8 --tokenizer.task.model.channels=8,16 "
        "--generator.steps=24 --generator.log-every=1 --generator.evaluate-every=12 "
        "--generator.task.model.depth=2 --generator.task.model.dim=32"
    )
    sample = "sample --workdir={out}/run --num=8"
    return Case(
        "digits",
        (
            train,
            f"{sample} --out={{out}}/samples",
            f"{sample} --given label=3 --guidance=2 --seed=1 --temperature=0.8 --out={{out}}/given",
            f"{sample} --sampler=ReMDM --steps=6 --out={{out}}/remdm",
            "score --workdir={out}/run --given label=0,1 --candidates image={image} "
            "--rounds=4 --out={out}/scores.json",
            RECONSTRUCT,
        ),
    )


def quickstart() -> Case:
    """Pictures, sounds, names and labels: the quickstart, shortened."""
    short = " ".join(
        f"--{name}.steps=24 --{name}.log-every=1 --{name}.task.quantizer.start=8 "
        f"--{name}.data.batch-size=64"
        for name in ("image", "audio")
    )
    train = (
        f"train --config=configs/quickstart.py --workdir={{out}}/run {short} "
        "--image.task.model.channels=8,16 --audio.task.model.channels=32 "
        "--audio.task.quantizer.codebook-size=64 --joint.steps=24 --joint.log-every=1 "
        "--joint.task.model.depth=2 --joint.task.model.dim=32 --joint.data.batch-size=32"
    )
    return Case(
        "quickstart",
        (
            train,
            "sample --workdir={out}/run --num=8 --given text=seven --guidance=1.5 "
            "--out={out}/samples",
            "sample --workdir={out}/run --num=8 --given image={image} --seed=1 --out={out}/given",
            "score --workdir={out}/run --rounds=4 --given image={image} --candidates text=one "
            "--candidates text=seven --out={out}/scores.json",
            RECONSTRUCT,
        ),
    )


def vqgan() -> Case:
    """A VQGAN, whose discriminator begins at the ninth step."""
    train = (
        "train --config=configs/image/fashion_vqgan.py --workdir={out}/run --steps=16 "
        "--log-every=1 --data.batch-size=50 --task.model.channels=4,8,16 "
        "--task.quantizer.start=4 --task.quantizer.codebook-size=64 --task.adversary.start=8 "
        "--task.adversary.discriminator.channels=8"
    )
    return Case("fashion_vqgan", (train, RECONSTRUCT))


def flow() -> Case:
    """A flow over the latents of Fashion-MNIST, sampled by two samplers and scored."""
    tokenizer = (
        "train --config=configs/image/fashion_vqvae.py --workdir={out}/tokenizer --steps=16 "
        "--log-every=1 --data.batch-size=50 --task.model.channels=4,8,16 "
        "--task.quantizer.start=4 --task.quantizer.codebook-size=64"
    )
    train = (
        "train --config=configs/image/fashion_flow.py --workdir={out}/run --steps=16 "
        "--log-every=1 --data.batch-size=50 --task.model.depth=2 --task.model.dim=32 "
        "--task.targets.image.tokenizer={out}/tokenizer --task.targets.image.sampler.steps=6"
    )
    sample = "sample --workdir={out}/run --num=8"
    return Case(
        "fashion_flow",
        (
            tokenizer,
            train,
            f"{sample} --out={{out}}/samples",
            f"{sample} --given label=3,none --seed=1 --sampler=DPMSolver --steps=6 "
            "--out={out}/given",
            "score --workdir={out}/run --given label=3,5 --candidates image={image} "
            "--rounds=4 --out={out}/scores.json",
        ),
    )


RECONSTRUCT = "reconstruct --workdir={out}/run --split=validation --out={out}/reconstructions"
QUANTIZERS = {
    "VQ": "--task.quantizer=VQ --task.quantizer.code-dim=4 --task.quantizer.distance=cosine "
    "--task.quantizer.codebook-size=32 --task.quantizer.start=0",
    "RVQ": "--task.quantizer=RVQ --task.quantizer.depth=2 --task.quantizer.dropout=0.5 "
    "--task.quantizer.quantizer.codebook-size=16 --task.quantizer.quantizer.dim=8 "
    "--task.quantizer.quantizer.start=4",
    "GroupedVQ": "--task.quantizer=GroupedVQ --task.quantizer.quantizer.codebook-size=16 "
    "--task.quantizer.quantizer.dim=8 --task.quantizer.quantizer.learning=gradient "
    "--task.quantizer.quantizer.estimator=rotation",
    "FSQ": "--task.quantizer=FSQ --task.quantizer.levels=5,4,3",
    "LFQ": "--task.quantizer=LFQ --task.quantizer.bits=6",
    "BSQ": "--task.quantizer=BSQ --task.quantizer.bits=6",
    "SimVQ": "--task.quantizer=SimVQ --task.quantizer.codebook-size=32 --task.quantizer.dim=16",
    "IBQ": "--task.quantizer=IBQ --task.quantizer.codebook-size=32 --task.quantizer.dim=16",
    "GumbelVQ": "--task.quantizer=GumbelVQ --task.quantizer.codebook-size=32 "
    "--task.quantizer.dim=16 --task.quantizer.anneal=10",
}
"""Options that choose each quantizer."""


def tokenizer(quantizer: str) -> Case:
    """A tokenizer of the digits."""
    train = (
        "train --config=configs/image/fashion_vqvae.py --workdir={out}/run --steps=12 "
        "--log-every=1 --data.source=Digits --data.batch-size=32 --task.modality.size=8,8 "
        f"--task.model.channels=4,8 {QUANTIZERS[quantizer]}"
    )
    return Case(quantizer, (train, RECONSTRUCT))


def run(case: Case, checkout: Path, folder: Path, data: Path) -> None:
    """Runs a case in a checkout; a command that fails leaves `FAILED` in the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    image = folder / "samples" / "image_0000.png"
    commands = [command.format(out=folder, image=image).split() for command in case.commands]
    environment = {
        name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"
    } | {"PYTHONPATH": str(checkout), "JAX_PLATFORMS": "cpu", "VQDIT_DATA": str(data)}
    with (folder / "log.txt").open("w") as log:
        ended = subprocess.run(
            [sys.executable, "-c", WORKER, json.dumps(commands)],
            cwd=checkout,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    if ended.returncode:
        (folder / FAILED).write_text(f"exit code {ended.returncode}, see {folder / 'log.txt'}\n")


def stamp(case: Case, checkout: Path) -> dict[str, Any] | None:
    """Returns what the results of a case depend on; None if files differ from the commit."""
    git = ["git", "-C", str(checkout)]
    changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
    if commit.returncode or changes.stdout:
        return None
    import jax

    return {
        "commit": commit.stdout.strip(),
        "commands": list(case.commands),
        "jax": jax.__version__,
    }


def is_cached(folder: Path, wanted: dict[str, Any] | None) -> bool:
    """Returns whether a folder holds complete results with this stamp."""
    file = folder / STAMP
    return wanted is not None and file.is_file() and json.loads(file.read_text()) == wanted


class Found(NamedTuple):
    """Results of a comparison; `difference` describes the first difference, "" without any."""

    lines: int = 0
    values: int = 0
    arrays: int = 0
    difference: str = ""


def compare(old: Path, new: Path) -> Found:
    """Compares the results of one case in its two folders."""
    for folder in (old, new):
        if (folder / FAILED).is_file():
            return Found(difference=(folder / FAILED).read_text().strip())
    lines, values, arrays, first = 0, 0, 0, ""
    names = results(old) | results(new)
    for name in sorted(names):
        if not ((old / name).is_file() and (new / name).is_file()):
            first = first or f"{name} exists in one checkout only"
        elif Path(name).name in ARRAYS:
            count, difference = compare_arrays(old / name, new / name)
            arrays, first = arrays + count, first or prefixed(name, difference)
        else:
            some, count, difference = compare_numbers(old / name, new / name)
            lines, values = lines + some, values + count
            first = first or prefixed(name, difference)
    if not values:
        first = first or "no numbers were found"
    return Found(lines, values, arrays, first)


def prefixed(name: str, difference: str) -> str:
    """Returns a difference with the name of its file."""
    return difference and f"{name}: {difference}"


def results(folder: Path) -> set[str]:
    """Returns the paths of all files in a folder that are compared, relative to it."""
    return {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.name in NUMBERS + ARRAYS and "checkpoints" not in file.parts
    }


def compare_arrays(old: Path, new: Path) -> tuple[int, str]:
    """Returns how many arrays two archives have in common, and the first difference."""
    with np.load(old, allow_pickle=False) as before, np.load(new, allow_pickle=False) as after:
        shared = set(before) & set(after)
        for name in sorted(set(before) | set(after)):
            if name not in shared:
                return len(shared), f"array {name} exists in one checkout only"
            a, b = before[name], after[name]
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                return len(shared), f"{name}: {a.dtype}{a.shape} -> {b.dtype}{b.shape}"
            if a.tobytes() != b.tobytes():
                indices = np.ndindex(a.shape)
                i = next(i for i in indices if a[i].tobytes() != b[i].tobytes())
                return len(shared), f"{name}{list(i)}: {a[i]} -> {b[i]}"
        return len(shared), ""


def compare_numbers(old: Path, new: Path) -> tuple[int, int, str]:
    """Returns how many lines and numbers two JSON files have, and the first difference."""
    before, after = read(old), read(new)
    values = sum(map(len, before))
    if len(before) != len(after):
        return len(before), values, f"{len(before)} lines -> {len(after)} lines"
    for number, (a, b) in enumerate(zip(before, after, strict=True), start=1):
        a = {tuple(map(renamed, path)): text for path, text in a.items()}
        for path in [*a, *(path for path in b if path not in a)]:
            if a.get(path) != b.get(path):
                name = ".".join(path)
                difference = f"line {number}, {name}: {a.get(path)} -> {b.get(path)}"
                return len(before), values, difference
    return len(before), values, ""


def renamed(name: str) -> str:
    """Returns the new name of a metric, also of validation/METRIC."""
    return "/".join(RENAMED.get(part, part) for part in name.split("/"))


def read(file: Path) -> list[dict[tuple[str, ...], str]]:
    """Returns the numbers of each JSON document of a file, by path, as they are written."""
    text = file.read_text()
    documents = text.splitlines() if file.suffix == ".jsonl" else [text]
    exact = {"parse_float": Exact, "parse_int": Exact, "parse_constant": Exact}
    return [dict(numbers(json.loads(document, **exact))) for document in documents]


class Exact(str):
    """The text of a number."""


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields path and text of every number of a JSON value, also of "nan" and "inf"."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from numbers(item, (*path, str(name)))
    elif isinstance(value, Exact) or (isinstance(value, str) and is_not_finite(value)):
        yield path, value


def is_not_finite(text: str) -> bool:
    """Returns whether a text is how a number that is not finite is written."""
    return text in [str(number) for number in (math.nan, math.inf, -math.inf)]


def main() -> int:
    """Compares; returns the exit code."""
    known = {case.name: case for case in cases()}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, required=True, help="checkout before the change")
    parser.add_argument("--new", type=Path, required=True, help="checkout after the change")
    parser.add_argument("--only", default=",".join(known), help="names of cases (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of results")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"no case {unknown[0]!r}; one of: {', '.join(known)}")
    old, new, out = (path.resolve() for path in (options.old, options.new, options.out))
    for checkout in (old, new):
        if not (checkout / "vqdit" / "__main__.py").is_file():
            parser.error(f"{checkout} is no checkout of vqdit")

    print(f"{'case':14} {'CPU s':>9} {'lines':>6} {'values':>7} {'arrays':>7}  first difference")
    total, seconds, differing = Found(), {"old": 0.0, "new": 0.0}, 0
    for name in chosen:
        case, spent = known[name], {}
        for which, checkout in (("old", old), ("new", new)):
            folder, began = out / which / name, cpu_seconds()
            wanted = stamp(case, checkout)
            if which == "new" or not is_cached(folder, wanted):
                run(case, checkout, folder, out / "data")
                if wanted and not (folder / FAILED).is_file():
                    (folder / STAMP).write_text(json.dumps(wanted, indent=2) + "\n")
            spent[which] = cpu_seconds() - began
            seconds[which] += spent[which]
        found = compare(out / "old" / name, out / "new" / name)
        total = Found(*(a + b for a, b in zip(total[:3], found[:3], strict=True)))
        differing += bool(found.difference)
        print_row(name, spent, found._replace(difference=found.difference or "equal"))
    print_row("all", seconds, total._replace(difference=f"{differing} of {len(chosen)} differ"))
    return 1 if differing else 0


def cpu_seconds() -> float:
    """Returns the CPU time of all commands that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_row(name: str, seconds: dict[str, float], found: Found) -> None:
    """Prints a row of the table."""
    spent = f"{seconds['old']:.0f}+{seconds['new']:.0f}"
    print(
        f"{name:14} {spent:>9} {found.lines:6} {found.values:7} {found.arrays:7}  "
        f"{found.difference}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
