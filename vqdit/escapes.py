"""Makes untrusted text, such as names in files and weights, safe to print."""

import re

HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, characters that change the text direction, and lone surrogates."""


LINES = "\n\t"
"""Characters that are kept in a text of several lines."""


def escaped(text: str, keep: str = "") -> str:
    r"""Returns `text` with control and invisible characters escaped, except those in `keep`."""

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return HIDDEN.sub(escape, text)
