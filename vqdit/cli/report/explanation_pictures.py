"""Pictures of an `Explanation`, drawn by matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vqdit.cli.report.figures import (
    FRAME,
    SHARES,
    SIGNED,
    STEPS,
    heat,
    new_figure,
    show_picture,
    signed,
)
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import Explanation
from vqdit.tasks.lengths import SUFFIX

VIEWS = {"change": "without it", "alone": "it alone"}
"""Fields of an `Attribution`, and their names in the report."""
NUMBERED = 64
"""Largest number of cells of a grid for which cells show their numbers."""


def draw_attention(why: Explanation) -> Figure:
    """Draws the attention from each generated modality to every modality in percent, per step.

    The column "even" shows uniform attention to all tokens, for comparison.
    """
    steps = len(next(iter(why.attention.values())))
    means = {name: 100 * share.mean(axis=1).T for name, share in why.attention.items()}  # m n
    sizes = np.asarray([span.stop - span.start for span in why.spans.values()])
    uniform = 100 * (sizes / sizes.sum())[:, None]
    limits = 0.0, max(1e-9, *(float(mean.max()) for mean in means.values()))
    names = _in_order(why)
    figure = new_figure(max(6.0, 3.0 + 0.32 * min(steps, 24)), 0.8 + len(names) * 1.3)
    grid = figure.subplots(
        len(names), 2, squeeze=False, sharey="row", width_ratios=[1, max(4, min(steps, 24))]
    )
    image: Any = None
    for name, (left, right) in zip(names, grid, strict=True):
        first, last = window(why, name)
        for axes, share in ((left, uniform), (right, means[name])):
            texts = [[f"{value:.0f}" for value in row] for row in share] if steps <= 24 else ()
            image = heat(axes, share, SHARES, limits, texts, aspect="auto")
        left.set_yticks(range(len(sizes)), [_known(why, other) for other in why.spans])
        left.set_xticks([0], ["even"])
        left.set_ylabel(f"{name}\nlooks at")
        right.set(title=f"{name}: generated in steps {first + 1} to {last + 1}")
        shown = range(0, steps, max(1, steps // 12))
        right.set_xticks(shown, [str(step + 1) for step in shown])
        right.axvspan(first - 0.5, last + 0.5, fill=False, edgecolor=FRAME, linewidth=2)
    grid[-1, 1].set_xlabel("step")
    figure.colorbar(image, ax=grid, label="% of its attention", fraction=0.05)
    return figure


def draw_order(model: Any, why: Explanation) -> Figure:
    """Draws the step in which every token was revealed, over the token grid: a row per sample."""
    steps = len(next(iter(why.times.values()))) - 1
    names = [name for name in _in_order(why) if name in why.revealed]
    columns = [(name, part) for name in names for part in _parts(why, name)]
    samples = len(why.revealed[names[0]])
    widths = [4.0 if len(why.grids[name]) == 1 else 2.0 for name, _ in columns]
    figure = new_figure(1.2 + sum(widths), 0.8 + 1.8 * samples)
    grid = figure.subplots(samples, len(columns), squeeze=False, width_ratios=widths)
    image: Any = None
    for sample, row in enumerate(grid):
        for (name, part), axes in zip(columns, row, strict=True):
            if part == "result":
                show_picture(axes, _drawn(model, why, name, sample), f"{name}, result")
                continue
            revealed = why.revealed[name][sample].mean(axis=-1)
            if name in why.counts:
                step = 1 + revealed[None, : max(1, _real(why, name, sample))]
            else:
                step = 1 + flat(revealed, why.grids[name])
            texts = [[f"{value:.0f}" for value in line] for line in step]
            texts = texts if step.size <= NUMBERED else ()
            is_strip = len(why.grids[name]) == 1
            image = heat(
                axes,
                step,
                STEPS,
                (1.0, max(2.0, steps)),
                texts,
                aspect="auto" if is_strip else "equal",
            )
            axes.set(title=f"{name}, sample {sample}", yticks=[])
            at = _marks(model, why, name, sample) if is_strip and step.size <= NUMBERED else []
            axes.set_xticks([place for place, _ in at], [text for _, text in at])
    ticks = range(1, max(2, steps) + 1, max(1, steps // 8))
    label = "step in which a token was revealed"
    figure.colorbar(image, ax=grid, label=label, ticks=ticks, fraction=0.05)
    return figure


def _parts(why: Explanation, name: str) -> tuple[str, ...]:
    return ("order",) if len(why.grids[name]) == 1 else ("order", "result")


def draw_looked(model: Any, why: Explanation, sample: int) -> Figure:
    """Draws the attention of every generated token (rows) to all tokens (columns) of a sample."""
    own = [name for name in why.spans if name in why.wanted]
    real = {name: _real(why, name, sample) for name in why.spans}
    columns = np.concatenate([why.spans[name].start + np.arange(real[name]) for name in why.spans])
    share = np.concatenate([why.looked[name][sample][: real[name]] for name in own])
    share = 100 * share[:, columns]
    limits = 0.0, max(float(np.quantile(share, 0.99)), 1e-9)
    height = 1.6 + 6.0 * min(1.0, max(0.25, share.shape[0] / share.shape[1]))
    figure = new_figure(8.0, height)
    axes = figure.subplots()
    image = heat(axes, share, SHARES, limits, aspect="auto")
    for names, axis, line in (
        (own, axes.yaxis, axes.axhline),
        (list(why.spans), axes.xaxis, axes.axvline),
    ):
        start, centres, tokens = 0, [], []
        for name in names:
            size = real[name]
            centres.append(start + (size - 1) / 2)
            if share.shape[1] <= NUMBERED:
                marks = _marks(model, why, name, sample)
                tokens += [(start + at, text) for at, text in marks if len(text) <= 3]
            if start:
                line(start - 0.5, color=FRAME, linewidth=1)
            start += size
        axis.remove_overlapping_locs = False
        axis.set_ticks(centres, [_known(why, name) for name in names])
        axis.set_ticks([at for at, _ in tokens], [text for _, text in tokens], minor=True)
    axes.tick_params(which="major", length=0, pad=14)
    axes.tick_params(which="minor", length=2, labelsize=7)
    axes.set(xlabel="attended token", ylabel="generated token", title=f"sample {sample}")
    figure.colorbar(image, ax=axes, label="% of its attention", extend="max")
    return figure


def draw_attribution(
    model: Any, why: Explanation, found: Sequence[Attribution], name: str
) -> Figure:
    """Draws how much each region of the given examples supports the result `name`."""
    source, scale = found[0].source, scale_of(found, name)
    rows = [(one, f"sample {one.sample}") for one in found]
    if (mean := _mean(why, found)) is not None:
        rows = [(mean, "mean of the samples"), *rows]
    is_grid = len(why.grids.get(source, (1,))) > 1
    fields = list(VIEWS) if len(found[0].regions) > 1 else ["change"]
    widths = [1.6, *([2.6] * len(fields) if is_grid else [5.2])]
    figure = new_figure(sum(widths) + is_grid, 0.6 + (2.6 if is_grid else 1.9) * len(rows))
    grid = figure.subplots(len(rows), len(widths), squeeze=False, width_ratios=widths)
    image: Any = None
    for (one, label), (result, *views) in zip(rows, grid, strict=True):
        if label.startswith("mean"):
            result.axis("off")
            result.set_title(label)
        else:
            show_picture(result, _drawn(model, why, name, one.sample), f"{label}: {name}")
        whole = f"all of the {source} {signed(one.whole[name], scale)}"
        if not is_grid:
            _draw_bars(views[0], one, name, fields, scale)
            views[0].set(title=whole, ylabel=unit(why, name))
            continue
        given = _drawn(model, why, source, one.sample)
        for axes, field in zip(views, fields, strict=True):
            change = flat(getattr(one, field)[name] @ one.belongs, why.grids[source])
            image = _draw_overlay(axes, given, change, scale)
            axes.set_title(VIEWS[field])
        views[0].set_xlabel(whole)
    if image is not None:
        figure.colorbar(image, ax=grid, label=f"support, {unit(why, name)}", fraction=0.05)
    return figure


def _draw_bars(
    axes: Axes, one: Attribution, name: str, fields: Sequence[str], scale: float
) -> None:
    """Draws a group of bars per region, with one bar for each of the `fields` of an attribution."""
    at, width = np.arange(len(one.regions)), 0.8 / len(fields)
    for number, field in enumerate(fields):
        values = getattr(one, field)[name]
        centres = at + (number - (len(fields) - 1) / 2) * width
        colours = np.where(values < 0, "#2166ac", "#b2182b")
        bars = axes.bar(centres, values, 0.92 * width, color=colours, alpha=1 - 0.5 * number)
        if len(at) <= 10:
            axes.bar_label(bars, [signed(value, scale) for value in values], fontsize=7, padding=1)
    if len(fields) > 1:
        keys = [Patch(color="#555555", alpha=1 - 0.5 * n) for n in range(len(fields))]
        axes.legend(
            keys,
            [VIEWS[field] for field in fields],
            ncols=2,
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1.0, 0.98),
            fontsize=7,
        )
    axes.set_xticks(at, one.regions, rotation=90 * (max(map(len, one.regions)) > 4))
    axes.set_ylim(-1.25 * scale, 1.25 * scale)
    axes.axhline(0.0, color="#999999", linewidth=0.8)


def _draw_overlay(axes: Axes, picture: np.ndarray, change: np.ndarray, scale: float) -> Any:
    """Draws the change [rows, columns] in red and blue on top of a picture uint8 [h, w, c]."""
    rows, columns = change.shape
    grey = 150 + 105 * picture.mean(axis=-1) / 255  # colours would be invisible on black
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
    texts = [[signed(value, scale) for value in row] for row in change]
    texts = texts if change.size <= NUMBERED and columns <= 8 else ()
    image = heat(axes, change, SIGNED, (-scale, scale), texts, alpha=0.65)
    axes.set(xticks=[], yticks=[])
    return image


def _mean(why: Explanation, found: Sequence[Attribution]) -> Attribution | None:
    """Returns the mean over the samples if all had the same given values, else None."""
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


def scale_of(found: Sequence[Attribution], name: str) -> float:
    """Returns the largest absolute change of a result; it scales the colours and the digits."""
    values = [
        part for one in found for part in (*one.change[name], *one.alone[name], one.whole[name])
    ]
    return float(max(map(abs, values), default=0.0)) or 1.0


def unit(why: Explanation, name: str) -> str:
    """Returns the unit of measurement of a result's changes, such as nats."""
    return "nats" if name in why.discrete else "squared error"


def window(why: Explanation, name: str) -> tuple[int, int]:
    """Returns the first and the last step in which a modality is generated."""
    moves = np.flatnonzero(np.diff(why.times[name]) < 0.0)
    return int(moves[0]), int(moves[-1])


def _in_order(why: Explanation) -> list[str]:
    return sorted(why.wanted, key=lambda name: window(why, name))


def _real(why: Explanation, name: str, sample: int) -> int:
    """Returns the number of tokens of a sample's modality, without padding."""
    span = why.spans[name]
    return int(why.counts[name][sample]) if name in why.counts else span.stop - span.start


def _known(why: Explanation, name: str) -> str:
    if name.endswith(SUFFIX):
        return name
    if name in why.wanted:
        return name
    return f"{name} ({'given' if name in why.given else 'unknown'})"


def _drawn(model: Any, why: Explanation, name: str, sample: int) -> np.ndarray:
    return model.modality(name).draw(why.results[name][sample : sample + 1])[0]


def _marks(model: Any, why: Explanation, name: str, sample: int) -> list[tuple[float, str]]:
    """Returns the centre position and the name of every region of a sequence of tokens."""
    if name not in why.results or len(why.grids[name]) > 1:
        return []
    example = np.asarray(why.results[name][sample])
    regions = model.modality(name).regions(example, why.grids[name])
    return [(float(np.flatnonzero(where).mean()), text) for text, where in regions if where.any()]


def flat(values: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Returns values over a grid as a matrix.

    A sequence is one row; the matrices of a grid with more than two axes are side by side.
    """
    shaped = values.reshape(grid) if len(grid) > 1 else values.reshape(1, -1)
    return shaped if shaped.ndim == 2 else np.concatenate([*shaped.reshape(-1, *grid[-2:])], axis=1)
