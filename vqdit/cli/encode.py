"""`vqdit encode --workdir=TOKENIZER --out=DIR`: writes the tokens of a data set."""

from pathlib import Path
from typing import Annotated, Any

from vqdit.cli import prepare
from vqdit.cli.options import FOLDER, NAME, Workdir, text


def encode(
    *,
    workdir: Workdir,
    out: Annotated[str, FOLDER],
    data: Annotated[str | None, NAME] = None,
    path: Annotated[str | None, text("PATH")] = None,
    size: prepare.Size = None,
    channels: prepare.Size = None,
    samples: prepare.Length = None,
    rate: prepare.Length = None,
    length: prepare.Length = None,
    on_error: prepare.OnError = None,
) -> int:
    """Encode a data set once with a tokenizer.

    A DiT can then be trained without running the encoder. Every split is written as array_record
    files with codes (or mean and standard deviation of latents), all other columns, and the
    tokenizer's fingerprint. The mirror images of pictures are encoded too. statistics.json has the
    mean and standard deviation of every channel over the training data.

    Args:
        workdir: Workdir of the tokenizer; its last checkpoint is used.
        out: New folder.
        data: Name of a data set, as for vqdit prepare. Default: the training data of the tokenizer.
        path: File or folder of the data set.
        size: As for vqdit prepare.
        channels: As for vqdit prepare.
        samples: As for vqdit prepare.
        rate: As for vqdit prepare.
        length: As for vqdit prepare.
        on_error: As for vqdit prepare.
    """
    options = {
        "path": path,
        "size": size,
        "channels": channels,
        "samples": samples,
        "rate": rate,
        "length": length,
        "on_error": on_error,
    }
    for option, value in options.items():
        if value is not None and not data:
            option = option.replace("_", "-")
            raise ValueError(
                f"--{option} is an option of a data set, but no data set is named; add --data=NAME"
            )
    cls, fields = prepare.read(data, options) if data else ("", {})
    return _encode_source(Path(workdir), Path(out), cls, fields)


def _encode_source(folder: Path, out: Path, cls: str, fields: dict[str, Any]) -> int:
    import vqdit
    from vqdit import data
    from vqdit.inference.tokenizer import Tokenizer
    from vqdit.runs import workdir

    tokenizer = vqdit.load(folder)
    if not isinstance(tokenizer, Tokenizer):
        raise ValueError(f"{folder} is a DiT; give the workdir of a tokenizer")
    if cls:
        source = prepare.build(getattr(data, cls), fields)
    else:
        source = workdir.read_experiment(workdir.find_run(folder)).data.source
    workdir.make_folder(out.parent, "--out")
    counts = _encode(tokenizer, source, out)
    print(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    shape = "x".join(map(str, tokenizer.task.encoded_shape))
    shape = f"up to {shape}" if tokenizer.task.modality.lengths else shape
    kind = "codes" if tokenizer.task.codebook_sizes else "mean and deviation of latents"
    print(f"  {tokenizer.task.name}: {shape}, {kind}")
    print(f"  train on it with: --data.source=Encoded --data.source.path={out}")
    return 0


def _encode(tokenizer: Any, source: Any, out: Path) -> dict[str, int]:
    """Writes the tokens and their statistics; returns the number of examples in each split."""
    import jax
    import numpy as np

    from vqdit.data import Data, Encoded, Feature, encoded
    from vqdit.files import write_json
    from vqdit.inference.tokenizer import in_bucket
    from vqdit.processes import Flow
    from vqdit.ragged import cut, lengths
    from vqdit.runs.array_fingerprints import fingerprint
    from vqdit.tasks import Trained
    from vqdit.tasks.token_space import TokenizerSpace

    task, arrays = tokenizer.task, (tokenizer.params, tokenizer.stats)
    found = source.features().get(task.name)
    task.check(source.features())
    if found is not None and found.encoded:
        raise ValueError(
            f"the data of {type(source).__name__} are already encoded; give --data=NAME of other "
            "data"
        )
    codes = max(task.codebook_sizes, default=0)
    dtype = ("int16" if codes < 2**15 else "int32") if codes else "float32"
    varies = task.modality.lengths is not None
    feature = Feature(task.encoded_shape, dtype=dtype, encoded=fingerprint(arrays), ragged=varies)
    compiled = jax.jit(task.encode if codes else task.moments)

    def encode(raw: np.ndarray) -> np.ndarray:
        tokens = compiled(*arrays, *(in_bucket(task, raw) if varies else (raw,)))
        tokens = np.asarray(tokens) if codes else np.concatenate(tokens, axis=-1)
        return cut(tokens, task.token_lengths(lengths(raw))) if varies else tokens

    counts = encoded.write(out, source, task.name, feature, encode, option="--out")
    space = TokenizerSpace(tokenizer=task, process=Flow())
    batches = Data(source=Encoded(path=str(out)), batch_size=encoded.ROWS).split_batches("train")
    frozen = space.freeze(Trained(task, *arrays), batches, task.name)
    moments = {name: np.asarray(frozen[name]).tolist() for name in ("mean", "std")}
    write_json(out / "statistics.json", {"tokenizer": feature.encoded, **moments})
    return counts
