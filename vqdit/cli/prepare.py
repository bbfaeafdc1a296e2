"""`vqdit prepare NAME`: prepares a data set, and says how a config names it."""

from vqdit.cli.sample import parse

USAGE = """usage: vqdit prepare NAME [PATH] [OPTIONS]

Prepares a data set for training, without TensorFlow. NAME is one of

  digits                    1,797 handwritten digits, carried by scikit-learn
  fashion_mnist [PATH]      from Debian's package dataset-fashion-mnist, or from a folder with the
                            four IDX files; --download fetches them
  image_folder PATH         a folder of PNG, JPEG or WebP files; sub-folders are classes
  table ROWS.jsonl          a table (.jsonl or .csv) with the columns image, label and split
  tfds:NAME                 any stock TFDS data set, such as tfds:celeb_a

  --size=PIXELS             edge that pictures are cropped and resized to (default: 64)
  --channels=N              1 for grey, 3 for colour (default: 3)

Data go to $VQDIT_DATA, by default ~/.cache/vqdit/data."""
OPTIONS = {"size": int, "channels": int}
NAMES = ("digits", "fashion_mnist", "image_folder", "table")


def main(argv: list[str]) -> int:
    """Runs the command."""
    if not argv or "-h" in argv or "--help" in argv:
        print(USAGE)
        return 0 if argv else 2
    download = "--download" in argv
    positional = [arg for arg in argv if not arg.startswith("--")]
    options = parse([arg for arg in argv if arg.startswith("--") and arg != "--download"], OPTIONS)
    name, path = positional[0] if positional else "", (positional[1:] or [""])[0]

    from vqdit.data.sources import SPLITS
    from vqdit.train.writers import configure_logging

    configure_logging(None)
    source, line = _source(name, path, options, download)
    counts = {split: len(source.split(split)) for split in SPLITS}
    print(f"{name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for column, feature in source.features().items():
        classes = f", {feature.classes} classes" if feature.classes else ""
        print(f"  {column}: {list(feature.shape)}{classes}")
    print(f"  train on it with: {line}")
    return 0


def _source(name: str, path: str, options: dict, download: bool):  # noqa: ANN202
    from vqdit.data import TFDS, Digits, FashionMNIST, ImageFolder, Table

    if name == "digits":
        return Digits(), "--data.source=Digits"
    if name == "fashion_mnist":
        if download:
            from vqdit.data.fashion_mnist import download as fetch

            path = str(fetch())
        source = FashionMNIST(path=path)
        extra = f" --data.source.path={path}" if path else ""
        return source, f"--data.source=FashionMNIST{extra}"
    fields = {"path": path, **options}
    extra = "".join(f" --data.source.{key}={value}" for key, value in options.items())
    if name in ("image_folder", "table"):
        if not path:
            raise ValueError(f"vqdit prepare {name} needs a PATH")
        if name == "table":
            return Table(**fields), f"--data.source=Table --data.source.path={path}{extra}"
        line = f"--data.source=ImageFolder --data.source.path={path}{extra}"
        return ImageFolder(**fields), line
    if name.startswith("tfds:"):
        from vqdit.data.stock import prepare_stock

        stock = name.removeprefix("tfds:")
        prepare_stock(stock)
        return TFDS(name=stock, **options), f"--data.source=TFDS --data.source.name={stock}{extra}"
    import difflib

    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown data set {name!r}{hint}; one of: {', '.join(NAMES)}, tfds:NAME")
