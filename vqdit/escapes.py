"""Text from elsewhere, such as names in files and weights, as it is shown to people."""

import re

HIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, those that reverse the order of reading, and half characters."""


LINES = "\n\t"
"""What a text of several lines keeps."""


def escaped(text: str, keep: str = "") -> str:
    r"""Returns a text with its hidden characters as escapes such as \n, except those in `keep`."""

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return HIDDEN.sub(escape, text)
