"""Rules for numbers that the command line and the Python API share."""

import math
import operator
from typing import Any, NamedTuple

FLOAT32_MAX = 3.4028234e38


class Integer(NamedTuple):
    """The rule that a value must be an integer from `least` to `most`.

    Attributes:
        least: smallest allowed integer.
        most: largest allowed integer.
        rule: the range in words, which follow "must be" in an error message; derived from the
            limits if it is empty.
    """

    least: int
    most: float = math.inf
    rule: str = ""

    def __call__(self, value: Any) -> int:
        """Converts a value to an int; raises ValueError if it is no integer or out of range."""
        try:
            number = operator.index(value)
        except TypeError:
            raise ValueError(f"must be an integer, got {value!r}") from None
        if isinstance(value, bool) or not self.least <= number <= self.most:
            least, most = f"at least {self.least}", f"at most {self.most}"
            rule = self.rule or (most if number > self.most else least)
            raise ValueError(f"must be {rule}, got {value}")
        return number


COUNT, STEP = Integer(1, 10_000_000), Integer(1)
SAMPLES, SEVERAL = Integer(1, 1_000_000), Integer(2, 1_000_000)
"""Number of samples of one call, which are kept in memory; for more, use another seed."""
EDGE = Integer(1, 2**14)
"""Number of pixels of an edge, of channels, or of heads."""
SEED = Integer(0, 2**32 - 1, "from 0 to 2^32 - 1")
BATCH = Integer(1, 2**16)
"""Number of samples or scores in a batch; more need memory and are not faster."""
ROUNDS = Integer(1, 10_000)
"""Number of network evaluations per score; more make no noticeable difference."""


def number(value: Any) -> float:
    """Converts a value to a float; raises ValueError if it is not a number."""
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"must be a number, got {value!r}") from None
    except OverflowError:
        return math.inf


def finite(value: Any) -> float:
    """Converts a value to a float; raises ValueError unless it is a finite number in float32."""
    found = number(value)
    if not abs(found) <= FLOAT32_MAX:  # also rejects NaN
        raise ValueError(f"must be finite, got {value}")
    return found


def check(rule: Any, **arguments: Any) -> None:
    """Applies a rule to each argument.

    Raises:
        ValueError: an argument breaks the rule; the message begins with its name.
    """
    for name, value in arguments.items():
        try:
            rule(value)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
