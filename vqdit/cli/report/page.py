"""A self-contained HTML page that shows pictures, plays sounds and prints texts."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from vqdit.escapes import LINES, escaped


class Heading(NamedTuple):
    """A heading of a section (level 2) or of a subsection (level 3)."""

    text: str
    level: int = 2


class Paragraph(NamedTuple):
    """A paragraph of plain text."""

    text: str


class Picture(NamedTuple):
    """A picture with a caption.

    Attributes:
        png: bytes of a PNG file, which the page contains.
        file: relative path of the same picture in full size, to which the page links.
        caption: description of the picture, which is also its alternative text.
    """

    png: bytes
    file: str
    caption: str

    @property
    def data(self) -> str:
        """The bytes in base64."""
        return base64.b64encode(self.png).decode()


class Cards(NamedTuple):
    """One card per sample, with one entry per modality.

    Attributes:
        columns: entries of all samples by name; `Markup` is inserted unchanged, other strings are
            escaped.
        given: names of given modalities, which are shaded.
    """

    columns: Mapping[str, Sequence[str | Markup]]
    given: Sequence[str] = ()

    @property
    def rows(self) -> list[tuple[str | Markup, ...]]:
        """One tuple per sample, with its entry of every column."""
        return [*zip(*self.columns.values(), strict=True)]


Part = Heading | Paragraph | Picture | Cards


def write_page(path: Path, title: str, parts: Sequence[Part]) -> None:
    """Writes a page from the template page.html; the page loads no other files."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = [(type(part).__name__, part) for part in parts]
    page = environment.get_template("page.html").render(title=title, parts=kinds)
    page = escaped(page, keep=LINES)
    path.write_text(page, encoding="utf-8")
