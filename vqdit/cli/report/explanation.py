"""`vqdit sample --explain`: pictures of why the samples became what they are, and their HTML."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vqdit.cli.report import charts
from vqdit.cli.report.charts import SIGNED, colours
from vqdit.cli.report.explanation_pictures import (
    VIEWS,
    draw_attention,
    draw_attribution,
    draw_looked,
    draw_order,
    scale_of,
    signed,
    unit,
)
from vqdit.cli.report.page import figure, table
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import FIRST, Explanation, explain
from vqdit.modalities import Text


def write_explanation(
    model: Any, num: int, settings: Mapping[str, Any], out: Path, first: int = FIRST
) -> list[str]:
    """Explains the first samples.

    Args:
        model: a Generator.
        num: how many samples were generated.
        settings: the other arguments of `Generator.sample`.
        out: folder of the samples; the pictures are written to its `explanation`.
        first: how many samples are explained.

    Returns:
        HTML parts for the page.
    """
    why = explain(model, num, **settings, first=first)
    folder = out / "explanation"
    folder.mkdir(exist_ok=True)

    def show(name: str, picture: Image.Image, caption: str) -> str:
        picture.save(folder / name)
        return figure(charts.embedded(picture), caption)

    count = len(next(iter(why.results.values())))
    which = f"all {num} samples" if count == num else f"the first {count} of {num} samples"
    parts = [
        f"<h2>Why they became what they are</h2><p>Of {which}.</p>",
        "<h3>Where they looked, step by step</h3>",
        show("attention.png", draw_attention(why), _attention_caption(model, why)),
        "<h3>In which order they were revealed</h3>",
    ]
    if why.revealed:
        parts.append(show("order.png", draw_order(model, why), _order_caption(why)))
    continuous = [name for name in why.wanted if name not in why.discrete]
    if continuous:
        parts.append(
            f"<p>No order of {html.escape(', '.join(continuous))}: a continuous process moves all "
            "tokens at once, a little in every step.</p>"
        )
    parts.append("<h3>Where each token looked</h3>")
    for sample in range(count):
        picture = draw_looked(model, why, sample)
        parts.append(show(f"looked_{sample:04d}.png", picture, LOOKED if sample == 0 else ""))
    for source in why.given:
        found = [one for one in why.attributions if one.source == source]
        parts.append(f"<h3>Because of which part of the {html.escape(source)}</h3>")
        picture = draw_attribution(model, why, found)
        parts.append(show(f"because_of_{source}.png", picture, _attribution_caption(why, found)))
        if isinstance(model.modality(source), Text):
            parts.append(coloured_texts(why, found))
    if not why.given:
        parts.append("<p>Nothing was given, so nothing that was given can be the cause.</p>")
    return parts


def coloured_texts(why: Explanation, found: Sequence[Attribution]) -> str:
    """Returns texts as HTML, each region on its colour; its number appears under the pointer."""
    columns = {
        f"for the {name}, {view}": [_coloured_text(why, one, name, field, found) for one in found]
        for name in why.wanted
        for field, view in VIEWS.items()
    }
    return table(columns)


def _coloured_text(
    why: Explanation, one: Attribution, name: str, field: str, found: Sequence[Attribution]
) -> str:
    scale, parts, stored = scale_of(found, name), [], why.results[one.source][one.sample]
    for belongs, value in zip(one.belongs, getattr(one, field)[name], strict=True):
        colour = colours(np.asarray(0.5 + 0.5 * value / scale), SIGNED)
        style = f"background:rgb({','.join(map(str, colour))});color:{charts.ink(colour)}"
        title = f"{signed(value, scale)} {unit(why, name)}"
        text = html.escape(bytes(stored[belongs]).decode(errors="replace"))
        parts.append(f'<span style="{style}" title="{title}">{text}</span>')
    return "".join(parts)


LOOKED = (
    "Each row is a generated token, each column a token that it could look at; the darker, the "
    "more of its attention (mean over layers and heads). A row shows the step in which its token "
    "was revealed; if its process is continuous, the middle one of its steps. Lines separate the "
    "modalities; the tokens of an image go row by row."
)


def _attention_caption(model: Any, why: Explanation) -> str:
    unseen = [
        f"{name} acts on every layer and has no tokens, so nobody looks at it"
        for name in model.task.conditions
    ]
    others = [
        f"{name} is neither given nor wanted, and stays unknown"
        for name in why.spans
        if name not in (*why.given, *why.wanted)
    ]
    return (
        "How much of the attention of each generated modality's tokens goes to the tokens of each "
        "modality, in percent: mean over tokens, layers, heads and samples. What a modality looks "
        "at adds up to 100 %. The orange frame marks the steps in which it is generated. The "
        "column on the left says what it would be if all tokens were looked at alike: more than "
        "that is preference. Attention shows where information may come from, not that it was "
        f"used.{''.join(f' {note}.' for note in (*unseen, *others))}"
    )


def _order_caption(why: Explanation) -> str:
    several = [name for name, step in why.revealed.items() if step.shape[-1] > 1]
    return (
        "The step in which each token was decided, over the grid of the tokens: yellow first, "
        "violet last. What is decided early is decided without knowing what comes later."
        + f" Tokens of {', '.join(several)} have several codes: the mean is shown."
        * bool(several)
    )


def _attribution_caption(why: Explanation, found: Sequence[Attribution]) -> str:
    source = found[0].source
    nats = [name for name in why.wanted if name in why.discrete]
    errors = [name for name in why.wanted if name not in why.discrete]
    how = (
        f"Each part of the given {source} was hidden from the model (without it), then all of the "
        f"{source} but this part (it alone)."
    )
    if all(len(one.regions) == 1 for one in found):
        how = f"The given {source} was hidden from the model."
    parts = [
        f"{how} The numbers say how much better the model predicts its own result if it sees the "
        "part than if it does not: red supports the result, blue speaks against it. A part that "
        "others repeat is not missed, but tells much alone."
    ]
    if nats:
        parts.append(
            f"For {', '.join(nats)} in nats, a difference of bounds on the log-likelihood, with "
            "the same noise on both sides and without guidance; 2.3 nats make it ten times as "
            "likely."
        )
    if errors:
        parts.append(
            f"For {', '.join(errors)} the change of the squared error of denoising, which is no "
            "likelihood."
        )
    for name in why.wanted:
        scale = scale_of(found, name)
        mean = signed(float(np.mean([one.whole[name] for one in found])), scale)
        most = [f"{view} {_most(found, name, field)}" for field, view in VIEWS.items()]
        parts.append(f"Most for the {name}: {', '.join(most)}; all of it {mean} in the mean.")
    return " ".join(parts)


def _most(found: Sequence[Attribution], name: str, field: str) -> str:
    """Says which region had the largest change, and in which sample."""
    values = [
        (float(value), region, one.sample)
        for one in found
        for region, value in zip(one.regions, getattr(one, field)[name], strict=True)
    ]
    if not values:
        return "nothing"
    value, region, sample = max(values, key=lambda item: abs(item[0]))
    return f"{region!r} {signed(value, scale_of(found, name))} (sample {sample})"
