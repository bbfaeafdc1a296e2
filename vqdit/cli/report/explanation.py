"""`vqdit sample --explain`: makes pictures and captions for the page that explain samples."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from vqdit.cli.outputs import EXPLANATION
from vqdit.cli.report.explanation_pictures import (
    VIEWS,
    draw_attention,
    draw_attribution,
    draw_looked,
    draw_order,
    scale_of,
    unit,
)
from vqdit.cli.report.figures import SIGNED, colour_of, png, signed, style
from vqdit.cli.report.page import Cards, Heading, Paragraph, Part, Picture
from vqdit.inference.attribution import Attribution
from vqdit.inference.explanation import FIRST, Explanation, explain
from vqdit.modalities import Text


def write_explanation(
    model: Any, num: int, settings: Mapping[str, Any], out: Path, first: int = FIRST
) -> list[Part]:
    """Explains the first samples.

    Args:
        model: a Generator.
        num: number of generated samples.
        settings: the other arguments of `Generator.sample`.
        out: folder of the samples; the pictures are written to its subfolder `explanation`.
        first: number of samples to explain.

    Returns:
        The parts of the HTML page.
    """
    why = explain(model, num, **settings, first=first)
    with style():
        return _explain(model, num, why, out)


def _explain(model: Any, num: int, why: Explanation, out: Path) -> list[Part]:
    (out / EXPLANATION).mkdir(exist_ok=True)

    def show(name: str, figure: Figure, caption: str) -> Picture:
        stem = re.sub(r"[^\w-]", "_", name)  # names of modalities may contain slashes
        file = f"{EXPLANATION}/{stem}.png"
        (out / file).write_bytes(content := png(figure))
        return Picture(content, file, caption)

    count = len(next(iter(why.results.values())))
    which = f"all {num} samples" if count == num else f"the first {count} of {num} samples"
    parts: list[Part] = [
        Heading("Explanation of the samples"),
        Paragraph(f"Of {which}."),
        Heading("Attention between modalities in every step", 3),
        show("attention", draw_attention(why), _attention_caption(model, why)),
        Heading("Order in which tokens were revealed", 3),
    ]
    if why.revealed:
        parts.append(show("order", draw_order(model, why), _order_caption(why)))
    continuous = [name for name in why.wanted if name not in why.discrete]
    if continuous:
        parts.append(
            Paragraph(
                f"{', '.join(continuous)} has no order: a continuous process changes all tokens a "
                "little in every step."
            )
        )
    parts.append(Heading("Attention of each token", 3))
    for sample in range(count):
        figure = draw_looked(model, why, sample)
        parts.append(show(f"looked_{sample:04d}", figure, LOOKED if sample == 0 else ""))
    for source in why.given:
        found = [one for one in why.attributions if one.source == source]
        parts.append(Heading(f"Influence of the parts of the {source}", 3))
        parts.append(Paragraph(_attribution_method(found)))
        for name in why.wanted:
            figure = draw_attribution(model, why, found, name)
            caption = _attribution_caption(why, found, name)
            parts.append(show(f"because_of_{source}_for_{name}", figure, caption))
        if isinstance(model.modality(source), Text):
            parts.append(coloured_texts(why, found))
    if not why.given:
        parts.append(Paragraph("No values were given, so there is no influence of given values."))
    return parts


def coloured_texts(why: Explanation, found: Sequence[Attribution]) -> Cards:
    """Returns texts whose regions are coloured by their influence; tooltips show the values."""
    return Cards(
        {
            f"for the {name}, {view}": [
                _coloured_text(why, one, name, field, found) for one in found
            ]
            for name in why.wanted
            for field, view in VIEWS.items()
        }
    )


def _coloured_text(
    why: Explanation, one: Attribution, name: str, field: str, found: Sequence[Attribution]
) -> Markup:
    scale, stored = scale_of(found, name), why.results[one.source][one.sample]
    spans = []
    for belongs, value in zip(one.belongs, getattr(one, field)[name], strict=True):
        colour, ink = colour_of(float(0.5 + 0.5 * value / scale), SIGNED)
        text = bytes(stored[belongs]).decode(errors="replace")
        title = f"{signed(value, scale)} {unit(why, name)}"
        span = Markup('<span style="background:{};color:{}" title="{}">{}</span>')
        spans.append(span.format(colour, ink, title, text))
    return Markup("").join(spans)


LOOKED = (
    "Each row is a generated token, and each column a token that it could attend to; darker "
    "cells have more of its attention (mean over layers and heads). A row shows the step in "
    "which its token was revealed or, if the process is continuous, the middle step. Lines "
    "separate the modalities; the tokens of an image are in row-major order."
)


def _attention_caption(model: Any, why: Explanation) -> str:
    unseen = [
        f"{name} modulates every layer and has no tokens, so no token attends to it"
        for name in model.task.conditions
    ]
    others = [
        f"{name} is neither given nor generated, and stays unknown"
        for name in why.spans
        if name not in (*why.given, *why.wanted)
    ]
    return (
        "The attention of each generated modality's tokens to the tokens of each modality, in "
        "percent: mean over tokens, layers, heads and samples. It sums to 100 % over the "
        "attended modalities. The orange frame marks the steps in which the modality is "
        "generated. The column on the left is uniform attention to all tokens: a higher "
        "percentage means preference. Attention shows where information may come from, not that "
        f"it was used.{''.join(f' {note}.' for note in (*unseen, *others))}"
    )


def _order_caption(why: Explanation) -> str:
    several = [name for name, step in why.revealed.items() if step.shape[-1] > 1]
    return (
        "The step in which each token was revealed, over the grid of the tokens: yellow first, "
        "violet last. A token was chosen without knowledge of tokens that are revealed later."
        + f" Tokens of {', '.join(several)} have several codes: the mean step is shown."
        * bool(several)
    )


def _attribution_method(found: Sequence[Attribution]) -> str:
    source = found[0].source
    if all(len(one.regions) == 1 for one in found):
        how = f"The given {source} was hidden from the model."
    else:
        how = (
            f"Each part of the given {source} was hidden from the model (without it), then all of "
            f"the {source} but this part (it alone)."
        )
    return (
        f"{how} The numbers show how much better the model predicts its own result if it sees the "
        "part than if it does not: red supports the result, blue opposes it. "
        "If two parts have the same information, hiding one of them changes little, but each of "
        "them alone helps much."
    )


def _attribution_caption(why: Explanation, found: Sequence[Attribution], name: str) -> str:
    scale = scale_of(found, name)
    mean = signed(float(np.mean([one.whole[name] for one in found])), scale)
    most = [f"{view} {_most(found, name, field)}" for field, view in VIEWS.items()]
    largest = (
        f"Largest for the {name}: {', '.join(most)}; the whole modality has {mean} on average."
    )
    if name in why.discrete:
        return (
            f"{largest} For {name} in nats: a difference of two bounds on the log-likelihood, "
            "with the same noise and without guidance; 2.3 nats make the result ten times as "
            "likely."
        )
    return (
        f"{largest} For {name}: the change of the squared denoising error, which is not a "
        "likelihood."
    )


def _most(found: Sequence[Attribution], name: str, field: str) -> str:
    """Describes the region that changes a result most, and its sample."""
    values = [
        (float(value), region, one.sample)
        for one in found
        for region, value in zip(one.regions, getattr(one, field)[name], strict=True)
    ]
    if not values:
        return "nothing"
    value, region, sample = max(values, key=lambda item: abs(item[0]))
    return f"{region!r} {signed(value, scale_of(found, name))} (sample {sample})"
