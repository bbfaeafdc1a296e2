"""Reads a pickle as data: names in it are not looked up, and no function in it is called.

A pickle is a program for a stack machine. `read` runs only the instructions that build tuples,
dictionaries, text and integers. The results of all other instructions are replaced by `INERT`.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NamedTuple

MOST = 500_000
"""Largest number of instructions; a checkpoint has about 32 instructions per tensor."""
DEEPEST = 4
"""Largest kept depth of nested tuples; the description of a tensor has two levels."""
INERT = object()
"""Placeholder for every object of a pickle that is not data."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "UNICODE",
            "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "STRING", "BINSTRING",
            "SHORT_BINSTRING"}  # fmt: skip
"""Instructions whose argument is their value: integers and text."""


class Global(NamedTuple):
    """The name of a class or function, which is not looked up."""

    module: str
    name: str


class Items(NamedTuple):
    """A tuple of a pickle, and the depth of nested tuples in it, at least 1."""

    values: tuple[Any, ...]
    depth: int


def read(
    pickled: bytes,
    *,
    persistent: Callable[[Any], Any],
    call: Callable[[Global, tuple[Any, ...]], Any],
) -> Any:
    """Returns the object of a pickle; tuples in it become `Items`.

    Items of dictionaries whose key is not text are left out.

    Args:
        pickled: the bytes of the pickle.
        persistent: returns the object for a reference to data outside the pickle.
        call: returns the object for a call of a `Global` with arguments.

    Raises:
        ValueError: if the pickle is damaged or has too many instructions.
    """
    machine = _Machine(persistent, call)
    try:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
            if number == MOST:
                raise ValueError(
                    f"the pickle has more than {MOST:,} instructions, too many for a checkpoint"
                )
            machine.run(opcode, argument)
        return machine.result
    except (IndexError, KeyError) as error:
        raise ValueError("the pickle refers to an object that it has not stored") from error


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self, persistent: Callable[..., Any], call: Callable[..., Any]) -> None:
        self._persistent, self._call = persistent, call
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}

    @property
    def result(self) -> Any:
        """The object on top of the stack."""
        return self._stack[-1]

    def run(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Runs one instruction."""
        name, pop, push = opcode.name, self._stack.pop, self._stack.append
        if name in LITERALS:
            push(argument)
        elif name in CONSTANTS:
            push(CONSTANTS[name])
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self._memory[len(self._memory) if argument is None else argument] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self._memory[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "TUPLE":
            push(_tuple(self._since_mark()))
        elif name in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            push(_tuple([pop() for _ in opcode.stack_before][::-1]))
        elif name == "EMPTY_DICT":
            push({})
        elif name == "DICT":
            items = self._since_mark()
            push(_filled({}, items))
        elif name == "SETITEMS":
            items = self._since_mark()
            _filled(self._stack[-1], items)
        elif name == "SETITEM":
            value, key = pop(), pop()
            _filled(self._stack[-1], [key, value])
        elif name in ("PERSID", "BINPERSID"):
            push(self._persistent(pop() if name == "BINPERSID" else argument))
        elif name == "GLOBAL":
            push(Global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            last, first = pop(), pop()
            push(Global(str(first), str(last)))
        elif name == "REDUCE":
            arguments, function = pop(), pop()
            is_known = isinstance(function, Global) and isinstance(arguments, Items)
            push(self._call(function, arguments.values) if is_known else INERT)
        elif name == "BUILD":
            pop()
        elif name == "DUP":
            push(self._stack[-1])
        elif name != "STOP":
            self._ignore(opcode)

    def _since_mark(self) -> list[Any]:
        """Removes the last mark and the objects above it; returns these objects."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _ignore(self, opcode: pickletools.OpcodeInfo) -> None:
        """Pops the operands of an instruction, and pushes `INERT` for each result."""
        taken = opcode.stack_before
        if pickletools.markobject in taken:
            self._since_mark()
            taken = taken[: taken.index(pickletools.markobject)]
        for _ in taken:
            self._stack.pop()
        self._stack += [INERT] * len(opcode.stack_after)


def _tuple(values: list[Any]) -> Any:
    depth = 1 + max((value.depth for value in values if isinstance(value, Items)), default=0)
    return Items(tuple(values), depth) if depth <= DEEPEST else INERT


def _filled(target: Any, items: list[Any]) -> Any:
    if isinstance(target, dict):
        pairs = zip(items[::2], items[1::2], strict=False)
        target.update((key, value) for key, value in pairs if isinstance(key, str))
    return target
