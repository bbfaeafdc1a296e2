"""`vqdit reconstruct --input=FILE|FOLDER`: reconstructs any recordings, pictures or videos."""

import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

RECORD = "metrics.json"
SUFFIX = "_reconstruction"
EARLIER = (
    r"(code_use|codebook|reconstructions)\.png|reconstructions\.npz|"
    rf"(original|reconstruction)_\d+\.(wav|mp4)|.*{SUFFIX}\.(wav|png|mp4)|.*_(mel|frames)\.png"
)
"""Pattern of results that an earlier `vqdit reconstruct` may have written, but not this one."""


def reconstruct_files(run: Path, source: str, codebooks: int | None, out: str) -> int:
    """Writes reconstructions of files, spectrograms of sounds, and metrics; prints a table.

    The names of files that cannot be read are printed, and the other files are reconstructed.

    Args:
        run: workdir of the tokenizer.
        source: a file, or a folder of files.
        codebooks: number of codes per token; the first codebooks are used, None uses all.
        out: folder of the results.

    Returns:
        0, or 1 if a file could not be read.

    Raises:
        ValueError: the tokenizer does not encode sounds, pictures or clips, has fewer codebooks, or
            no file can be read.
        FileNotFoundError: there is no such file or folder.
    """
    from vqdit.cli.outputs import replacing
    from vqdit.files import write_json
    from vqdit.inference.examples import require_codebooks
    from vqdit.inference.tokenizer import Tokenizer
    from vqdit.modalities import Audio, Image, Video
    from vqdit.modalities.base import find_files
    from vqdit.modalities.classes import shown
    from vqdit.runs import restoring
    from vqdit.runs import workdir as runs

    task: Any = runs.read_experiment(run).task
    kinds: dict[type, type[_Kind]] = {Audio: _Sounds, Image: _Pictures, Video: _Clips}
    kind = next((kind for cls, kind in kinds.items() if isinstance(task.modality, cls)), None)
    if kind is None:
        raise ValueError(
            f"--input is for sounds, pictures and videos, but {run} is a tokenizer of "
            f"{task.name}; leave out --input"
        )
    require_codebooks(codebooks, task.codebook_sizes)
    files = find_files(source, kind.suffixes(), kind.what)
    folder = Path(out)
    if folder.exists() and folder.samefile(files[0].parent):
        raise ValueError(f"--out={out} is the folder of --input; choose another one")
    runs.make_folder(folder, "--out")
    restored = restoring.restore(run)
    measured = kind(Tokenizer(restored), codebooks)
    stems, width = Counter(file.stem for file in files), max(len(file.name) for file in files)
    rows: list[dict[str, Any]] = []
    numbers: dict[str, float] = {}
    failed: dict[str, str] = {}
    changes: Counter[str] = Counter()
    with replacing(folder, RECORD, EARLIER) as new:
        for file in files:
            try:
                read = measured.read(file)
            except (ValueError, OSError) as error:
                failed[str(file)] = str(error)
                print(f"left out: {error}", file=sys.stderr)
                continue
            name = file.stem if stems[file.stem] == 1 else file.name
            numbers = measured.reconstruct(read.stored, new, name)
            if not rows:
                print(f"{'':{width}}  " + "  ".join(numbers))
            print(f"{shown(Path(file.name)):{width}}  {_line(numbers)}", flush=True)
            rows.append({"file": str(file), "changes": [*read.changes], **numbers})
            changes.update(read.changes)
        if not rows:
            raise ValueError(f"none of the {len(files)} files of {source} can be read; see above")
        means = {name: sum(row[name] for row in rows) / len(rows) for name in numbers}
        record = {"workdir": str(run), "step": restored.step, "codebooks": measured.codebooks}
        record |= {"mean": means | measured.together(), "files": rows, "failed": failed}
        write_json(new / RECORD, record)
    if rows[1:]:
        print(f"{'mean':{width}}  {_line(means)}")
    for change, count in changes.items():
        print(f"  {change}: {count} of {len(files)} files")
    print(f"  {folder}: {len(rows)} reconstructions, {RECORD}{measured.shows}")
    if failed:
        print(f"  {len(failed)} of {len(files)} files could not be read; see {RECORD}")
    return 1 if failed else 0


def _line(numbers: Mapping[str, float]) -> str:
    return "  ".join(f"{value:{len(name)}.4g}" for name, value in numbers.items())


class _Read(NamedTuple):
    """A file in stored form, and how it was converted."""

    stored: Any
    changes: tuple[str, ...]


class _Kind:
    """Base class of the kinds of files.

    Attributes:
        what: name of a file of this kind, for messages.
        shows: end of the printed line, which lists the pictures that are also written.
        codebooks: number of codebooks that are used.
    """

    what = shows = ""

    def __init__(self, tokenizer: Any, codebooks: int | None) -> None:
        self._tokenizer, self._modality = tokenizer, tokenizer.task.modality
        self._sizes = tokenizer.task.codebook_sizes[:codebooks]
        self._given = codebooks
        self._bits = sum(math.log2(size) for size in self._sizes)
        self.codebooks = len(self._sizes)

    @staticmethod
    def suffixes() -> tuple[str, ...]:
        raise TypeError("a subclass of _Kind must define the method 'suffixes'")

    def read(self, file: Path) -> _Read:
        raise TypeError(f"{type(self).__name__} must define the method 'read'")

    def reconstruct(self, stored: Any, folder: Path, name: str) -> dict[str, float]:
        """Writes the reconstruction of one file; returns its metrics."""
        raise TypeError(f"{type(self).__name__} must define the method 'reconstruct'")

    def together(self) -> dict[str, float]:
        """Returns metrics that are computed from all files together."""
        return {}


class _Sounds(_Kind):
    what, shows = "sound", " and log mel spectrograms"

    def __init__(self, tokenizer: Any, codebooks: int | None) -> None:
        from vqdit.evaluation.reconstructions import CodeRate, SoundDistances

        super().__init__(tokenizer, codebooks)
        self._rate: int = tokenizer.rate
        self._distances = SoundDistances(self._rate)
        self._codes = CodeRate(self._sizes)

    @staticmethod
    def suffixes() -> tuple[str, ...]:
        from vqdit.modalities.sounds import SUFFIXES

        return SUFFIXES

    def read(self, file: Path) -> _Read:
        from vqdit.modalities.classes import shown
        from vqdit.modalities.sounds import read_recording

        found = read_recording(file, self._rate, self._modality.channels)
        if not len(found.samples):
            raise ValueError(f"the sound {shown(file)} is empty; remove it")
        return _Read(found.samples, found.changes)

    def reconstruct(self, stored: Any, folder: Path, name: str) -> dict[str, float]:
        import jax.numpy as jnp
        import numpy as np

        from vqdit.cli.report.sound_pictures import save_mels
        from vqdit.evaluation.reconstructions import round_trip

        x = np.asarray(self._modality.standardize(jnp.asarray(stored)[None])[0])
        tokens, y = round_trip(self._tokenizer, x, self._given)
        result = np.asarray(self._modality.restore(jnp.asarray(y)[None])[0])
        (folder / f"{name}{SUFFIX}.wav").write_bytes(self._modality.wav(result))
        pair = {"original": stored, "reconstruction": result}
        (folder / f"{name}_mel.png").write_bytes(save_mels(pair, self._rate))
        seconds = len(x) / self._rate
        numbers = {"seconds": seconds, **self._distances(x, y)}
        if not self._sizes:
            return numbers
        self._codes.add(tokens, seconds)
        return {**numbers, "kbit_per_s": 1e-3 * self._bits * len(tokens) / seconds}

    def together(self) -> dict[str, float]:
        return self._codes.compute()


class _Pictures(_Kind):
    what = "picture"

    @staticmethod
    def suffixes() -> tuple[str, ...]:
        from vqdit.modalities.pictures import SUFFIXES

        return SUFFIXES

    def read(self, file: Path) -> _Read:
        cell = self._modality.read_cell(file)
        return _Read(cell.stored, cell.changes)

    def reconstruct(self, stored: Any, folder: Path, name: str) -> dict[str, float]:
        import jax.numpy as jnp
        import numpy as np

        from vqdit.metrics import SSIM_WINDOW, psnr, ssim
        from vqdit.modalities.drawing import save_png

        tokens = self._tokenizer.encode(stored[None], codebooks=self._given)
        result = np.asarray(self._tokenizer.decode(tokens, standardized=False))
        save_png(folder / f"{name}{SUFFIX}.png", result[0])
        x, y = (self._modality.standardize(jnp.asarray(part)) for part in (stored[None], result))
        numbers = {"psnr": float(psnr(x, y)[0])}
        if min(stored.shape[:2]) >= SSIM_WINDOW:
            numbers["ssim"] = float(ssim(x, y)[0])
        if self._sizes:
            positions = math.prod(tokens.shape[1:-1])
            numbers["bits_per_pixel"] = self._bits * positions / math.prod(stored.shape[:2])
        return numbers


class _Clips(_Kind):
    what, shows = "video", " and frames of originals above those of reconstructions"

    @staticmethod
    def suffixes() -> tuple[str, ...]:
        from vqdit.modalities.videos import SUFFIXES

        return SUFFIXES

    def read(self, file: Path) -> _Read:
        cell = dataclasses.replace(self._modality, outside="cut").read_cell(file)
        return _Read(cell.stored, cell.changes)

    def reconstruct(self, stored: Any, folder: Path, name: str) -> dict[str, float]:
        import jax.numpy as jnp
        import numpy as np

        from vqdit.metrics import SSIM_WINDOW, flicker, frame_psnr, frame_ssim
        from vqdit.modalities.drawing import save_png, side_by_side
        from vqdit.modalities.video_files import mp4

        tokens = self._tokenizer.encode(stored[None], codebooks=self._given)
        result = np.asarray(self._tokenizer.decode(tokens, standardized=False))
        (folder / f"{name}{SUFFIX}.mp4").write_bytes(mp4(result[0], self._modality.fps))
        save_png(folder / f"{name}_frames.png", side_by_side(stored, result[0]))
        x, y = (self._modality.standardize(jnp.asarray(part)) for part in (stored[None], result))
        numbers = {"psnr": float(frame_psnr(x, y)[0]), "flicker": float(flicker(x, y)[0])}
        if min(self._modality.size) >= SSIM_WINDOW:
            numbers["ssim"] = float(frame_ssim(x, y)[0])
        if self._sizes:
            positions = math.prod(tokens.shape[1:-1])
            numbers["bits_per_pixel"] = self._bits * positions / math.prod(stored.shape[:3])
        return numbers
