"""Files in folders: sub-folders are classes, and `train`, `validation` and `test` are splits."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vqdit.data.sources import OPTION, SPLITS, divide
from vqdit.escapes import escaped
from vqdit.files import local_path
from vqdit.modalities.classes import class_name, in_order, shown
from vqdit.modalities.pictures import Found, find_pictures, is_clutter
from vqdit.typing import Component

SPLIT_LIKE = {*SPLITS, "training", "val", "valid", "dev", "testing"}
"""Folder names that suggest splits. A folder that has some of these and no others is an error."""


class Grouped(NamedTuple):
    """A file with the names of its split and class, which are empty if it has none."""

    file: Path
    split: str
    group: str


class ClassFolder(Component):
    """A folder whose sub-folders may be splits and classes.

    Attributes:
        path: the folder.
        what: what the files are, such as "picture", for messages.
        endings: endings of the names of the files, such as ".png".
        beside: endings of accompanying files, such as transcripts, which are not reported as
            unread.
    """

    path: str
    what: str
    endings: tuple[str, ...]
    beside: tuple[str, ...] = ()

    @property
    def place(self) -> Path:
        """The folder; raises FileNotFoundError if there is none."""
        folder = local_path(self.path)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"no folder {folder}; give the path {OPTION} of a folder of {self.what}s"
            )
        return folder

    def find(self) -> Found:
        """Returns the files of the folder and its sub-folders, and the paths that are left out."""
        return find_pictures(self.place, self.endings)

    def files(self) -> list[Grouped]:
        """Returns all files with their splits and classes.

        Raises:
            ValueError: there is no file, or only some of the splits have a folder.
        """
        folder = self.place
        has_splits = all((folder / split).is_dir() for split in SPLITS)
        found = []
        for file in self.find().pictures:
            above = file.relative_to(folder).parts[:-1]
            split = above[0] if has_splits and above else ""
            group = above[1:2] if has_splits else above[:1]
            if split in SPLITS or not has_splits:
                name = class_name("".join(group), shown(file))
                found.append(Grouped(file, split, name))
        if not found:
            known = ", ".join(self.endings)
            raise ValueError(f"no {self.what} in {folder}; the names of files must end in {known}")
        groups = {one.group for one in found}
        if not has_splits and {group.lower() for group in groups} <= SPLIT_LIKE:
            raise ValueError(
                f"{folder} has the folders {', '.join(sorted(groups))}, but splits need all of: "
                f"{', '.join(SPLITS)}; rename the folders, or merge them to split at random"
            )
        return found

    def classes(self, files: Sequence[Grouped]) -> tuple[str, ...]:
        """Returns the names of the classes; () if no file is in a sub-folder."""
        classes = in_order((one.group for one in files), self.path)
        if classes == ("",):
            return ()
        if "" in classes:
            loose = next(one.file for one in files if not one.group)
            raise ValueError(
                f"{self.path} has classes (sub-folders), but {loose} is in none of them; move it "
                "into one"
            )
        return classes

    def divided(
        self, files: Sequence[Grouped], classes: Sequence[str] = ()
    ) -> Mapping[str, list[Grouped]]:
        """Returns the files of each split: by split folders, else at random within each class."""
        if not all(one.split for one in files):
            labels = [one.group for one in files] if len(classes) > 1 else []
            rows = divide(len(files), str(self.place), labels)
            return {split: [files[row] for row in rows[split]] for split in SPLITS}
        parts = {split: [one for one in files if one.split == split] for split in SPLITS}
        for split, part in parts.items():
            if not part:
                raise ValueError(
                    f"no {self.what} in {self.place / split}, the {split} split; add some, or "
                    "remove the folders of the splits"
                )
        return parts

    def remarks(self, classes: Sequence[str]) -> Iterator[str]:
        """Yields lines about files that are not read, and a line if there is only one class."""
        found, folder = self.find(), self.place
        others = sorted(found.left_out.items())
        counts = [f"{count} {ending}" for ending, count in others if ending not in self.beside]
        if counts:
            yield f"left out, because of their endings: {', '.join(counts)}"
        for path in found.unreadable:
            yield f"left out, not permitted or a broken link: {shown(path)}"
        places = {file.relative_to(folder).parts[0] for file in found.pictures}
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.name not in places and not is_clutter(path.name):
                yield f"not a class, since it has no {self.what}: {shown(path)}"
        if several := self._found_again():
            first, again = several[0][:2]
            yield (
                f"{len(several)} {self.what}s have several paths, for example by links, and are an "
                f"example for each path: {shown(first)} and {shown(again)}"
            )
        if len(classes) == 1:
            yield (
                f"only one class: all {self.what}s are in {classes[0]!r}; if that is not a class, "
                "give its path"
            )

    def _found_again(self) -> list[list[Path]]:
        """Returns the paths of each file that has several paths, for example through links."""
        paths: dict[tuple[int, int], list[Path]] = {}
        for one in self.files():
            stat = one.file.stat()
            if stat.st_ino:  # a file system without numbers of files has 0
                paths.setdefault((stat.st_dev, stat.st_ino), []).append(one.file)
        return [several for several in paths.values() if len(several) > 1]

    def digest(self, form: str, files: Sequence[Grouped]) -> str:
        """Returns a hash that differs whenever the files or the form of the data differ."""
        folder = self.place
        digest = hashlib.sha256(os.fsencode(folder.resolve()) + form.encode())
        for one in files:
            stat, name = one.file.stat(), one.file.relative_to(folder)
            digest.update(os.fsencode(name) + f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]


def text_beside(file: Path) -> str:
    """Returns the text in the .txt file beside a file, in one line; empty if there is none.

    Raises:
        ValueError: the text is not UTF-8.
    """
    file = file.with_suffix(".txt")
    if not file.is_file():
        return ""
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text {shown(file)} is not UTF-8 ({escaped(str(error))}); save it as UTF-8"
        ) from error
