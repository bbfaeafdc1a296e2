"""Text: UTF-8 bytes, zero-padded to one length. The bytes are codes: it needs no tokenizer."""

import html
import textwrap
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from vqdit.data.texts import to_bytes
from vqdit.modalities.base import Modality
from vqdit.typing import Array, Int, UInt8

BYTES = 256
PADDING = 0
"""The byte that fills up a text; it cannot occur in one."""


class Text(Modality):
    """Texts of at most a number of bytes.

    Attributes:
        length: bytes of the longest text; "seven" has 5, and letters outside of ASCII take more
            than one each.
    """

    length: int = 64

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"Text needs length >= 1, got {self.length}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def grid(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def vocabulary(self) -> int:
        return BYTES

    def standardize(self, raw: UInt8[Array, "b l"]) -> Int[Array, "b l 1"]:
        return raw.astype(jnp.int32)[..., None]

    def restore(self, x: Int[Array, "b l 1"]) -> UInt8[Array, "b l"]:
        return jnp.maximum(x[..., 0], PADDING).astype(jnp.uint8)

    def pack(self, values: Any) -> np.ndarray:
        texts = np.atleast_1d(np.asarray(values))
        if texts.dtype == self.dtype:
            return super().pack(texts)
        if texts.dtype.kind != "U" or texts.ndim != 1 or not len(texts):
            raise ValueError(f"must be a text or a list of texts, got {values!r}")
        return np.stack([to_bytes(str(text), self.length) for text in texts])

    def unpack(self, stored: np.ndarray) -> np.ndarray:
        texts = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in stored]
        return np.asarray([text.replace("\0", "\N{REPLACEMENT CHARACTER}") for text in texts])

    def read(self, value: str) -> list[np.ndarray]:
        path = Path(value).expanduser()
        if value.endswith(".txt"):
            if not path.is_file():
                raise FileNotFoundError(f"no text file {path}")
            try:
                # Not `splitlines`, which also divides at letters such as the line separator.
                lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 text: {error}") from error
            if lines == [""]:
                raise ValueError(f"{path} has no line of text")
            return [np.asarray(line) for line in lines]
        return [np.asarray(value)]

    def write(self, values: np.ndarray, folder: Path) -> None:
        lines = "".join(f"{text}\n" for text in values)
        (folder / "texts.txt").write_text(lines, encoding="utf-8")

    def draw(self, stored: np.ndarray) -> np.ndarray:
        return np.stack([write_on_picture(str(text)) for text in self.unpack(stored)])

    def html(self, stored: np.ndarray) -> str:
        return f"<q>{html.escape(str(self.unpack(stored[None])[0]))}</q>"

    def regions(self, stored: np.ndarray, tokens: tuple[int, ...]) -> list[tuple[str, np.ndarray]]:
        """One per word, with the blank behind it, if there are several; else one per letter."""
        del tokens
        content = bytes(stored).rstrip(b"\0")
        words = content.split(b" ")
        if len(words) == 1:
            letters = content.decode(errors="surrogateescape")  # a letter has 1 to 4 bytes
            words = [letter.encode(errors="surrogateescape") for letter in letters]
        found, start, gap = [], 0, int(len(words) > 1 and b" " in content)
        for word in words:
            belongs = np.zeros(self.length, bool)
            belongs[start : min(start + len(word) + gap, len(content))] = True
            found.append((word.decode(errors="replace"), belongs))
            start += len(word) + gap
        return [(name, belongs) for name, belongs in found if belongs.any()]


def write_on_picture(text: str, edge: int = 64) -> np.ndarray:
    """Returns a square grey picture with a text on it: uint8 [edge, edge, 1]."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (edge, edge), 255)
    lines = textwrap.fill(text, max(4, edge // 6), max_lines=edge // 11)
    ImageDraw.Draw(picture).multiline_text((2, edge // 3), lines, fill=0)
    return np.asarray(picture)[..., None]
