"""`vqdit chat --workdir=DIR`: a conversation with a model of texts."""

import sys
from collections.abc import Iterator
from typing import Annotated, Any

from vqdit.cli.options import ROUNDS, Repeated, Seed, Workdir, text


def chat(
    *,
    workdir: Workdir,
    question: Annotated[str | None, text("NAME")] = None,
    answer: Annotated[str | None, text("NAME")] = None,
    steps: Annotated[int | None, ROUNDS] = None,
    temperature: Repeated = [],  # noqa: B006
    sampler: Repeated = [],  # noqa: B006
    guidance: Repeated = [],  # noqa: B006
    seed: Seed = 0,
) -> int:
    """Talk with a trained model.

    Every line of the input is a turn, and the model answers with one line. It sees all earlier
    turns, each on a separate line; if they are too long for the model, the oldest are dropped.
    The end of the input (Ctrl-D) ends the conversation.

    Args:
        workdir: Workdir of a run; if the config has several experiments, the last one is used.
        question: Name of the text that is given. Default: the only text besides the answer.
        answer: Name of the text that is generated. Default: the only text target.
        steps: Number of network evaluations. Default: as in the config.
        temperature: Temperature of samplers of codes.
        sampler: Sampler of the answer. Default: as in the config.
        guidance: Guidance scale; 1 disables guidance. Default: as in the config.
        seed: Seed of the first answer; it increases by one with every turn.
    """
    from vqdit.cli import given as arguments

    model = arguments.load_generator(workdir)
    question, answer = _names(model, question, answer)
    settings = {
        "want": [answer],
        "samplers": arguments.read_samplers(model, sampler, temperature, steps),
        "guidance": arguments.read_guidance(guidance),
    }
    model.prepare({question: ["?"]}, **settings)
    turns: list[str] = []
    for number, line in enumerate(_lines()):
        try:
            forgotten, context = fitting([*turns, line], model.modality(question).length)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        if forgotten:
            print(f"(the oldest {forgotten} turns are dropped)", file=sys.stderr)
        given = {question: ["\n".join(context)]}
        (said,) = model.sample(1, given=given, seed=seed + number, **settings)[answer]
        said = " ".join(str(said).split("\n"))
        print(said, flush=True)
        turns = [*context, said]
    return 0


def _lines() -> Iterator[str]:
    """Yields the non-blank lines of standard input; prints a prompt if the input is a terminal."""
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            print("> ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise ValueError(f"the input is not text: {error}; write it as UTF-8") from error
        if not line:
            if is_terminal:
                print()
            return
        if line.strip():
            yield line.strip()


def fitting(turns: list[str], length: int) -> tuple[int, list[str]]:
    """Drops the oldest turns until the joined turns have at most `length` bytes.

    Questions and answers alternate, so turns are dropped in pairs.

    Returns:
        The number of dropped turns, and the remaining turns.

    Raises:
        ValueError: the last turn alone is too long, or cannot be written as UTF-8.
    """
    last = len(turns[-1].encode())
    if last > length:
        raise ValueError(
            f"your turn has {last} bytes, but this model takes at most {length}; write a shorter "
            "one"
        )
    forgotten = 0
    while len("\n".join(turns[forgotten:]).encode()) > length:
        forgotten += 2
    return forgotten, turns[forgotten:]


def _names(model: Any, question: str | None, answer: str | None) -> tuple[str, str]:
    """Returns the names of the given text and of the generated text."""
    from vqdit.modalities import Text

    texts = [n for n, modality in model.task.modalities.items() if isinstance(modality, Text)]
    targets = [name for name in texts if name in model.task.targets]
    answer = _only(answer, [name for name in targets if name != question], "answer")
    return _only(question, [name for name in texts if name != answer], "question"), answer


def _only(name: str | None, known: list[str], option: str) -> str:
    """Returns the name from an option, or the only possible name."""
    shown = ", ".join(known) or "none"
    if name is None and len(known) != 1:
        raise ValueError(
            f"--{option}=NAME is missing; name one of the possible texts of this model: {shown}"
        )
    if name is not None and name not in known:
        raise ValueError(
            f"--{option}={name} is not a possible text of this model; choose one of: {shown}"
        )
    return name or known[0]
