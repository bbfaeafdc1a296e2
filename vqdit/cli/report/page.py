"""A page that shows pictures, plays sounds and prints texts side by side, in one file."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

STYLE = """
body { font: 15px system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; }
th, td { padding: .4em .8em; text-align: left; border-bottom: 1px solid #ddd; }
img { image-rendering: pixelated; vertical-align: middle; }
figure { margin: 1.5em 0; } figcaption { max-width: 60em; }
.given { background: #f3f0e4; }
"""


def table(columns: Mapping[str, Sequence[str]], given: Sequence[str] = ()) -> str:
    """Returns an HTML table: one row per sample, one column per modality.

    Args:
        columns: HTML of every sample, by the name of the modality.
        given: which of them were given; they are shaded.
    """
    shade = {name: ' class="given"' if name in given else "" for name in columns}
    heads = "".join(
        f"<th{shade[name]}>{html.escape(name)}{' (given)' if name in given else ''}</th>"
        for name in columns
    )
    rows = []
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        row = "".join(
            f"<td{shade[name]}>{cell}</td>" for name, cell in zip(columns, cells, strict=True)
        )
        rows.append(f"<tr><td>{number}</td>{row}</tr>")
    return f"<table><tr><th></th>{heads}</tr>\n" + "\n".join(rows) + "\n</table>"


def figure(picture: str, caption: str) -> str:
    """Returns an HTML picture with what it shows below it."""
    return f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>"


def write_page(path: Path, title: str, parts: Sequence[str]) -> None:
    """Writes a page of HTML parts; it loads nothing from elsewhere."""
    shown = html.escape(title)
    head = f'<meta charset="utf-8"><title>{shown}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{shown}</h1>", *parts])
    path.write_text(f"<!doctype html>\n<html><head>{head}</head>\n<body>{body}</body></html>\n")
