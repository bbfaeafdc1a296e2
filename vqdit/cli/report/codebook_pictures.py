"""Pictures of a codebook: the frequency of its codes, and each code decoded."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vqdit.cli.report.figures import FRAME, new_figure, png, style
from vqdit.inference.tokenizer import Tokenizer
from vqdit.modalities.drawing import tile
from vqdit.tasks import TokenizerTask

CODES = 256
"""Largest number of codes that are drawn, over all codebooks; the most frequent are drawn."""
EDGE = 64
"""Largest edge in pixels of a code's picture, which is cropped; number of tokens for sequences."""
BOOKS = 16
"""Largest number of codebooks that are drawn; the first are drawn."""
BATCH = 32


def count_codes(codes: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
    """Returns the number of occurrences of each code of each codebook; ignores -1.

    Args:
        codes: int [b, *grid, q].
        sizes: number of codes of each of the q codebooks.
    """
    columns = codes.reshape(-1, codes.shape[-1]).T
    pairs = zip(columns, sizes, strict=True)
    return [np.bincount(column[column >= 0], minlength=size) for column, size in pairs]


def draw_use(counts: list[np.ndarray]) -> Figure:
    """Draws a chart per codebook of the relative frequency of its codes, in decreasing order."""
    counts = counts[:BOOKS]
    figure = new_figure(7.0, 0.4 + 1.8 * len(counts))
    for number, (axes, count) in enumerate(
        zip(figure.subplots(len(counts), squeeze=False)[:, 0], counts, strict=True)
    ):
        share, used = 100 * np.sort(count / max(count.sum(), 1))[::-1], np.count_nonzero(count)
        axes.stairs(share, np.arange(len(share) + 1), fill=True, color="#2171b5")
        axes.axhline(100 / len(share), color=FRAME, linewidth=1.2, label="uniform use")
        axes.set(
            title=f"codebook {number}: {used} of {len(share)} codes used, "
            f"at most {share[0]:.2f} % each",
            ylabel="% of uses",
            xlim=(0, len(share)),
            ylim=(0, None),
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.supxlabel("codes, the most used first")
    return figure


def save_use(counts: list[np.ndarray], file: Path) -> None:
    """Writes the charts of `draw_use` as PNG."""
    with style():
        file.write_bytes(png(draw_use(counts)))


def appearance(tokenizer: Tokenizer, counts: list[np.ndarray]) -> np.ndarray:
    """Returns a picture of the most frequent codes, each decoded alone.

    For each code, all positions have this code, and the codes of other codebooks are absent (-1).
    Each codebook begins a new row. Sounds are drawn as spectrograms.

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
        grid = (min(task.grid[0], EDGE),) if task.modality.lengths else task.grid
        alone = np.full((len(best), *grid, books), -1, np.int32)
        alone[..., book] = best.reshape(-1, *(1,) * len(grid))
        pictures = task.modality.draw(_decode(tokenizer, alone))
        pictures = _middle(pictures)
        rest = -len(pictures) % columns
        parts.append(np.pad(pictures, ((0, rest), (0, 0), (0, 0), (0, 0)), constant_values=127))
    return tile(np.concatenate(parts), columns)


def _decode(tokenizer: Tokenizer, codes: np.ndarray) -> np.ndarray:
    """Decodes in batches of a fixed shape."""
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % BATCH, axis=0)])
    parts = [
        np.asarray(tokenizer.decode(padded[start : start + BATCH]))
        for start in range(0, len(padded), BATCH)
    ]
    return np.concatenate(parts)[: len(codes)]


def _middle(pictures: np.ndarray) -> np.ndarray:
    top, left = (max(size - EDGE, 0) // 2 for size in pictures.shape[1:3])
    return pictures[:, top : top + EDGE, left : left + EDGE]
