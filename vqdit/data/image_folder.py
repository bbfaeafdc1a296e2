"""Data from a folder of image files."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from vqdit.data.builders.description import is_prepared
from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature, divide, root
from vqdit.files import local_path, write_whole
from vqdit.modalities.classes import class_name, in_order, shown
from vqdit.modalities.pictures import (
    SUFFIXES,
    UnreadablePicture,
    check_form,
    find_pictures,
    is_clutter,
    open_picture,
    read_picture,
)
from vqdit.typing import Named, resumable

SPLIT_LIKE = {*SPLITS, "training", "val", "valid", "dev", "testing"}
"""Folder names that suggest splits. A folder that has some of these and no others is an error."""
NAMED = 10
"""Number of unreadable pictures that an error names."""
SUFFIXES_BEFORE = (".png", ".jpg", ".jpeg", ".webp")
"""File endings that earlier versions read."""


class ImageFolder(Recorded):
    """A folder of images: `image` uint8 [size, size, channels], and `label` if there are classes.

    PNG, JPEG, WebP, GIF, BMP and TIFF files are read. Sub-folders are classes, sorted as numbers if
    all are whole numbers, else as text; the folders inside a class do not matter. If the folder has
    the sub-folders `train`, `validation` and `test`, these are the splits, and files outside of
    them are ignored; otherwise 10 % of the images of each class go to validation and 10 % to test.
    Hidden files (`.name`) are ignored, and symbolic links are followed. The images are prepared
    when they are first used, and again when files or options change.

    Attributes:
        path: the folder.
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        on_error: "error" refuses a folder with images that cannot be read, naming all of them;
            "skip" leaves them out.
    """

    path: str = resumable("pictures")
    size: int = 64
    channels: int = 3
    on_error: Literal["error", "skip"] = resumable("error")

    def __post_init__(self) -> None:
        check_form(self, self.size, self.channels)
        if self.on_error not in ("error", "skip"):
            raise ValueError(f"ImageFolder needs on_error='error' or 'skip', got {self.on_error!r}")

    def key(self) -> str:
        pictures = self._pictures()
        before = [p for p in pictures if p.file.suffix.lower() in SUFFIXES_BEFORE]
        if 0 < len(before) < len(pictures):
            key = self._key(before)
            if is_prepared(
                root() / key
            ):  # prepared by a version that read fewer endings: used unchanged
                return key
        return self._key(pictures)

    def _key(self, pictures: "list[_Picture]") -> str:
        folder = self._folder()
        skip = " skip" if self.on_error == "skip" else ""
        form = f" {self.size} {self.channels}{skip}\n".encode()
        digest = hashlib.sha256(os.fsencode(folder.resolve()) + form)
        for picture in pictures:
            stat, name = picture.file.stat(), picture.file.relative_to(folder)
            digest.update(os.fsencode(name) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return f"image_folder_{digest.hexdigest()[:16]}"

    def raw_features(self) -> Named[Feature]:
        columns = {"image": Feature((self.size, self.size, self.channels))}
        classes = self._classes(self._pictures())
        if classes:
            columns["label"] = Feature((), len(classes), classes)
        return Named(columns)

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        pictures, folder = self._pictures(), self._folder()
        classes = {name: number for number, name in enumerate(self._classes(pictures))}
        if all(picture.split for picture in pictures):
            parts = {split: [p for p in pictures if p.split == split] for split in SPLITS}
            for split, part in parts.items():
                if not part:
                    raise ValueError(
                        f"no picture in {folder / split}, the {split} split; add some, or remove "
                        "the folders of the splits"
                    )
        else:
            labels = [picture.group for picture in pictures] if len(classes) > 1 else []
            rows = divide(len(pictures), str(folder), labels)
            parts = {split: [pictures[row] for row in rows[split]] for split in SPLITS}
        order = [picture for part in parts.values() for picture in part]
        starts = np.cumsum([0, *map(len, parts.values())]).tolist()
        ranges = {split: range(*starts[n : n + 2]) for n, split in enumerate(SPLITS)}
        examples = {split: self._read(order, ranges[split], classes) for split in SPLITS}
        return examples | {"train": itertools.chain(self._remarks(classes), examples["train"])}

    def _read(
        self, pictures: "list[_Picture]", numbers: range, classes: Mapping[str, int]
    ) -> Iterator[Mapping[str, Any] | str]:
        """Reads some of the pictures; yields a remark in place of each unreadable one."""
        for number in numbers:
            picture = pictures[number]
            try:
                image = read_picture(picture.file, (self.size, self.size), self.channels)
            except UnreadablePicture as error:
                if self.on_error == "error":
                    raise self._unreadable(error, pictures[number + 1 :]) from error
                yield f"left out, since it cannot be decoded: {shown(picture.file)} ({error.why})"
                continue
            yield {"image": image, **({"label": classes[picture.group]} if classes else {})}

    def _unreadable(self, first: UnreadablePicture, rest: "list[_Picture]") -> ValueError:
        """Returns an error that names all pictures that cannot be read."""
        found = [first]
        for picture in rest:
            try:
                open_picture(picture.file, self.channels)
            except UnreadablePicture as error:
                found.append(error)
        way_out = f"or leave them out with on-error=skip {OPTION.replace('path', 'on-error')}"
        if len(found) == 1:
            return ValueError(f"{first}, {way_out}")
        lines = [f"{shown(error.file)} ({error.why})" for error in found]
        message = f"{len(found)} pictures cannot be decoded: {', '.join(lines[:NAMED])}"
        if len(found) > NAMED:
            file = root() / f"unreadable_{self.key()}.txt"
            write_whole(file, "".join(f"{line}\n" for line in lines).encode(errors="replace"))
            message += f", and {len(found) - NAMED} more, which {file} lists"
        return ValueError(f"{message}; replace or remove them, {way_out}")

    def _remarks(self, classes: Mapping[str, int]) -> Iterator[str]:
        """Yields lines about files of the folder that are not read, and about a single class."""
        found = find_pictures(self._folder())
        if found.left_out:
            counts = (f"{count} {ending}" for ending, count in sorted(found.left_out.items()))
            yield f"left out, because of their endings: {', '.join(counts)}"
        for path in found.unreadable:
            yield f"left out, not permitted or a broken link: {shown(path)}"
        places = {file.relative_to(self._folder()).parts[0] for file in found.pictures}
        for path in sorted(self._folder().iterdir()):
            if path.is_dir() and path.name not in places and not is_clutter(path.name):
                yield f"not a class, since it has no picture: {shown(path)}"
        if several := self._found_again():
            first, again = several[0][:2]
            yield (
                f"{len(several)} pictures have several paths, for example by links, and are an "
                f"example for each path: {shown(first)} and {shown(again)}"
            )
        if len(classes) == 1:
            name = next(iter(classes))
            yield (
                f"only one class: all pictures are in {name!r}; if that is not a class, give its "
                "path"
            )

    def _found_again(self) -> list[list[Path]]:
        """Returns the paths of each picture with several paths."""
        paths: dict[tuple[int, int], list[Path]] = {}
        for picture in self._pictures():
            stat = picture.file.stat()
            if stat.st_ino:  # 0 on file systems without inode numbers
                paths.setdefault((stat.st_dev, stat.st_ino), []).append(picture.file)
        return [several for several in paths.values() if len(several) > 1]

    def announced(self) -> Named[Feature]:
        return self.features() if self.is_prepared() else self.raw_features()

    def _folder(self) -> Path:
        folder = local_path(self.path)
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
                f"{self.path} has classes (sub-folders), but {loose} is in none of them; move it "
                "into one"
            )
        return classes


class _Picture(NamedTuple):
    """An image file with the names of its split and class, which are empty if it has none."""

    file: Path
    split: str
    group: str
