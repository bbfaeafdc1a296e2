"""Communication and memory traffic of a compiled program, read from its HLO text.

The body of a loop is counted once per iteration. The number of iterations is read from the text, or
else from the constant in the loop's condition.
"""

import math
import re
from collections import defaultdict
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2}
BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
FREE = (
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
)
"""Instructions that move no data themselves."""

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)")
_SHAPE = re.compile(r"\b(" + "|".join(BYTES) + r")\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"(body|condition|to_apply|calls)=%?([\w.\-]+)")
_KERNEL = re.compile(r'custom_call_target="(tpu_custom_call|__cudnn[^"]*|__gpu\$[^"]*)"')
_CHANNEL = re.compile(r"channel_id=(\d+)")
_TRIPS = re.compile(r'known_trip_count[^}]*?"?n"?:\s*"?(\d+)')
_CONSTANT = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = [su]32\[\]\S* constant\((\d+)\)")


class Instruction(NamedTuple):
    """One instruction of a program.

    Attributes:
        name: name of the result.
        kind: opcode.
        shape: shape of the result as text.
        operands: names of the operands.
        called: names of the called computations, by role.
        kernel: target of a custom call if it is a kernel, else "".
        channel: channel of a collective, else "".
    """

    name: str
    kind: str
    shape: str
    operands: tuple[str, ...]
    called: dict[str, str]
    kernel: str
    channel: str


class Collective(NamedTuple):
    """All collectives of one kind in a program.

    Attributes:
        times: number of executions.
        bytes: total bytes that one device receives.
    """

    times: int
    bytes: int


class Program:
    """A compiled program.

    Args:
        text: the HLO text, from `compiled.as_text()`.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, list[Instruction]] = defaultdict(list)
        calls: dict[str, list[tuple[str, int]]] = defaultdict(list)
        constants: dict[str, int] = defaultdict(int)
        known: dict[str, int] = {}
        name, entry = "", ""
        for line in text.splitlines():
            if header := _COMPUTATION.match(line):
                name = header[1]
                entry = name if line.startswith("ENTRY") else entry
            elif found := _INSTRUCTION.match(line):
                called = {role: target for role, target in _CALLED.findall(line)}
                read = tuple(part.split()[-1].lstrip("%") for part in found[4].split(",") if part)
                kernel, channel = _found(_KERNEL, line), _found(_CHANNEL, line)
                one = Instruction(found[1], found[3], found[2], read, called, kernel, channel)
                self.computations[name].append(one)
                if constant := _CONSTANT.match(line):
                    constants[name] = max(constants[name], int(constant[1]))
                if trips := _TRIPS.search(line):
                    known[one.name] = int(trips[1])
        for name, instructions in self.computations.items():
            for one in instructions:
                condition = one.called.get("condition", "")
                times = known.get(one.name, constants[condition] or 1) if condition else 1
                calls[name] += [(target, times) for target in one.called.values()]
        self.runs: dict[str, int] = defaultdict(int)
        self._count(entry, 1, calls)

    def _count(self, name: str, times: int, calls: dict[str, list[tuple[str, int]]]) -> None:
        self.runs[name] += times
        for called, more in calls[name]:
            self._count(called, times * more, calls)

    def exchanges(self) -> list[tuple[str, int, int]]:
        """Returns kind, bytes and number of executions of each collective, one entry per channel.

        The program lists an asynchronous collective several times, each time with its channel.
        """
        found, channels = [], set()
        for name, instructions in self.computations.items():
            for one in instructions:
                kind = one.kind.removesuffix("-start")
                is_known = bool(one.channel) and (kind, one.channel) in channels
                if kind in KINDS and self.runs[name] and not is_known:
                    channels.add((kind, one.channel))
                    # The start of a collective also returns its operand, which is the smaller part
                    # for a gather.
                    sizes = [_size(shape) for shape in _SHAPE.findall(one.shape)]
                    size = max(sizes) if one.kind.endswith("-start") else sum(sizes)
                    found.append((kind, size, self.runs[name]))
        return found

    def collectives(self) -> dict[str, Collective]:
        """Returns the totals by kind of collective."""
        found: dict[str, Collective] = {}
        for kind, size, times in self.exchanges():
            before = found.get(kind, Collective(0, 0))
            found[kind] = Collective(before.times + times, before.bytes + times * size)
        return found

    def kernels(self) -> dict[str, int]:
        """Counts the calls of kernels that the compiler did not generate, keyed by name."""
        found: dict[str, int] = defaultdict(int)
        for name, instructions in self.computations.items():
            for one in instructions:
                if one.kernel:
                    found[one.kernel] += self.runs[name]
        return {name: times for name, times in found.items() if times}

    def traffic(self) -> int:
        """Returns the bytes that all instructions together read from and write to memory.

        For slices and in-place updates of an array, only the part that is read or written is
        counted. On a TPU, arrays in the memory of the cores (`S(1)`) are not counted.
        """
        fused = {
            one.called["calls"]
            for part in self.computations.values()
            for one in part
            if one.kind == "fusion"
        }
        applied = {
            one.called["to_apply"]
            for part in self.computations.values()
            for one in part
            if "to_apply" in one.called and one.kind != "call"
        }
        total = 0
        for name, instructions in self.computations.items():
            if name not in fused | applied and self.runs[name]:
                shapes = {one.name: one.shape for one in instructions}
                total += self.runs[name] * sum(self._moved(one, shapes) for one in instructions)
        return total

    def _moved(self, one: Instruction, shapes: dict[str, str]) -> int:
        if one.kind in FREE or one.kind.endswith("-done"):
            return 0
        operands = [_bytes(shapes.get(name, "")) for name in one.operands]
        if one.kind in ("dynamic-slice", "slice", "gather"):
            return 2 * _bytes(one.shape)
        if one.kind == "dynamic-update-slice":
            return 2 * operands[1]
        if one.kind != "fusion":
            return sum(operands) + _bytes(one.shape)
        read, written = self._fusion(one.called["calls"])
        kept = [min(size, read.get(place, size)) for place, size in enumerate(operands)]
        return sum(kept) + (_bytes(one.shape) if written is None else written)

    def _fusion(self, name: str) -> tuple[dict[int, int], int | None]:
        """Returns the bytes that a fusion reads from sliced operands and writes in place."""
        instructions = self.computations[name]
        shapes = {one.name: one.shape for one in instructions}
        places = {one.name: int(one.operands[0]) for one in instructions if one.kind == "parameter"}
        users: dict[str, list[Instruction]] = defaultdict(list)
        for one in instructions:
            for operand in one.operands:
                users[operand].append(one)
        read, written = {}, None
        for parameter, place in places.items():
            sliced = 0
            for user in users[parameter]:
                if user.kind == "dynamic-slice" and user.operands[0] == parameter:
                    sliced += _bytes(user.shape)
                elif user.kind == "dynamic-update-slice" and user.operands[0] == parameter:
                    written = (written or 0) + _bytes(shapes[user.operands[1]])
                else:
                    sliced = -1
                    break
            if sliced >= 0:
                read[place] = sliced
        return read, written


def _found(pattern: re.Pattern[str], line: str) -> str:
    match = pattern.search(line)
    return match[1] if match else ""


def _bytes(shape: str) -> int:
    """Returns the bytes of arrays in the device's memory, for a shape given as text."""
    return sum(_size(part) for part in _SHAPE.findall(shape) if "S(1)" not in part[2])


def _size(shape: tuple[str, str, str]) -> int:
    dtype, sizes, _ = shape
    return BYTES[dtype] * math.prod(int(size) for size in sizes.split(",") if size)
