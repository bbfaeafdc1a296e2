"""`vqdit prepare NAME`: prepares a data set, and says how a config names it."""

import shlex
from typing import Any

from vqdit.cli.options import near, parse, with_help

USAGE = """usage: vqdit prepare NAME [PATH] [OPTIONS]

Prepares a data set for training, without TensorFlow. NAME is one of

  digits                    1,797 handwritten digits, carried by scikit-learn
  fashion_mnist [PATH]      from Debian's package dataset-fashion-mnist, or from a folder with the
                            four IDX files; --download fetches them
  spoken_fashion [PATH]     fashion_mnist with captions, and their speech by espeak-ng
  image_folder PATH         a folder of PNG, JPEG or WebP files; sub-folders are classes
  table ROWS.jsonl          a table (.jsonl or .csv) with the columns image, audio, text, label
                            and split
  tfds:NAME                 any stock TFDS data set, such as tfds:celeb_a

  --size=PIXELS             edge that pictures are cropped and resized to (default: 64)
  --channels=N              1 for grey, 3 for colour (default: 3)
  --samples=N, --rate=HZ    length and rate of a table's sounds (default: 8000 each)
  --length=BYTES            of a table's longest text (default: 64)

Data go to $VQDIT_DATA, by default ~/.cache/vqdit/data."""
OPTIONS = {
    "size": int,
    "channels": int,
    "samples": int,
    "rate": int,
    "length": int,
    "download": bool,
}
SOURCES = {
    "digits": ("Digits", ()),
    "fashion_mnist": ("FashionMNIST", ("path", "download")),
    "spoken_fashion": ("SpokenFashion", ("path",)),
    "image_folder": ("ImageFolder", ("path", "size", "channels")),
    "table": ("Table", ("path", "size", "channels", "samples", "rate", "length")),
    "tfds:NAME": ("TFDS", ("size", "channels")),
}
"""The class of each data set, and what it takes."""


@with_help(USAGE)
def main(argv: list[str]) -> int:
    """Runs the command."""
    options = parse(argv, OPTIONS, words=("name", "path"))
    if "name" not in options:
        raise ValueError("vqdit prepare needs a NAME, as in vqdit prepare digits; see --help")
    name = options.pop("name")
    cls, fields = read(name, options)

    from vqdit import data
    from vqdit.data.sources import SPLITS

    if fields.pop("download", False):
        from vqdit.data.fashion_mnist import download

        fields["path"] = str(download())
    if cls == "TFDS":
        from vqdit.data.stock import prepare_stock

        prepare_stock(fields["name"])
    source = getattr(data, cls)(**fields)
    counts = {split: len(source.split(split)) for split in SPLITS}
    print(f"{name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for column, feature in source.features().items():
        classes = f", {feature.classes} classes" if feature.classes else ""
        print(f"  {column}: {list(feature.shape)}{classes}")
    line = " ".join(f"--data.source.{key}={shlex.quote(str(fields[key]))}" for key in fields)
    print(f"  train on it with: --data.source={cls} {line}".rstrip())
    return 0


def read(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the class of a data set, and its fields.

    Raises:
        ValueError: the data set is unknown, or takes no such option.
    """
    kind = "tfds:NAME" if name.startswith("tfds:") and name != "tfds:" else name
    if kind not in SOURCES or name == "tfds:NAME":
        raise ValueError(
            f"unknown data set {name!r}{near(name, SOURCES)}; one of: {', '.join(SOURCES)}"
        )
    cls, takes = SOURCES[kind]
    for option in options:
        if option not in takes:
            shown = f"path, got {options[option]!r}" if option == "path" else f"--{option}"
            raise ValueError(f"{name} takes no {shown}; see --help")
    if cls in ("ImageFolder", "Table") and "path" not in options:
        raise ValueError(f"vqdit prepare {name} needs a path, as in vqdit prepare {name} PATH")
    if cls == "TFDS":
        options = {"name": name.removeprefix("tfds:"), **options}
    return cls, options
