"""A folder of pictures."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdit.data.pictures import SUFFIXES, read_picture
from vqdit.data.recorded import Recorded
from vqdit.data.sources import SPLITS, Feature, divide
from vqdit.typing import Named


class ImageFolder(Recorded):
    """PNG, JPEG and WebP files: `image` uint8 [size, size, channels]; `label` if there are classes.

    Sub-folders are classes, in sorted order. Folders `train`, `validation` and `test` at the top
    are taken as the splits; otherwise a tenth each is set aside for validation and test. The
    pictures are prepared at first use, and again when files or size change.

    Attributes:
        path: the folder.
        size: edge of the square that each picture is cropped and resized to, in pixels.
        channels: 1 for grey, 3 for colour.
    """

    path: str = "pictures"
    size: int = 64
    channels: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"ImageFolder needs size >= 1, got {self.size}")
        if self.channels not in (1, 3):
            raise ValueError(f"ImageFolder needs 1 (grey) or 3 (colour) channels: {self.channels}")

    def key(self) -> str:
        digest = hashlib.sha256(f"{self.size} {self.channels}".encode())
        for file in self._files():
            stat = file.stat()
            digest.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"image_folder_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        columns = {"image": Feature((self.size, self.size, self.channels))}
        classes = self._classes()
        if classes:
            columns["label"] = Feature((), len(classes), tuple(classes))
        return Named(columns)

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        files, folder = self._files(), Path(self.path)
        if self._has_splits():
            parts = {
                split: [file for file in files if file.relative_to(folder).parts[0] == split]
                for split in SPLITS
            }
            for split, part in parts.items():
                if not part:
                    raise ValueError(f"no picture in {folder / split}, the {split} split")
        else:
            rows = divide(len(files), str(folder))
            parts = {split: [files[row] for row in rows[split]] for split in SPLITS}
        return {split: self._read(part) for split, part in parts.items()}

    def _read(self, files: list[Path]) -> Iterator[Mapping[str, Any]]:
        classes = {name: number for number, name in enumerate(self._classes())}
        for file in files:
            image = read_picture(file, (self.size, self.size), self.channels)
            label = {"label": classes[self._class(file)]} if classes else {}
            yield {"image": image, **label}

    def _files(self) -> list[Path]:
        folder = Path(self.path)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; set --data.source.path to a folder of pictures"
            )
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise ValueError(f"no picture in {folder}; known endings: {', '.join(SUFFIXES)}")
        return files

    def _has_splits(self) -> bool:
        return all((Path(self.path) / split).is_dir() for split in SPLITS)

    def _class(self, file: Path) -> str:
        parts = file.relative_to(self.path).parts[:-1]
        parts = parts[1:] if self._has_splits() else parts
        return parts[0] if parts else ""

    def _classes(self) -> list[str]:
        classes = sorted({self._class(file) for file in self._files()})
        if classes == [""]:
            return []
        if "" in classes:
            loose = next(file for file in self._files() if not self._class(file))
            raise ValueError(
                f"{self.path} has classes (sub-folders), but {loose.name} is in none; move it"
            )
        return classes
