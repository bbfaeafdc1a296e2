"""Pictures of a codebook: how often its codes are used, and what each of them looks like."""

import numpy as np
from PIL import Image, ImageDraw

from vqdit.cli.report.charts import LINE, blank, line
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities.drawing import tile
from vqdit.tasks import TokenizerTask

WIDTH, HEIGHT = 512, 96
"""Pixels of a histogram."""
BAR, UNIFORM = (33, 113, 181), (230, 120, 0)
CODES = 256
"""Codes that are drawn of all codebooks together: those that are used most."""
EDGE = 64
"""A code is drawn by at most so many pixels, cut from the middle."""
BOOKS = 16
"""Codebooks that are drawn; of more, the first."""
BATCH = 32


def count_codes(codes: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Returns how often each code of each codebook occurs; -1 does not count.

    Args:
        codes: int [b, *grid, q].
        sizes: number of codes of each of the q codebooks.
    """
    columns = codes.reshape(-1, codes.shape[-1]).T
    pairs = zip(columns, sizes, strict=True)
    return [np.bincount(column[column >= 0], minlength=size) for column, size in pairs]


def histogram(counts: list[np.ndarray]) -> Image.Image:
    """Returns one chart per codebook: the use of its codes, the most used first.

    The height is the share of all uses, on a scale that ends at the largest; the orange line is
    uniform use. Large codebooks have several codes in a column, whose mean is shown.
    """
    charts = [_chart(number, count) for number, count in enumerate(counts[:BOOKS])]
    picture = blank(WIDTH, sum(chart.height for chart in charts))
    top = 0
    for chart in charts:
        picture.paste(chart, (0, top))
        top += chart.height
    return picture


def _chart(number: int, count: np.ndarray) -> Image.Image:
    share = np.sort(count / max(count.sum(), 1))[::-1]
    edges = np.linspace(0, len(share), min(WIDTH, len(share)) + 1).round().astype(int)
    columns = [share[a:b].mean() for a, b in zip(edges, edges[1:], strict=False)]
    largest = max(columns[0], 1.0 / len(share), 1e-12)
    used = np.count_nonzero(count)
    text = line(
        f"codebook {number}: {used} of {len(count)} codes used, at most {share[0]:.2%} each"
    )
    picture = blank(WIDTH, LINE + HEIGHT + 8)
    picture.paste(text, (2, 0))
    draw, bottom = ImageDraw.Draw(picture), LINE + HEIGHT
    for place, value in enumerate(columns):
        left = place * WIDTH // len(columns)
        right = max((place + 1) * WIDTH // len(columns) - 1, left)
        height = round(value / largest * (HEIGHT - 1))
        if value > 0:
            draw.rectangle((left, bottom - max(height, 1), right, bottom), BAR)
    uniform = bottom - round(1.0 / len(share) / largest * (HEIGHT - 1))
    draw.line((0, uniform, WIDTH, uniform), UNIFORM)
    return picture


def appearance(tokenizer: Tokenizer, counts: list[np.ndarray]) -> np.ndarray:
    """Returns what codes look like: each alone, at all positions, decoded; the most used first.

    Of several codebooks each begins a row; the codes of the others are absent (-1). Sounds are
    drawn as their modality draws them.

    Returns:
        uint8 [h, w, c].
    """
    task, books = tokenizer.task, len(counts)
    if not isinstance(task, TokenizerTask):
        raise TypeError(f"a {type(task).__name__} has no codebook")
    each = max(CODES // min(books, BOOKS), 1)
    columns = 16 if books == 1 else min(32, each)
    parts = []
    for book, count in enumerate(counts[:BOOKS]):
        best = np.argsort(-count, kind="stable")[:each]
        alone = np.full((len(best), *task.grid, books), -1, np.int32)
        alone[..., book] = best.reshape(-1, *(1,) * len(task.grid))
        pictures = task.modality.draw(_decode(tokenizer, alone))
        pictures = _middle(pictures)
        rest = -len(pictures) % columns
        parts.append(np.pad(pictures, ((0, rest), (0, 0), (0, 0), (0, 0)), constant_values=127))
    return tile(np.concatenate(parts), columns)


def _decode(tokenizer: Tokenizer, codes: np.ndarray) -> np.ndarray:
    """Decodes in batches of one shape."""
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % BATCH, axis=0)])
    parts = [
        np.asarray(tokenizer.decode(padded[start : start + BATCH]))
        for start in range(0, len(padded), BATCH)
    ]
    return np.concatenate(parts)[: len(codes)]


def _middle(pictures: np.ndarray) -> np.ndarray:
    top, left = (max(size - EDGE, 0) // 2 for size in pictures.shape[1:3])
    return pictures[:, top : top + EDGE, left : left + EDGE]
