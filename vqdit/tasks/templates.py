"""Templates of texts: known parts, with gaps between them that are generated.

A gap `___12` has twelve units. A gap `___` has any number n of units, which is drawn before the
text is generated. The number n determines the positions of the known parts after the gap. With all
other positions masked, the model gives a bound on -log p(known parts at these positions). With a
uniform prior over n,

    p(n | known parts) is proportional to p(known parts at the positions for n).

The lengths of several gaps are drawn from left to right, each from the parts up to the next gap. A
gap at the end needs no length: the text continues until the model ends it, as after a prompt.

In a text of variable length, the length of a gap determines the length of the text. Therefore only
one gap may have any length, even at the end, and p(n) is the model's probability of the whole
length.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from vqdit.modalities import Modality, Text
from vqdit.modalities.units import END
from vqdit.processes.base import Prediction, X
from vqdit.samplers.base import Predict
from vqdit.tasks.editing import StoredEdit
from vqdit.typing import Array, Bool, Float, Int, Named, Shaped

GAP = re.compile(r"_{3,}(\d{1,7})?")
"""Matches a gap, and its number of units if there is one."""
IMPOSSIBLE = -1e9
"""Logit of an impossible code."""
CANDIDATES = 32
"""Largest number of candidate lengths of a gap."""


class Template(NamedTuple):
    """A text with gaps: `___` has any length, `___12` has twelve units."""

    text: str


class Prompt(NamedTuple):
    """The beginning of a text."""

    text: str


class Gap(NamedTuple):
    """A gap of a template; `units` is 0 if its length is unknown."""

    units: int


def is_open(part: object) -> bool:
    """Returns whether a piece is a gap of unknown length."""
    return isinstance(part, Gap) and part.units == 0


Piece = Gap | Shaped[np.ndarray, " _"]


def as_text(modality: Modality) -> Text:
    """Returns the modality if it supports templates; raises ValueError otherwise."""
    if not isinstance(modality, Text):
        raise ValueError("only texts can have templates and prompts")
    return modality


def pieces(modality: Text, spec: Template | Prompt) -> list[Piece]:
    """Returns the codes of the known parts of a template, and its gaps, in order.

    If units are not bytes, a blank before a gap becomes part of the gap, as units may begin with
    blanks.

    Raises:
        ValueError: the template is invalid for the modality.
    """
    if isinstance(spec, Prompt):
        found = [modality.units.encode(spec.text, modality.length), Gap(0)]
    else:
        texts, counts = GAP.split(spec.text)[::2], GAP.split(spec.text)[1::2]
        if not counts:
            raise ValueError(f"the template {spec.text!r} has no gap; write one as ___, or ___12")
        if any(count is not None and int(count) == 0 for count in counts):
            raise ValueError(
                f"the template {spec.text!r} has a gap of 0 units; write ___ for a gap of any "
                "length, or ___12"
            )
        found = []
        for text, count in zip(texts, [*counts, None], strict=True):
            is_last = len(found) // 2 == len(counts)
            if not modality.units.end_is_text and not is_last:
                text = text.removesuffix(" ")
            found += [modality.units.encode(text), Gap(int(count or 0))]
        found = [part for part in found[:-1] if isinstance(part, Gap) or len(part)]
    if any((part == END).any() for part in found if isinstance(part, np.ndarray)):
        raise ValueError("a template must not have a byte 0, which ends a text; remove it")
    least = _least(found)
    if least > modality.length:
        raise ValueError(
            f"the template has at least {least} units, more than the {modality.length} of the "
            "model; shorten it"
        )
    if modality.lengths and sum(map(is_open, found)) > 1:
        raise ValueError(
            "a template of a text of variable length may have only one gap of any length; write "
            "the others with a number of units, as in ___12"
        )
    return found


def lengths_to_compare(
    parts: Sequence[Piece], number: int, room: int, least: int = 1
) -> Int[np.ndarray, " c"]:
    """Returns candidate lengths of gap `number`: all, or a geometric series if there are many.

    Args:
        parts: pieces of the template, in which all earlier gaps have lengths.
        number: index of the gap in `parts`.
        room: number of units of the model's texts.
        least: the smallest length.
    """
    most = room - _least([*parts[:number], *parts[number + 1 :]])
    if most - least < CANDIDATES:
        return np.arange(least, most + 1)
    series = np.geomspace(1, most - least + 1, CANDIDATES).round().astype(int)
    return np.unique(series) + least - 1


def shares(
    lengths: Int[np.ndarray, " c"], bounds: Float[np.ndarray, " c"]
) -> Float[np.ndarray, " c"]:
    """Returns p(length | known parts) for each candidate length.

    Args:
        lengths: increasing candidate lengths; each represents all lengths up to half-way to its
            neighbours.
        bounds: bound on -log p(known parts at their positions) for each candidate, in nats.
    """
    edges = np.concatenate(
        [[lengths[0] - 0.5], (lengths[1:] + lengths[:-1]) / 2, [lengths[-1] + 0.5]]
    )
    logits = np.log(np.diff(edges)) - bounds
    p = np.exp(logits - logits.max())
    return p / p.sum()


class Layout(NamedTuple):
    """The positions of the parts of a template.

    Attributes:
        codes: codes of the known parts; END elsewhere.
        keep: True at known parts.
        gaps: True at gaps, in which END must not occur.
        is_whole: whether the text ends after the last part.
    """

    codes: Shaped[np.ndarray, " l"]
    keep: Bool[np.ndarray, " l"]
    gaps: Bool[np.ndarray, " l"]
    is_whole: bool

    @property
    def end(self) -> int:
        """Number of positions of all parts."""
        return int(np.flatnonzero(self.keep | self.gaps).max(initial=-1)) + 1


def arrange(modality: Text, parts: Sequence[Piece], *, is_whole: bool) -> Layout:
    """Returns the layout of the pieces of a template.

    Args:
        modality: the text.
        parts: pieces; every gap must have a length, except for a gap at the end.
        is_whole: whether the pieces are the whole text, so that the positions after it are given as
            padding and not generated; False if they are only its beginning.
    """
    codes = np.zeros(modality.length, modality.dtype)
    keep, gaps = np.zeros(modality.length, bool), np.zeros(modality.length, bool)
    at = 0
    for part in parts:
        count = part.units if isinstance(part, Gap) else len(part)
        if isinstance(part, Gap):
            gaps[at : at + count] = True
        else:
            codes[at : at + count], keep[at : at + count] = part, True
        at += count
    is_whole = is_whole and not is_open(parts[-1])
    if is_whole and not (modality.packed or modality.lengths):
        keep[at:] = True
    return Layout(codes, keep, gaps, is_whole)


def stored_template(layouts: Sequence[Layout], *, varies: bool = False) -> StoredEdit:
    """Returns the edit that fills in a template; sample i has layout i mod F.

    In a packed text, the positions after a whole template are unknown: they are generated and cut
    off. If texts differ in length (`varies`), each has the length of its layout.
    """
    codes, keep, gaps = (np.stack([layout[n] for layout in layouts]) for n in range(3))
    mask = ~keep
    for row, layout in zip(mask, layouts, strict=True):
        if layout.is_whole:
            row[layout.end :] = False
    ends = np.asarray([layout.end for layout in layouts], np.int32) if varies else None
    return StoredEdit(codes, mask, keep, 1.0, gaps, ends)


def without_end(predict: Predict, unended: Mapping[str, Bool[Array, "b l"]]) -> Predict:
    """Returns a network that gives the end code probability 0 where `unended` is True."""
    if not unended:
        return predict

    def changed(x: Named[X], t: Named[Float[Array, "b _"]]) -> Named[Prediction]:
        found = predict(x, t)
        each = {
            name: jnp.where(
                where[..., None] & (jnp.arange(found[name].shape[-1]) == END),
                IMPOSSIBLE,
                found[name],
            )
            for name, where in unended.items()
        }
        return found | each

    return changed


def _least(parts: Sequence[Piece]) -> int:
    """Returns the smallest number of units of pieces; gaps of unknown length count as one."""
    has_open_end = bool(parts) and is_open(parts[-1])
    counts = [max(p.units, 1) if isinstance(p, Gap) else len(p) for p in parts]
    return sum(counts) - has_open_end
