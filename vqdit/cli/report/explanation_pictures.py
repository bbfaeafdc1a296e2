"""Pictures of an `Explanation`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vqdit.cli.report import charts
from vqdit.cli.report.charts import FRAME, SHARES, SIGNED, STEPS, colours, stack
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import Explanation

CELL = 26
"""Edge of a cell with a number in it, in pixels."""
WIDTH = 960
"""Of a picture, about, in pixels."""
OVERLAY = 144
"""Edge of a picture under colours, about, in pixels."""
VIEWS = {"change": "without it", "alone": "it alone"}
"""Fields of an `Attribution`, and what they are called."""


def draw_attention(why: Explanation) -> Image.Image:
    """Draws shares of attention: a row per pair of modalities, a column per step."""
    steps = len(next(iter(why.attention.values())))
    cell, even = max(1, min(40, 800 // steps)), 44
    means = {name: share.mean(axis=1).T for name, share in why.attention.items()}  # m n
    sizes = np.asarray([span.stop - span.start for span in why.spans.values()])
    alike = (sizes / sizes.sum())[:, None]
    high = max(1e-9, *(float(mean.max()) for mean in means.values()))

    def draw(share: np.ndarray, width: int) -> Image.Image:
        percents = [[f"{100 * value:.0f}" for value in row] for row in share]
        texts = percents if width >= 22 else ()
        return charts.cells(colours(share / high, SHARES), width, CELL, texts)

    labels = {
        n: [f"{n} looks at {'itself' if m == n else _known(why, m)}" for m in why.spans]
        for n in means
    }
    width = max(charts.width_of(label) for part in labels.values() for label in part) + 8
    parts = []
    for name in _in_order(why):
        rows, (first, last) = draw(means[name], cell), _window(why, name)
        box = (first * cell, 0, (last + 1) * cell - 1, rows.height - 1)
        ImageDraw.Draw(rows).rectangle(box, outline=FRAME, width=2)
        marks = [((row + 0.5) * CELL, label) for row, label in enumerate(labels[name])]
        side = charts.lines(marks, width, rows.height)
        title = charts.line(f"{name}: generated in steps {first + 1} to {last + 1}")
        drawn = [side, draw(alike, even), charts.blank(6, 1), rows]
        parts.append(stack([title, stack(drawn, beside=True)]))
    numbers = [((step + 0.5) * cell, str(step + 1)) for step in range(steps)]
    below = [
        charts.lines([(charts.LINE / 2, "step")], width, 1),
        charts.axis([(even / 2, "alike")], even + 6),
        charts.axis(numbers, steps * cell),
    ]
    scale = charts.legend(SHARES, "0 %", f"{100 * high:.0f} % of its attention")
    return charts.framed([*parts, stack(below, beside=True), scale])


def draw_order(model: Any, why: Explanation) -> Image.Image:
    """Draws over the token grid in which step every token was revealed: a row per sample."""
    steps = len(next(iter(why.times.values()))) - 1
    rows = []
    for sample in range(len(next(iter(why.revealed.values())))):
        drawn = [_sample(sample)]
        for name in _in_order(why):
            if name in why.revealed:
                drawn.append(_draw_revealed(model, why, name, sample, steps))
        rows.append(stack(drawn, gap=20, beside=True))
    return charts.framed([*rows, charts.legend(STEPS, "step 1", f"step {steps}")])


def _draw_revealed(model: Any, why: Explanation, name: str, sample: int, steps: int) -> Image.Image:
    grid = why.grids[name]
    step = _flat(why.revealed[name][sample].mean(axis=-1), grid)
    cell = max(1, min(CELL, WIDTH // len(grid) // max(step.shape)))
    numbers = [[f"{value + 1:.0f}" for value in row] for row in step]
    share = step / max(1, steps - 1)
    picture = charts.cells(colours(share, STEPS), cell, cell, numbers if cell >= 20 else ())
    if len(grid) == 1:
        marks = _marks(model, why, name, sample, cell)
        return stack([charts.line(name), charts.axis(marks, picture.width), picture])
    result = charts.enlarged(_drawn(model, why, name, sample), picture.height)
    return stack([charts.line(name), stack([picture, result], gap=4, beside=True)])


def draw_looked(model: Any, why: Explanation, sample: int) -> Image.Image:
    """Draws the matrix of generated tokens and all tokens of one sample."""
    sizes = {name: span.stop - span.start for name, span in why.spans.items()}
    own = [name for name in why.spans if name in why.wanted]
    share = np.concatenate([why.looked[name][sample] for name in own])
    high = max(float(np.quantile(share, 0.99)), 1e-9)
    total = share.shape[1]
    block = math.ceil(total / WIDTH)  # so many tokens of a long sequence share a pixel
    cell = max(1, min(16, 640 // total))
    scale = cell / block
    matrix = charts.cells(colours(_shrunk(share, block) / high, SHARES), cell, cell)
    draw = ImageDraw.Draw(matrix)
    for edge in np.cumsum([sizes[name] for name in own])[:-1] * scale:
        draw.line((0, edge, matrix.width, edge), fill=FRAME)
    for edge in np.cumsum(list(sizes.values()))[:-1] * scale:
        draw.line((edge, 0, edge, matrix.height), fill=FRAME)

    def along(names: Sequence[str]) -> tuple[charts.Marks, charts.Marks]:
        """Returns the names of modalities, and those of their tokens, at their places."""
        names_at, tokens_at, start = [], [], 0.0
        for name in names:
            names_at.append((start + sizes[name] * scale / 2, _known(why, name)))
            pixels = sizes[name] * scale / math.prod(why.grids[name])
            marks = _marks(model, why, name, sample, pixels)
            tokens_at += [(start + at, text) for at, text in marks]
            start += sizes[name] * scale
        return names_at, tokens_at

    names, tokens = along(own)
    letters = charts.blank(14, matrix.height)
    for at, text in tokens:
        charts.write(letters, 7, at, text, "black", "mm")
    side = stack([charts.lines(names, 1, matrix.height), letters], beside=True)
    names, tokens = along(list(why.spans))
    above = charts.lines(names, 1, matrix.width, "left").rotate(90, expand=True)
    above = stack([above, charts.axis(tokens, matrix.width)])
    head = stack([charts.blank(side.width, 1), above], beside=True)
    limit = charts.legend(SHARES, "0 %", f"{100 * high:.0f} % or more of its attention")
    body = stack([head, stack([side, matrix], beside=True)])
    return charts.framed([charts.line(f"sample {sample}"), body, limit])


def draw_attribution(model: Any, why: Explanation, found: Sequence[Attribution]) -> Image.Image:
    """Draws over every given example how much its regions support each of the results."""
    scales = {name: scale_of(found, name) for name in why.wanted}
    rows = [(_sample(one.sample), _draw_causes(model, why, one, scales)) for one in found]
    if (mean := _mean(why, found)) is not None:
        head = charts.lines([(charts.LINE / 2, "mean")], 80, charts.LINE)
        rows = [(head, _draw_causes(model, why, mean, scales, show_results=False)), *rows]
    limits = []
    for name, scale in scales.items():
        low, high = f"{name} {signed(-scale, scale)}", signed(scale, scale)
        limits.append(charts.legend(SIGNED, low, f"{high} {unit(why, name)}", 140))
    return charts.framed([*(stack(row, beside=True) for row in rows), *limits])


def _draw_causes(
    model: Any,
    why: Explanation,
    one: Attribution,
    scales: Mapping[str, float],
    show_results: bool = True,
) -> Image.Image:
    """Draws one given example, for each of the results."""
    grid, parts = why.grids.get(one.source, (1,)), []
    fields = list(VIEWS) if len(one.regions) > 1 else ["change"]
    for name, scale in scales.items():
        shares = {field: getattr(one, field)[name] / scale for field in fields}
        if len(grid) == 1:
            views = []
            for field, share in shares.items():
                numbers = [signed(value * scale, scale) for value in share]
                views.append((VIEWS[field], numbers, colours(0.5 + 0.5 * share, SIGNED)))
            drawn = charts.boxes(one.regions, views, WIDTH)
        else:
            given = _drawn(model, why, one.source, one.sample)
            overlays = []
            for field, share in shares.items():
                overlay = _overlay(given, _flat(share @ one.belongs, grid), scale)
                overlays.append(stack([overlay, charts.line(VIEWS[field])]))
            drawn = stack(overlays, gap=4, beside=True)
        title = charts.line(f"for the {name}; all of it {signed(one.whole[name], scale)}")
        result = charts.blank(64, 64)
        if show_results:
            result = charts.enlarged(_drawn(model, why, name, one.sample), 64)
        drawn = stack([result, drawn], gap=4, beside=True)
        parts.append(stack([title, drawn], gap=2))
    return stack(parts, gap=24, beside=sum(part.width for part in parts) < 1.3 * WIDTH)


def _mean(why: Explanation, found: Sequence[Attribution]) -> Attribution | None:
    """Returns the mean over the samples, if the same was given to several."""
    examples = why.results[found[0].source]
    if len(found) < 2 or (examples != examples[0]).any():
        return None
    changes = {
        field: {
            name: np.mean([getattr(one, field)[name] for one in found], axis=0)
            for name in why.wanted
        }
        for field in (*VIEWS, "whole")
    }
    return found[0]._replace(**changes)


def _overlay(picture: np.ndarray, change: np.ndarray, scale: float) -> Image.Image:
    """Lays red and blue, and numbers where they fit, over a picture.

    Args:
        picture: uint8 [h, w, c].
        change: -1 (blue) to 1 (red) over the token grid, [rows, columns].
        scale: what the numbers are multiples of.
    """
    grey = np.asarray(charts.enlarged(picture, OVERLAY).convert("L"), np.float32)[..., None]
    y, x = (
        np.arange(size) * count // size
        for size, count in zip(grey.shape, change.shape, strict=False)
    )
    colour = colours(0.5 + 0.5 * change, SIGNED)[y][:, x]
    mixed = colour * (0.6 + 0.4 * grey / 255.0)  # on black no colour would be seen
    drawn = Image.fromarray(np.round(mixed).astype(np.uint8))
    height, width = (size / count for size, count in zip(grey.shape, change.shape, strict=False))
    texts = [[signed(value * scale, scale) for value in row] for row in change]
    if height > charts.LINE and width >= max(charts.width_of(t) for row in texts for t in row):
        for row, words in enumerate(texts):
            for column, word in enumerate(words):
                at = (column + 0.5) * width, (row + 0.5) * height
                charts.write(drawn, *at, word, "black", "mm", halo=1)
    return drawn


def scale_of(found: Sequence[Attribution], name: str) -> float:
    """Returns the largest change of a result by anything: that of full red or blue."""
    values = [
        part for one in found for part in (*one.change[name], *one.alone[name], one.whole[name])
    ]
    return float(max(map(abs, values), default=0.0)) or 1.0


def signed(value: charts.Number, scale: float) -> str:
    """Returns a number with its sign, and as many digits as numbers up to a scale need."""
    digits = max(1, 1 - math.floor(math.log10(scale)))
    shown = f"{value:+.{digits}f}"
    return shown if float(shown) else f"{0.0:.{digits}f}"


def unit(why: Explanation, name: str) -> str:
    """Returns what the changes of a result are measured in."""
    return "nats" if name in why.discrete else "squared error"


def _window(why: Explanation, name: str) -> tuple[int, int]:
    """Returns the first and the last step in which a modality is generated."""
    moves = np.flatnonzero(np.diff(why.times[name]) < 0.0)
    return int(moves[0]), int(moves[-1])


def _in_order(why: Explanation) -> list[str]:
    return sorted(why.wanted, key=lambda name: _window(why, name))


def _known(why: Explanation, name: str) -> str:
    if name in why.wanted:
        return name
    return f"{name} ({'given' if name in why.given else 'unknown'})"


def _sample(number: int) -> Image.Image:
    return charts.lines([(charts.LINE / 2, f"sample {number}")], 80, charts.LINE)


def _drawn(model: Any, why: Explanation, name: str, sample: int) -> np.ndarray:
    return model.modality(name).draw(why.results[name][sample : sample + 1])[0]


def _marks(
    model: Any, why: Explanation, name: str, sample: int, pixels: charts.Number
) -> charts.Marks:
    """Returns the names of the regions of an example that fit over its positions, and where."""
    if name not in why.results or len(why.grids[name]) > 1:
        return []
    marks = []
    example = np.asarray(why.results[name][sample])
    for region, belongs in model.modality(name).regions(example, why.grids[name]):
        if charts.width_of(region) <= belongs.sum() * pixels:
            marks.append(((np.argmax(belongs) + belongs.sum() / 2) * pixels, region))
    return marks


def _flat(values: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Returns values over a grid as a matrix: a strip is one row, further axes lie side by side."""
    shaped = values.reshape(grid) if len(grid) > 1 else values.reshape(1, -1)
    return shaped if shaped.ndim == 2 else np.concatenate([*shaped.reshape(-1, *grid[-2:])], axis=1)


def _shrunk(share: np.ndarray, block: int) -> np.ndarray:
    """Averages blocks of a matrix."""
    if block == 1:
        return share
    rows, columns = (np.arange(0, size, block) for size in share.shape)
    sums = np.add.reduceat(np.add.reduceat(share, rows, axis=0), columns, axis=1)
    counts = np.add.reduceat(np.add.reduceat(np.ones_like(share), rows, axis=0), columns, axis=1)
    return sums / counts
