"""Data from a folder of image files."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from vqdit.data.builders.description import is_prepared
from vqdit.data.class_folders import ClassFolder, Grouped
from vqdit.data.recorded import Recorded
from vqdit.data.sources import OPTION, SPLITS, Feature, root
from vqdit.files import write_whole
from vqdit.modalities.classes import shown
from vqdit.modalities.pictures import (
    SUFFIXES,
    UnreadablePicture,
    check_form,
    open_picture,
    read_picture,
)
from vqdit.typing import Named, resumable

NAMED = 10
"""Number of unreadable pictures that an error names."""
SUFFIXES_BEFORE = (".png", ".jpg", ".jpeg", ".webp")
"""File endings that earlier versions read."""


class ImageFolder(Recorded):
    """A folder of images: `image` uint8 [size, size, channels], and `label` if there are classes.

    PNG, JPEG, WebP, GIF, BMP and TIFF files are read. Sub-folders are classes, sorted as numbers if
    all are whole numbers, else as text; files in folders inside a class belong to this class. If
    the folder has the sub-folders `train`, `validation` and `test`, these are the splits, and files
    outside of them are ignored; otherwise 10 % of the images of each class go to validation and
    10 % to test. Hidden files (`.name`) are ignored, and symbolic links are followed. The images
    are prepared when they are first used, and again when files or options change.

    Attributes:
        path: the folder.
        size: edge of the square to which each image is cropped and resized, in pixels.
        channels: 1 for grey, 3 for colour.
        on_error: "error" raises an error that names all images that cannot be read; "skip" leaves
            them out.
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

    def _key(self, pictures: list[Grouped]) -> str:
        skip = " skip" if self.on_error == "skip" else ""
        form = f" {self.size} {self.channels}{skip}\n"
        return f"image_folder_{self._folder.digest(form, pictures)}"

    def raw_features(self) -> Named[Feature]:
        columns = {"image": Feature((self.size, self.size, self.channels))}
        classes = self._folder.classes(self._pictures())
        if classes:
            columns["label"] = Feature((), len(classes), classes)
        return Named(columns)

    def examples(self) -> Mapping[str, Iterable[Mapping[str, Any] | str]]:
        pictures, folder = self._pictures(), self._folder
        names = folder.classes(pictures)
        classes = {name: number for number, name in enumerate(names)}
        parts = folder.divided(pictures, names)
        order = [picture for part in parts.values() for picture in part]
        starts = np.cumsum([0, *map(len, parts.values())]).tolist()
        ranges = {split: range(*starts[n : n + 2]) for n, split in enumerate(SPLITS)}
        examples = {split: self._read(order, ranges[split], classes) for split in SPLITS}
        return examples | {"train": itertools.chain(folder.remarks(names), examples["train"])}

    def _read(
        self, pictures: list[Grouped], numbers: range, classes: Mapping[str, int]
    ) -> Iterator[Mapping[str, Any] | str]:
        """Reads the pictures `numbers`; yields a remark in place of each unreadable one."""
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

    def _unreadable(self, first: UnreadablePicture, rest: list[Grouped]) -> ValueError:
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

    def announced(self) -> Named[Feature]:
        return self.features() if self.is_prepared() else self.raw_features()

    @property
    def _folder(self) -> ClassFolder:
        return ClassFolder(path=self.path, what="picture", endings=SUFFIXES)

    def _pictures(self) -> list[Grouped]:
        return self._folder.files()
