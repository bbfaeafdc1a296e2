"""Data from a folder of image files."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vqdit.data.classes import class_name, in_order, shown
from vqdit.data.pictures import SUFFIXES, check_form, find_pictures, read_picture
from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature, divide
from vqdit.typing import Named, resumable

SPLIT_LIKE = {*SPLITS, "training", "val", "valid", "dev", "testing"}
"""Folder names that suggest splits: an error is raised if these are the only folders."""


class ImageFolder(Recorded):
    """A folder of images: `image` uint8 [size, size, channels], and `label` if there are classes.

    PNG, JPEG and WebP files are read. Sub-folders are classes, sorted as numbers if all are whole
    numbers, else as text; folders within them make no difference. If the folder has the sub-folders
    `train`, `validation` and `test`, these are the splits, and files outside of them are ignored;
    otherwise 10 % of the images go to validation and 10 % to test. Hidden files (`.name`) are
    ignored, and symbolic links are followed. The images are prepared at first use and whenever the
    files or the options change.

    Attributes:
        path: the folder.
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
    """

    path: str = resumable("pictures")
    size: int = 64
    channels: int = 3

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)

    def key(self) -> str:
        folder = self._folder()
        form = f" {self.size} {self.channels}\n".encode()
        digest = hashlib.sha256(os.fsencode(folder.resolve()) + form)
        for picture in self._pictures():
            stat, name = picture.file.stat(), picture.file.relative_to(folder)
            digest.update(os.fsencode(name) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"image_folder_{digest.hexdigest()[:16]}"

    def columns(self) -> Named[Feature]:
        columns = {"image": Feature((self.size, self.size, self.channels))}
        classes = self._classes(self._pictures())
        if classes:
            columns["label"] = Feature((), len(classes), classes)
        return Named(columns)

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any]]]:
        pictures, folder = self._pictures(), self._folder()
        if all(picture.split for picture in pictures):
            parts = {split: [p for p in pictures if p.split == split] for split in SPLITS}
            for split, part in parts.items():
                if not part:
                    raise ValueError(
                        f"no picture in {folder / split}, the {split} split; add some, or remove "
                        "the folders of the splits"
                    )
        else:
            rows = divide(len(pictures), str(folder))
            parts = {split: [pictures[row] for row in rows[split]] for split in SPLITS}
        classes = {name: number for number, name in enumerate(self._classes(pictures))}
        return {split: self._read(part, classes) for split, part in parts.items()}

    def _read(
        self, pictures: "list[_Picture]", classes: Mapping[str, int]
    ) -> Iterator[Mapping[str, Any]]:
        for picture in pictures:
            image = read_picture(picture.file, (self.size, self.size), self.channels)
            label = {"label": classes[picture.group]} if classes else {}
            yield {"image": image, **label}

    def _folder(self) -> Path:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; give the path {OPTION} of a folder of pictures"
            )
        return folder

    def _pictures(self) -> "list[_Picture]":
        folder = self._folder()
        has_splits = all((folder / split).is_dir() for split in SPLITS)
        pictures = []
        for file in find_pictures(folder).pictures:
            above = file.relative_to(folder).parts[:-1]
            split = above[0] if has_splits and above else ""
            group = above[1:2] if has_splits else above[:1]
            if split in SPLITS or not has_splits:
                name = class_name("".join(group), shown(file))
                pictures.append(_Picture(file, split, name))
        if not pictures:
            raise ValueError(f"no picture in {folder}; known endings: {', '.join(SUFFIXES)}")
        groups = {picture.group for picture in pictures}
        if not has_splits and {group.lower() for group in groups} <= SPLIT_LIKE:
            raise ValueError(
                f"{folder} has the folders {', '.join(sorted(groups))}, but splits need all of: "
                f"{', '.join(SPLITS)}; rename the folders, or merge them to split at random"
            )
        return pictures

    def _classes(self, pictures: "list[_Picture]") -> tuple[str, ...]:
        classes = in_order((picture.group for picture in pictures), self.path)
        if classes == ("",):
            return ()
        if "" in classes:
            loose = next(picture.file for picture in pictures if not picture.group)
            raise ValueError(
                f"{self.path} has classes (sub-folders), but {loose} is in none; move it"
            )
        return classes


class _Picture(NamedTuple):
    """An image file with the names of its split and class, which are empty if it has none."""

    file: Path
    split: str
    group: str
