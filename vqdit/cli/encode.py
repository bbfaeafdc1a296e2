"""`vqdit encode --workdir=TOKENIZER --out=DIR`: the tokens of a data set, once and for all."""

from pathlib import Path
from typing import Any

from vqdit.cli import prepare
from vqdit.cli.options import parse, with_help

USAGE = """usage: vqdit encode --workdir=TOKENIZER --out=DIR [--data=NAME [OPTIONS]]

Encodes every split of a data set by a trained tokenizer, so that a DiT trains without its encoder:
codes, or mean and standard deviation of latents, also of every image's mirror image. All other
columns are kept.

  --workdir=TOKENIZER       of the tokenizer; its last checkpoint is used
  --out=DIR                 a new folder
  --data=NAME               one of those of `vqdit prepare` (default: what the tokenizer was
                            trained on), with that command's options, and
  --path=PATH               where it is

DIR is written as array_records, with the tokenizer's fingerprint; statistics.json has mean and
standard deviation of every channel over the training data."""
OF_DATA = {name: kind for name, kind in prepare.OPTIONS.items() if name != "download"}
OPTIONS = {"workdir": str, "out": str, "data": str, "path": str, **OF_DATA}


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, required=("workdir", "out"))
    folder, out = Path(options.pop("workdir")), Path(options.pop("out"))
    name = options.pop("data", "")
    if options and not name:
        raise ValueError(f"--{next(iter(options))} is of a data set; name it with --data")
    cls, fields = prepare.read(name, options) if name else ("", {})

    import vqdit
    from vqdit import data
    from vqdit.inference.tokenizer import Tokenizer
    from vqdit.runs import workdir

    tokenizer = vqdit.load(folder)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"{folder} is a DiT; name the workdir of a tokenizer")
    if name:
        source = getattr(data, cls)(**fields)
    else:
        source = workdir.read_experiment(workdir.find_run(folder)).data.source
    workdir.make_folder(out.parent, "--out")
    counts = _encode(tokenizer, source, out)
    print(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    shape = "x".join(map(str, tokenizer.task.encoded_shape))
    kind = "codes" if tokenizer.task.codebook_sizes else "mean and deviation of latents"
    print(f"  {tokenizer.task.name}: {shape}, {kind}")
    print(f"  train on it with: --data.source=Encoded --data.source.path={out}")
    return 0


def _encode(tokenizer: Any, source: Any, out: Path) -> dict[str, int]:
    """Writes the tokens and their statistics; returns the number of examples in each split."""
    import jax
    import numpy as np

    from vqdit.data import Data, Encoded, Feature, encoded
    from vqdit.processes import Flow
    from vqdit.runs.array_fingerprints import fingerprint
    from vqdit.runs.workdir import write_json
    from vqdit.tasks import Trained
    from vqdit.tasks.token_space import TokenizerSpace

    task, arrays = tokenizer.task, (tokenizer.params, tokenizer.stats)
    found = source.features().get(task.name)
    task.check(source.features())
    if found is not None and found.encoded:
        raise ValueError(f"the data of {type(source).__name__} are encoded already")
    codes = max(task.codebook_sizes, default=0)
    dtype = ("int16" if codes < 2**15 else "int32") if codes else "float32"
    feature = Feature(task.encoded_shape, dtype=dtype, encoded=fingerprint(arrays))
    compiled = jax.jit(task.encode if codes else task.moments)

    def encode(raw: np.ndarray) -> np.ndarray:
        tokens = compiled(*arrays, raw)
        return np.asarray(tokens) if codes else np.concatenate(tokens, axis=-1)

    counts = encoded.write(out, source, task.name, feature, encode, option="--out")
    space = TokenizerSpace(tokenizer=task, process=Flow())
    batches = Data(source=Encoded(path=str(out)), batch_size=encoded.ROWS).split_batches("train")
    frozen = space.freeze(Trained(task, *arrays), batches, task.name)
    moments = {name: np.asarray(frozen[name]).tolist() for name in ("mean", "std")}
    write_json(out / "statistics.json", {"tokenizer": feature.encoded, **moments})
    return counts
