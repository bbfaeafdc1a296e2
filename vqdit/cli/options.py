"""Options that a command takes out of its arguments before anything heavy is imported."""

from collections.abc import Sequence


def take(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Takes `option=VALUE` or `option VALUE` out of the arguments; the last one counts.

    Raises:
        ValueError: the option has no value.
    """
    rest, value = [], None
    arguments = iter(argv)
    for argument in arguments:
        if argument == option:
            value = next(arguments, None)
            if value is None:
                raise ValueError(f"{option} needs a value, as in {option}=...")
        elif argument.startswith(f"{option}="):
            value = argument.partition("=")[2]
        else:
            rest.append(argument)
    return value, rest
