"""`vqdit.load`: a trained run as a Python object, arrays in and arrays out."""

from pathlib import Path
from typing import Any

from vqdit.inference.generator import Generator
from vqdit.inference.tokenizer import Tokenizer
from vqdit.runs import restoring
from vqdit.tasks.autoencoder import AutoencoderTask
from vqdit.tasks.base import Trained


def load(path: str | Path) -> Tokenizer | Generator:
    """Loads a trained run.

    Args:
        path: a workdir, or the folder of a config with several experiments: its last one.

    Raises:
        FileNotFoundError: there is no run, or no checkpoint yet.
    """
    restored = restoring.restore(Path(path))
    return (
        Tokenizer(restored) if isinstance(restored.task, AutoencoderTask) else Generator(restored)
    )


def resolver(siblings: dict[str, Path]) -> Any:
    """Returns a function that finds trained tasks by name of an earlier experiment, or by path."""

    def resolve(name: str) -> Trained:
        folder = siblings.get(name, Path(name))
        try:
            restored = restoring.restore(folder)
        except FileNotFoundError as error:
            known = f"; earlier experiments here: {', '.join(siblings)}" if siblings else ""
            raise FileNotFoundError(f"cannot find {name!r}: {error}{known}") from error
        return Trained(restored.task, restored.params, restored.stats)

    return resolve
