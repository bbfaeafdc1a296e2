"""`vqdit reconstruct --workdir=DIR`: shows the reconstructions of a tokenizer."""

from pathlib import Path
from typing import Annotated, Any

from vqdit.cli import reconstruct_files
from vqdit.cli.options import FOLDER, Workdir, integer, path, text
from vqdit.rules import Integer

SHOWN = 64
PLAYED = 16
"""Largest number of sounds or clips that are written."""
CODEBOOK = ("code_use.png", "codebook.png")
SHOWS = (
    "originals above their reconstructions",
    "frequency of codes, the most frequent first",
    "each code decoded, the most frequent first",
)
"""Descriptions of the pictures, in the order of the pictures."""


def reconstruct(
    *,
    workdir: Workdir,
    split: Annotated[str | None, text("{train,validation,test}")] = None,
    input: Annotated[str | None, path("FILE|FOLDER")] = None,
    codebooks: Annotated[int | None, integer(Integer(1))] = None,
    out: Annotated[str, FOLDER] = "reconstructions",
) -> int:
    """Show and measure the reconstructions of a tokenizer.

    Writes reconstructions.png (originals above their reconstructions), reconstructions.npz with
    original, reconstruction and codes or latents (and, if lengths vary, original_length and so on),
    and metrics.json (PSNR in dB, usage and perplexity of the codebook; for sounds also SI-SDR in
    dB, distances of spectrograms, and kbit/s; for clips the means over frames, and flicker in
    levels of 8 bits). The first 16 sounds or clips are also written as files, original_0000.wav and
    reconstruction_0000.wav and so on (clips as .mp4). If there is a codebook, it also writes
    code_use.png, the frequencies of its codes in the split, and codebook.png, which shows each code
    decoded at all positions (of a large codebook only the most frequent codes; of sounds the
    spectrograms).

    With --input, files are reconstructed instead of the data. Recordings may have any rate and
    length. They are written as NAME_reconstruction.wav at the rate of the tokenizer, and as
    NAME_mel.png, the log mel spectrograms of original and reconstruction. Pictures and videos are
    resized to the size of the tokenizer, and videos are cut to its number of frames
    (NAME_reconstruction.mp4, and NAME_frames.png with frames of original and reconstruction).
    metrics.json has the metrics of each file (SI-SDR in dB, distances of spectrograms and kbit/s;
    PSNR, SSIM, flicker and bits per pixel). If files cannot be read, the command lists them, and
    ends with code 1.

    Args:
        workdir: Workdir of a tokenizer; if the config has several experiments, the last tokenizer
            is used.
        split: Split of the data to reconstruct. Default: test.
        input: A recording, a picture or a video, or a folder of them.
        codebooks: With --input: number of codes per token; the first codebooks are used. Default:
            all.
        out: Folder of the results.
    """
    import jax
    import numpy as np

    from vqdit import metrics as measures
    from vqdit.cli.outputs import replacing
    from vqdit.cli.report.codebook_pictures import appearance, count_codes, save_use
    from vqdit.data.sources import check_split
    from vqdit.files import write_json
    from vqdit.inference.tokenizer import Tokenizer
    from vqdit.modalities import Audio, Video
    from vqdit.modalities.drawing import save_png, side_by_side
    from vqdit.ragged import cut, padded_columns
    from vqdit.runs import restoring
    from vqdit.runs import workdir as runs
    from vqdit.tasks import TokenizerTask

    if input is not None:
        if split is not None:
            raise ValueError(
                "--split is for the data, which --input replaces; give only one of them"
            )
        run = _last_tokenizer(Path(workdir))
        return reconstruct_files.reconstruct_files(run, input, codebooks, out)
    if codebooks is not None:
        raise ValueError("--codebooks is only for files; give files with --input=FILE|FOLDER")
    split = split or "test"
    check_split(split)
    folder, run = Path(out), _last_tokenizer(Path(workdir))
    restored = restoring.restore(run)
    tokenizer = Tokenizer(restored)
    task, data = tokenizer.task, restored.experiment.data
    batches = data.split_batches(split)
    runs.make_folder(folder, "--out")

    evaluate = jax.jit(restored.task.evaluate)
    total, rows = None, []
    for batch in batches:
        part = evaluate(restored.params, restored.stats, restored.frozen, batch, jax.random.key(0))
        total = measures.merge(total, part)
        original, mask = np.asarray(batch.data[task.name]), batch.mask.get(task.name)
        keep = batch.valid & batch.present[task.name]
        if mask is not None:
            length = mask.sum(axis=1)[keep]
            if len(length):
                column = cut(original[keep], length)
                tokens = tokenizer.encode(column)
                rows.append((column, tokenizer.decode(tokens, length=length), tokens))
            continue
        tokens = np.asarray(tokenizer.encode(original))
        reconstruction = np.asarray(tokenizer.decode(tokens))
        rows.append((original[keep], reconstruction[keep], tokens[keep]))
    if total is None or not rows:
        raise ValueError(f"the {split} split is empty; choose another --split")
    numbers = measures.compute(total)
    originals, reconstructions, tokens = (np.concatenate(part) for part in zip(*rows, strict=True))
    has_codes = isinstance(task, TokenizerTask)
    kind = "codes" if has_codes else "latents"
    arrays: dict[str, Any] = {"original": originals, "reconstruction": reconstructions}
    arrays[kind] = tokens
    if task.modality.lengths:
        arrays = padded_columns(arrays)
    is_played = isinstance(task.modality, Audio | Video)
    drawn = (task.modality.draw(x[:SHOWN]) for x in (originals, reconstructions))
    files = ["reconstructions.png"]
    sizes = task.quantizer.codebook_sizes if isinstance(task, TokenizerTask) else ()
    is_drawn = has_codes and max(sizes) <= measures.COUNTABLE
    record = {"workdir": str(run), "step": restored.step, "split": split, **numbers}
    with replacing(folder, reconstruct_files.RECORD, reconstruct_files.EARLIER) as new:
        np.savez(new / "reconstructions.npz", **arrays)
        save_png(new / files[0], side_by_side(*drawn, columns=16))
        if is_drawn:
            files += CODEBOOK
            counts = count_codes(np.concatenate(tokens), sizes)
            save_use(counts, new / CODEBOOK[0])
            save_png(new / CODEBOOK[1], appearance(tokenizer, counts))
        if played := is_played * min(PLAYED, len(originals)):
            task.modality.write(originals[:played], new, "original")
            task.modality.write(reconstructions[:played], new, "reconstruction")
        write_json(new / reconstruct_files.RECORD, record)
    print(f"{len(originals)} examples of the {split} split, {run} at step {restored.step}")
    print("  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    for file, shows in zip(files, SHOWS, strict=False):
        print(f"  {folder / file}: {shows}")
    if played:
        ending, what = (".mp4", "clips") if isinstance(task.modality, Video) else (".wav", "sounds")
        print(f"  {folder}/original_*{ending}, reconstruction_*{ending}: the first {played} {what}")
    if not is_drawn:
        why = (
            (f"{max(sizes)} codes are too many to draw")
            if has_codes
            else "its latents are continuous"
        )
        print(f"  no codebook is drawn: {why}")
    return 0


def _last_tokenizer(folder: Path) -> Path:
    from vqdit.runs import workdir
    from vqdit.tasks.autoencoder import AutoencoderTask

    tasks: dict[Path, Any] = {
        run: workdir.read_experiment(run).task for run in workdir.runs_of(folder)
    }
    found = [run for run, task in tasks.items() if isinstance(task, AutoencoderTask)]
    if not found:
        targets = [target for task in tasks.values() for target in task.targets.values()]
        used = {target.reference for target in targets if target.reference}
        raise ValueError(
            f"{folder} is not the workdir of a tokenizer; give the workdir of a tokenizer that it "
            f"uses: {', '.join(sorted(used))}"
        )
    return found[-1]
