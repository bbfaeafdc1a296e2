"""`vqdit chat --workdir=DIR`: a conversation with a model of texts."""

import contextlib
import sys
from collections.abc import Callable, Iterator
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
    turns, each on a separate line; if they are too long for the model, or have characters that it
    was not trained on, the oldest are dropped. A turn that the model cannot read is refused, and
    the conversation goes on.
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
    model.prepare({question: [""]}, **settings)
    turns: list[str] = []
    refused = 0
    for number, line in enumerate(_lines()):
        try:
            dropped, context = fitting([*turns, line], lambda text: model.pack(question, [text]))
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            refused += 1
            continue
        if dropped:
            print(f"(the oldest {dropped} turns are dropped)", file=sys.stderr)
        given = {question: ["\n".join(context)]}
        (said,) = model.sample(1, given=given, seed=seed + number, **settings)[answer]
        said = " ".join(str(said).split("\n"))
        print(said, flush=True)
        turns = [*context, said]
    return 2 if refused and not sys.stdin.isatty() else 0


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


def fitting(turns: list[str], check: Callable[[str], Any]) -> tuple[int, list[str]]:
    """Drops the oldest turns until the model can read the joined turns.

    Questions and answers alternate, so turns are dropped in pairs.

    Args:
        turns: the turns, of which the last is a question.
        check: raises ValueError if the model cannot read a text.

    Returns:
        The number of dropped turns, and the remaining turns.

    Raises:
        ValueError: the model cannot read the last turn alone.
    """
    for dropped in range(0, len(turns) - 1, 2):
        with contextlib.suppress(ValueError):
            check("\n".join(turns[dropped:]))
            return dropped, turns[dropped:]
    check(turns[-1])
    return len(turns) - 1, turns[-1:]


def _names(model: Any, question: str | None, answer: str | None) -> tuple[str, str]:
    """Returns the names of the given text and of the generated text."""
    from vqdit.modalities import Text

    texts = [n for n, modality in model.task.modalities.items() if isinstance(modality, Text)]
    targets = [name for name in texts if name in model.task.targets]
    answer = _only(answer, [name for name in targets if name != question], "answer")
    return _only(question, [name for name in texts if name != answer], "question"), answer


def _only(name: str | None, known: list[str], option: str) -> str:
    """Returns the name from an option, or the only possible name."""
    if not known:
        raise ValueError(
            f"this model has no text for the {option}; chat needs a model that generates a text "
            "from another text"
        )
    shown = ", ".join(known)
    if name is None and len(known) != 1:
        raise ValueError(
            f"--{option}=NAME is missing; name one of the possible texts of this model: {shown}"
        )
    if name is not None and name not in known:
        raise ValueError(
            f"--{option}={name} is not a possible text of this model; choose one of: {shown}"
        )
    return name or known[0]
