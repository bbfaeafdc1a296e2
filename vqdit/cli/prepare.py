"""`vqdit prepare NAME`: prepares a data set, and prints the options that train on it."""

import shlex
from collections.abc import Mapping
from typing import Annotated, Any

from tyro.conf import Positional

from vqdit.cli.options import (
    COUNT,
    EDGE,
    NAME,
    NUMBER,
    choice,
    near,
    read_number,
    text,
)

Size = Annotated[int | None, EDGE]
Length = Annotated[int | None, COUNT]
OnError = Annotated[str | None, choice("error", "skip")]
Documents = Annotated[str | None, choice("file", "line", "blank_lines")]
Errors = Annotated[str | None, choice("strict", "replace")]
SplitBy = Annotated[str | None, choice("documents", "position")]
Seconds = Annotated[str | None, text("LOW,HIGH")]
Loudness = Annotated[float | None, NUMBER]
Fps = Annotated[float | None, NUMBER]
Transcripts = Annotated[str | None, choice("files", "names")]
SOURCES = {
    "digits": ("Digits", ()),
    "fashion_mnist": ("FashionMNIST", ("path", "download")),
    "spoken_fashion": ("SpokenFashion", ("path",)),
    "image_folder": ("ImageFolder", ("path", "size", "channels", "on_error")),
    "moving_fashion": ("MovingFashion", ("path", "size", "channels", "frames", "fps")),
    "video_folder": (
        "VideoFolder",
        ("path", "size", "channels", "frames", "fps", "captions", "on_error"),
    ),
    "table": ("Table", ("path", "size", "channels", "samples", "rate", "length")),
    "text_files": ("TextFiles", ("path", "length", "documents", "errors", "split_by")),
    "audio_folder": (
        "AudioFolder",
        ("path", "rate", "channels", "samples", "seconds", "loudness", "transcripts", "on_error"),
    ),
    "asterisk_speech": ("AsteriskSpeech", ("path", "rate", "seconds", "loudness")),
    "spoken_words": ("SpokenWords", ("path", "rate", "seconds", "loudness")),
    "chorales": ("Chorales", ("rate", "seconds", "loudness")),
    "kjv": ("KJV", ("path", "length")),
    "tfds:NAME": ("TFDS", ("size", "channels")),
}
"""The class of each data set, and its options."""
OF_AUDIO = ("rate", "channels", "samples", "seconds")
"""Options that are fields of the `audio` of sources that have one."""
OF_VIDEO = ("size", "channels", "frames", "fps")
"""Options that are fields of the `video` of sources of clips."""
WITH_VIDEO = ("MovingFashion", "VideoFolder")
WITH_AUDIO = ("AudioFolder", "AsteriskSpeech", "SpokenWords", "Chorales")


def prepare(
    name: Positional[Annotated[str, NAME]],
    path: Positional[Annotated[str | None, text("PATH")]] = None,
    *,
    size: Size = None,
    channels: Size = None,
    samples: Length = None,
    rate: Length = None,
    length: Length = None,
    on_error: OnError = None,
    documents: Documents = None,
    errors: Errors = None,
    split_by: SplitBy = None,
    seconds: Seconds = None,
    loudness: Loudness = None,
    transcripts: Transcripts = None,
    captions: Transcripts = None,
    frames: Length = None,
    fps: Fps = None,
    download: bool = False,
) -> int:
    """Prepare a data set for training, without TensorFlow.

    Data are written to $VQDIT_DATA, by default ~/.cache/vqdit/data. The data sets:

    digits: 1,797 handwritten digits, included in scikit-learn.

    fashion_mnist [PATH]: Debian's package dataset-fashion-mnist, or a folder with the four IDX
    files; --download fetches them.

    spoken_fashion [PATH]: fashion_mnist with captions, and speech of the captions by espeak-ng.

    image_folder PATH: a folder of PNG, JPEG, WebP, GIF, BMP or TIFF files; sub-folders are classes.

    audio_folder PATH: a folder of WAV, FLAC, Ogg, MP3 or other sounds; sub-folders are classes.

    video_folder PATH: a folder of MP4, WebM, MOV, GIF or other videos; sub-folders are classes.

    moving_fashion [PATH]: fashion_mnist in motion: clips with captions and tones.

    asterisk_speech: recorded prompts and their texts, of Debian's packages
    asterisk-core-sounds-en-wav and asterisk-core-sounds-en.

    spoken_words [WORDS.txt]: words or phrases, one per line, spoken by espeak-ng in several ways;
    by default the names of the digits.

    chorales: four-part progressions with known notes, played by FluidSynth.

    table ROWS.jsonl: a table (.jsonl, .csv or .parquet) with the columns image, audio, text, label
    and split. For columns with other names, `vqdit configure ROWS.jsonl` writes a config.

    text_files PATH: a UTF-8 file of any size, or a folder of .txt, .text or .md files, cut into
    windows.

    kjv [PATH]: the King James Bible, by Debian's package bible-kjv.

    tfds:NAME: any data set of TFDS, such as tfds:celeb_a.

    CONFIG.py: the data of all experiments of a config, such as a table with any columns.

    Args:
        name: Name of a data set, or a config.
        path: File or folder of the data set.
        size: Edge in pixels of the squares to which pictures are cropped and resized. Default: 64;
            32 for clips.
        channels: 1 for grey, 3 for colour; default 3, and 1 for moving_fashion. For an
            audio_folder: 1 for mono, 2 for stereo; default 1.
        samples: Length of a table's sounds, in samples; default 8000. For an audio_folder: length
            of its consecutive windows.
        rate: Sampling rate of sounds, in Hz. Default: 8000; 16000 for audio_folder and chorales.
        length: For a table: largest length of a text in bytes; default 64. For text_files and kjv:
            length of a window; default 1024.
        on_error: For an image_folder, audio_folder or video_folder, what to do if files cannot be
            decoded: "error" stops and names them, "skip" leaves them out. Default: error.
        documents: The documents of text_files: files, lines, or blocks between blank lines.
            Default: file.
        errors: For text_files, what to do with bytes that are not UTF-8: "strict" stops, "replace"
            converts them to the replacement character. Default: strict.
        split_by: How text_files are divided into splits: "documents" at random, or by "position":
            90 % of the bytes for training, 5 % for validation and 5 % for test. Default: documents.
        seconds: Shortest and longest duration of recordings, such as 0.5,10; longer ones of an
            audio_folder are divided. Default: 0.5,10, and 0.2,8 for asterisk_speech.
        loudness: Loudness to which each recording is scaled, in LUFS, such as -16. Default: no
            scaling.
        transcripts: Texts of an audio_folder: files (hello.txt beside hello.wav) or names of the
            files. Default: none.
        captions: Texts of a video_folder: files (dog.txt beside dog.mp4) or names of the files.
            Default: none.
        frames: Number of frames of clips. Default: 17.
        fps: Frames per second of clips. Default: 8.
        download: Download the files of fashion_mnist.
    """
    options = {
        "path": path,
        "size": size,
        "channels": channels,
        "samples": samples,
        "rate": rate,
        "length": length,
        "on_error": on_error,
        "documents": documents,
        "errors": errors,
        "split_by": split_by,
        "seconds": seconds,
        "loudness": loudness,
        "transcripts": transcripts,
        "captions": captions,
        "frames": frames,
        "fps": fps,
        "download": download or None,
    }
    if name.endswith(".py"):
        return _prepare_config(name, options)
    cls, fields = read(name, options)

    from vqdit import data

    if fields.pop("download", False):
        from vqdit.data import fashion_mnist

        fields["path"] = str(fashion_mnist.download())
    if cls == "TFDS":
        from vqdit.data.stock import lacks_pictures, prepare_stock

        fields["name"] = prepare_stock(fields["name"])
        if columns := lacks_pictures(fields["name"]):
            print(f"{name}: prepared; it has no feature named image with pictures")
            print(f"  list its columns in a config: TFDS(name={fields['name']!r}, {columns})")
            return 0
    _report(name, build(getattr(data, cls), fields))
    line = " ".join(
        f"--data.source.{key.replace('_', '-')}={shlex.quote(_shown(fields[key]))}"
        for key in fields
    )
    print(f"  train on it with: --data.source={cls} {line}".rstrip())
    return 0


def _prepare_config(name: str, options: Mapping[str, Any]) -> int:
    """Prepares the data of all experiments of a config."""
    from vqdit import config

    for option, value in options.items():
        if value is not None:
            raise ValueError(f"the config {name} defines the data; leave out {option}={value!r}")
    _, found = config.load(name)
    experiments = found.values() if isinstance(found, dict) else [found]
    for source in dict.fromkeys(experiment.data.source for experiment in experiments):
        _report(getattr(source, "path", "") or type(source).__name__, source)
    print(f"  train on it with: --config={shlex.quote(name)}")
    return 0


def _report(name: str, source: Any) -> None:
    """Prepares a source, and prints its columns and the sizes of its splits."""
    from vqdit.data.builders.description import examples_per_class, remarks
    from vqdit.data.recorded import Recorded
    from vqdit.data.sources import SPLITS

    folder = source.prepare(quiet=True) if isinstance(source, Recorded) else None
    counts = {split: len(source.split(split)) for split in SPLITS}
    print(f"{name}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
    for column, feature in source.features().items():
        classes = f", {feature.classes} classes" if feature.classes else ""
        longest = "at most " if feature.ragged else ""
        print(f"  {column}: {longest}{list(feature.shape)}{classes}")
    if folder is not None:
        for line in examples_per_class(folder) + remarks(folder):
            print(f"  {line}")


def read(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the class of a data set, and the values of its fields from the options.

    Raises:
        ValueError: the data set is unknown, or does not have an option.
    """
    kind = "tfds:NAME" if name.startswith("tfds:") and name != "tfds:" else name
    if kind not in SOURCES or name == "tfds:NAME":
        raise ValueError(
            f"unknown data set {name!r}{near(name, SOURCES)}; choose one of: {', '.join(SOURCES)}, "
            "or a config, which ends in .py"
        )
    cls, takes = SOURCES[kind]
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in takes:
            flag = f"--{option.replace('_', '-')}"
            shown = f"path, got {options[option]!r}" if option == "path" else flag
            raise ValueError(f"the data set {name} takes no {shown}; see --help")
    if (
        cls in ("ImageFolder", "AudioFolder", "VideoFolder", "Table", "TextFiles")
        and "path" not in options
    ):
        raise ValueError(f"vqdit prepare {name} needs a path, as in vqdit prepare {name} PATH")
    if cls == "TFDS":
        options = {"name": name.removeprefix("tfds:"), **options}
    if cls in WITH_AUDIO:
        nested = {f"audio.{name}" if name in OF_AUDIO else name: options[name] for name in options}
        if "audio.samples" in nested:
            if "audio.seconds" in nested:
                raise ValueError(
                    "--samples and --seconds both set the length of sounds; give only one of them"
                )
            nested["audio.seconds"] = ()
        elif "audio.seconds" in nested:
            bounds = [read_number("--seconds", w) for w in nested["audio.seconds"].split(",")]
            nested["audio.seconds"] = bounds[0], bounds[-1]
        options = nested
    if cls in WITH_VIDEO:
        if "size" in options:
            options["size"] = options["size"], options["size"]
        options = {f"video.{name}" if name in OF_VIDEO else name: options[name] for name in options}
    return cls, options


def build(cls: type[Any], fields: Mapping[str, Any]) -> Any:
    """Returns a source; the name a.b sets the field b of the component in the field a.

    Args:
        cls: class of the source.
        fields: values by name, as `read` returns them.
    """
    import dataclasses

    source = cls(**{name: value for name, value in fields.items() if "." not in name})
    inner: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        part, _, field = name.partition(".")
        if field:
            inner.setdefault(part, {})[field] = value
    parts = {part: dataclasses.replace(getattr(source, part), **inner[part]) for part in inner}
    return dataclasses.replace(source, **parts)


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
