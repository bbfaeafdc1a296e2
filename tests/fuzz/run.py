"""Feeds damaged files to commands, each in a process of its own, and reports what is no good end.

    python -m tests.fuzz.run KIND FIRST COUNT

A good end is success, or exit code 2 with one line, within 10 seconds of CPU time and 1 GB, with
nothing changed outside of the folder of the command, and with the process-wide state as before.
Prints one line of JSON per bad end; the seed of a case makes it again:
`python -m tests.fuzz.run KIND SEED 1`.
"""

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tests.fuzz.mutations import mutate

SECONDS, MEMORY = 10, 2**30
WAITING = 30
"""How many times its CPU time a command may take, as others may use the machine."""
FIXTURES = Path(__file__).parent.parent / "fixtures"


class Kind(NamedTuple):
    """Files, and a command that reads them.

    Attributes:
        make: writes sound files into a folder.
        files: patterns of the files that are damaged.
        call: runs vqdit on the folder; returns the exit code.
    """

    make: Callable[[Path], None]
    files: tuple[str, ...]
    call: Callable[[Path], int]


def forked(function: Callable[[], int], output: Path, limit: float | None = None) -> int | str:
    """Runs a function in a forked process; returns its exit code, or what else happened."""
    child = os.fork()
    if child == 0:
        os.setsid()
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        if limit:
            used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
            most = used + MEMORY
            resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        try:
            code = function()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    started = time.monotonic()
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        is_late = limit and time.monotonic() - started > WAITING * limit
        if limit and (is_late or seconds_of(child) > 2 * limit):
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return (
                f"more than {WAITING * limit} s" if is_late else f"more than {limit} s of CPU time"
            )
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if limit and used.ru_utime + used.ru_stime > limit:
        return f"more than {limit} s of CPU time"
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return os.WEXITSTATUS(status)


def seconds_of(process: int) -> float:
    """Returns the CPU time that a process has used; on a busy machine it may take much longer."""
    with contextlib.suppress(FileNotFoundError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def state() -> list[str]:
    """The process-wide state that no file may change."""
    from vqdit.cli import main

    kinds = [np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.int8)]
    sums = [str(np.ones(2, kind) + np.ones(2, kind)) for kind in kinds]
    sizes = [f"{kind.name} {kind.itemsize} {kind.alignment}" for kind in kinds]
    foreign = [name for name in sys.modules if "evil" in name]
    return [*sums, *sizes, *foreign, *map(str, os.environ.items()), str(main.run)]


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def command(*argv: str) -> int:
    from vqdit.cli.main import main

    return main(list(argv))


def unpack(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        with tarfile.open(FIXTURES / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")

    return make


def load(folder: Path) -> int:
    from vqdit import load
    from vqdit.cli.main import run

    return run(lambda: 0 * bool(load(folder)))


def resume(folder: Path) -> int:
    """Trains up to the first step, which would be compiled."""
    from vqdit.cli.main import run
    from vqdit.inference.loading import resolver
    from vqdit.runs import workdir
    from vqdit.train import loop

    def reached(*_: object) -> None:
        raise SystemExit(0)

    loop._Loop._step = reached
    joint = folder / "joint"
    return run(lambda: 0 * len(loop.train(workdir.read_experiment(joint), joint, resolver({}))))


def make_diffusers(folder: Path) -> None:
    from tests.pretrained import test_sources as sources

    task = sources.TokenizerTask(
        modality=sources.Image(size=(8, 8), channels=3),
        model=sources.VQGAN(channels=(4, 8), blocks=1, attention=(), z_channels=5, groups=2),
        quantizer=sources.VQ(codebook_size=16, dim=4),
    )
    (folder / "config.json").write_text(json.dumps(sources.VQ_MODEL))
    tensors = sources.named(sources.diffusers.NAMES, task, sources.diffusers.CODEBOOK)
    sources.save_file(tensors, folder / "diffusion_pytorch_model.safetensors")


def make_checkpoint(folder: Path) -> None:
    """Writes a tokenizer of LlamaGen as torch does, without torch."""
    from tests.pretrained import test_sources as sources
    from tests.pretrained.test_archive import write_zip
    from vqdit.pretrained import llamagen

    task = sources.TokenizerTask(
        modality=sources.Image(size=(8, 8), channels=3),
        model=sources.VQGAN(channels=(32, 64), blocks=1, z_channels=256),
        quantizer=sources.VQ(codebook_size=16, dim=8),
    )
    tensors = sources.named(llamagen.NAMES, task, llamagen.CODEBOOK)
    pickled, storages = b"\x80\x02}", {}
    for key, (name, value) in enumerate(tensors.items()):
        storages[str(key)] = np.asarray(value, "<f4").tobytes()
        strides = [stride // 4 for stride in np.asarray(value, "<f4").strides]
        pickled += (
            text(name)
            + b"ctorch._utils\n_rebuild_tensor_v2\n(("
            + text("storage")
            + b"ctorch\nFloatStorage\n"
            + text(str(key))
            + text("cpu")
            + integers([value.size])
            + b"tQ"
            + integers([0])
            + b"(%bt(%bt" % (integers(value.shape), integers(strides))
            + b"\x89ccollections\nOrderedDict\n)RtRs"
        )
    write_zip(folder / "model.pt", pickled + b".", storages)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integers(values: Iterable[int]) -> bytes:
    return b"".join(b"J" + struct.pack("<i", value) for value in values)


def make_pictures(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    endings = ("png", "jpg", "webp", "gif", "bmp", "tiff")
    for number in range(36):
        place = folder / "pictures" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        picture.save(place / f"{number}.{endings[number % 6]}")


def make_table(folder: Path) -> None:
    import pyarrow
    import soundfile
    from pyarrow import parquet

    make_pictures(folder)
    rng, rows = np.random.default_rng(0), []
    for number, picture in enumerate(sorted((folder / "pictures").rglob("*.*"))[:12]):
        sound = folder / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}"
        soundfile.write(sound, rng.normal(size=800) * 0.1, 8000)
        rows.append(
            {
                "image": str(picture.relative_to(folder)),
                "audio": sound.name,
                "text": f"number {number}",
                "label": f"kind {number % 3}",
            }
        )
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    files = ("image", "audio")
    rows = [row | {name: (folder / row[name]).read_bytes() for name in files} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
    with wave.open(str(folder / "0.wav"), "rb") as sound:
        assert sound.getnframes() == 800


def make_dialogues(folder: Path) -> None:
    conversations = (
        "".join(f"- - question {n}\n  - answer {n}\n" for n in range(part, 40, 2))
        for part in (0, 1)
    )
    for number, text in enumerate(conversations):
        (folder / f"{number}.yml").write_text(f"categories:\n- small\nconversations:\n{text}")


def prepare_dialogues(folder: Path) -> int:
    from vqdit.cli.main import run
    from vqdit.data import Dialogues

    return run(lambda: 0 * len(Dialogues(path=str(folder)).split("train")))


def make_units(folder: Path) -> None:
    """Writes a BPE as a workdir has it, but without its checksum, which would refuse all damage."""
    from vqdit import config
    from vqdit.files import write_json
    from vqdit.modalities import BPE

    merges = ["t h", "th e", "Ġ the", "i n", "in g", "q u", "Ġthe Ġthe", "a n", "an d"]
    write_json(folder / "units.json", config.to_json(BPE(size=270, merges="\n".join(merges))))


def use_units(folder: Path) -> int:
    from vqdit.cli.main import run
    from vqdit.modalities import Units
    from vqdit.runs.component_files import read_component

    def use() -> int:
        units = read_component(folder / "units.json", Units)
        codes = units.encode("the thing and the other thing, quite \u00e9")
        return 0 * len(units.decode(codes)) + 0 * len(units.decode(np.arange(units.vocabulary)))

    return run(use)


def prepare_table(name: str) -> Callable[[Path], int]:
    options = ("--size=8", "--samples=800", "--rate=8000", "--length=16")
    return lambda folder: command("prepare", "table", str(folder / name), *options)


KINDS = {
    "workdir": Kind(
        unpack("before_rooms"),
        ("*.json", "*/*.json", "*/frozen/task.json", "*/checkpoints/*/manifest.json"),
        load,
    ),
    "resume": Kind(
        unpack("before_rooms"), ("joint/*.json", "joint/metrics.jsonl", "joint/*/*.json"), resume
    ),
    "diffusers": Kind(
        make_diffusers,
        ("config.json", "*.safetensors"),
        lambda folder: command("import", str(folder), f"--out={folder / 'out'}"),
    ),
    "checkpoint": Kind(
        make_checkpoint,
        ("model.pt",),
        lambda folder: command("import", str(folder / "model.pt"), f"--out={folder / 'out'}"),
    ),
    "pictures": Kind(
        make_pictures,
        ("pictures/*/*.*",),
        lambda folder: command("prepare", "image_folder", str(folder / "pictures"), "--size=8"),
    ),
    "table": Kind(make_table, ("rows.jsonl",), prepare_table("rows.jsonl")),
    "spreadsheet": Kind(make_table, ("rows.csv",), prepare_table("rows.csv")),
    "parquet": Kind(make_table, ("rows.parquet",), prepare_table("rows.parquet")),
    "dialogues": Kind(make_dialogues, ("*.yml",), prepare_dialogues),
    "units": Kind(make_units, ("units.json",), use_units),
    "sounds": Kind(make_table, ("*.wav", "*.flac", "*.ogg"), prepare_table("rows.jsonl")),
}


def case(
    kind: Kind, made: Path, space: Path, rng: random.Random | None
) -> dict[str, object] | None:
    """Runs a command on files damaged by `rng`, if any; returns what is wrong with its end."""
    folder, canary, done = space / "here", space / "canary", "none"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(made, folder)
    if rng is not None:
        file = rng.choice(sorted({file for glob in kind.files for file in folder.glob(glob)}))
        done = f"{file.relative_to(folder)}: {mutate(file, rng)}"
    before, output = contents(canary), space / "output.txt"
    os.environ["VQDIT_DATA"] = str(folder / "data")
    os.chdir(folder)

    def run() -> int:
        then = state()
        code = kind.call(folder)
        if (now := state()) != then:
            print("process-wide state:", *(set(now) ^ set(then)), sep="\n  ")
            return 98
        return code

    started = time.monotonic()
    end = forked(run, output, SECONDS)
    text = output.read_bytes().decode(errors="replace")
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    wrong = end not in (0, 2) or "Traceback" in text or (end == 2 and len(lines) != 1)
    wrong = wrong or contents(canary) != before or "\x1b[31m" in text or (end and rng is None)
    if not wrong:
        return None
    kept = text if len(text) < 2000 else f"{text[:500]} ... {text[-1400:]}"
    took = round(time.monotonic() - started, 1)
    return {"damage": done[:300], "end": end, "seconds": took, "output": kept}


def main(name: str, first: int, count: int) -> int:
    """Runs `count` cases of a kind from the seed `first`; returns the number of bad ends."""
    import jax  # imported once, before the forks; no device is used before them
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    import vqdit.cli.prepare
    import vqdit.inference.loading
    import vqdit.pretrained  # noqa: F401

    kind, bad = KINDS[name], 0
    with tempfile.TemporaryDirectory() as space:
        # Each case has a process of its own, and most of them compile the same programs.
        jax.config.update("jax_compilation_cache_dir", f"{space}/compiled")
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        made, canary = Path(space, "made"), Path(space, "canary")
        made.mkdir(), canary.mkdir()
        (canary / "secret").write_text("nobody reads or writes this")
        if forked(lambda: kind.make(made) or 0, Path(space, "made.txt")) != 0:
            raise RuntimeError(Path(space, "made.txt").read_text())
        for seed in [None, *range(first, first + count)]:  # None: without damage
            rng = None if seed is None else random.Random(seed)
            if (found := case(kind, made, Path(space), rng)) is not None:
                print(json.dumps({"seed": seed, **found}), flush=True)
                bad += 1
        os.chdir("/")
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
