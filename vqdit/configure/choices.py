"""Chooses the modality of each column and states the reason, also for unused columns."""

from importlib.util import find_spec

import numpy as np

from vqdit.configure.columns import Classes, Column, Documents, Found, Pictures, Sounds, Texts
from vqdit.configure.machine import Machine
from vqdit.configure.parts import BYTES_OF_UNIT, SAME_LENGTH, Part, mean_fill
from vqdit.configure.tokenized import of_pictures, of_sounds
from vqdit.modalities import BPE, Label, Text
from vqdit.modalities.units import Bytes, Units

LONGEST_TEXT = {True: 256, False: 1024}
"""Largest length of texts in bytes, by whether the machine is a CPU."""
WINDOW = {True: 128, False: 1024}
"""Largest length of the windows of long texts in bytes, by whether the machine is a CPU."""
ENOUGH_FOR_BPE = 2**20
"""Smallest size in bytes of the text from which a BPE is learned."""
BPE_CODES = {True: 2048, False: 8192}
"""Number of codes of a BPE, by whether the machine is a CPU."""
TOO_LONG = 0.2
"""Largest fraction of texts that may be too long; a column with more is not used."""


def choose(
    column: Column, found: Found, machine: Machine, minutes: float, wanted: bool
) -> Part | str:
    """Returns the column as a part of the model, or the reason why it is not used.

    Args:
        column: the inspected column.
        found: the data.
        machine: the machine that trains.
        minutes: available time in minutes.
        wanted: whether the model generates the column; otherwise it is only given.
    """
    facts = column.facts
    if isinstance(facts, Pictures):
        return of_pictures(column, facts, found, machine, minutes, wanted)
    if isinstance(facts, Sounds):
        return of_sounds(column, facts, found, machine, wanted)
    if isinstance(facts, Texts):
        return _texts(column, facts, found, machine, wanted)
    if isinstance(facts, Documents):
        return _documents(column, facts, machine)
    return _classes(column, facts, wanted)


def _texts(
    column: Column, facts: Texts, found: Found, machine: Machine, wanted: bool
) -> Part | str:
    limit, lengths = LONGEST_TEXT[machine.is_cpu], facts.lengths
    half, most, longest = (int(length) for length in np.percentile(lengths, [50, 95, 100]))
    if longest > max(64, 2 * most):  # else a few long texts would make the others mostly padding
        limit = min(limit, -(-most // 8) * 8)
    kept = lengths[lengths <= limit]
    if len(kept) < (1 - TOO_LONG) * len(lengths):
        return (
            f"half of its texts are longer than {half} bytes, and {machine.name} can learn up to "
            f"{limit}"
        )
    length = -(-int(kept.max()) // 8) * 8
    variable = int(kept.min()) < SAME_LENGTH * length
    why = f"{length} bytes: the longest has {longest}, half have at most {half}."
    shown = f"at most {length} bytes"
    if dropped := len(lengths) - len(kept):
        shown += f"; {dropped} longer ones are left out"
        why = f"{length} bytes: half have at most {half}; the longest ({longest}) are left out."
    modality = Text(length=length, variable=variable, outside="skip" if dropped else "error")
    part = Part(column, modality, wanted, length, shown, comments=(("modality", why),))
    fill = mean_fill(kept / length) if variable else 1.0
    return part._replace(kept=1.0 - dropped / max(1, found.rows), fill=fill)


def _documents(column: Column, facts: Documents, machine: Machine) -> Part:
    window, total = WINDOW[machine.is_cpu], int(facts.lengths.sum())
    units: Units = Bytes()
    if total >= ENOUGH_FOR_BPE and find_spec("tokenizers") is not None:
        units = BPE(size=BPE_CODES[machine.is_cpu])
        total = int(total / BYTES_OF_UNIT)
    while window > 16 and total < 100 * window:
        window //= 2
    what = "bytes" if units == Bytes() else f"units of a BPE with {units.vocabulary:,} codes"
    why = f"Windows of {window} {what}: about {total // window:,} of them."
    modality = Text(length=window, units=units)
    shown = f"windows of {window} {what}"
    return Part(column, modality, True, window, shown, comments=(("modality", why),))


def _classes(column: Column, facts: Classes, wanted: bool) -> Part:
    counts = facts.counts
    least, most = min(counts.values()), max(counts.values())
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    why = f"{len(counts)} classes with {each} examples each."
    modality = Label(classes=len(counts))
    role = "generated" if wanted else "given"
    shown = f"one of {len(counts)} classes, {role}"
    return Part(column, modality, wanted, 1, shown, comments=(("modality", why),))
