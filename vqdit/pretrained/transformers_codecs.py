"""Import of neural audio codecs from folders that transformers writes (`save_pretrained`)."""

from pathlib import Path
from typing import Any

from vqdit.files import read_json
from vqdit.pretrained import dac, encodec, mimi
from vqdit.pretrained.diffusers import weights
from vqdit.pretrained.diffusers_config import NAME
from vqdit.pretrained.layout import Imported
from vqdit.pretrained.stored import escaped

KIND = "model_type"
SOURCES = {"dac": dac, "encodec": encodec, "mimi": mimi}
"""The modules that import each model_type."""


def read(folder: Path) -> dict[str, Any] | None:
    """Returns the config of a folder; None if it has no config with a model_type."""
    try:
        config = read_json(folder / NAME, {f"{KIND}?": str})
    except OSError:
        return None
    return config if KIND in config else None


def convert(folder: Path, config: dict[str, Any]) -> Imported:
    """Returns the codec in a folder; `config` is the content of its config.json.

    Raises:
        FileNotFoundError: if there are no weights.
        PretrainedMismatch: if tensors are missing, unexpected or of another shape.
        ValueError: if the kind of the model, or one of its options, cannot be imported.
    """
    kind = config[KIND]
    if kind not in SOURCES:
        raise ValueError(
            f"a model of transformers with {KIND}={escaped(kind)} cannot be imported; known are "
            f"{', '.join(SOURCES)}"
        )
    return SOURCES[kind].convert(config, weights(folder))
