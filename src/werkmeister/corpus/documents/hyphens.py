"""Words that were divided at the end of a line, put together again."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

SOFT = "\x02"
"""What PDFium writes for a hyphen at the end of a line, joining the two lines."""

_WORDS = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_DIVIDED = re.compile(rf"([^\W\d_]*)(?:{SOFT}|\u00ad\s*|-\n)([^\W\d_]*)")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})


class Joiner:
    """Joins divided words as the rest of the document writes them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._often: Counter[str] = Counter()
        for text in texts:
            self._often.update(_WORDS.findall(text.translate(_LIGATURES)))
        self.joined = 0

    def join(self, text: str) -> str:
        """The text with the words joined that are divided by a soft hyphen, or by "-" and a line break.

        The hyphen stays before a capital letter (Peripherie-Unterstützung), and where the document writes the word
        with it more often than without.
        """
        return _DIVIDED.sub(self._joined, text.translate(_LIGATURES))

    def _joined(self, match: re.Match[str]) -> str:
        left, right = match.group(1), match.group(2)
        if not right or not left:
            # At the end of the text, or beside a sign: nothing tells that a word goes on.
            return f"{left}{'' if SOFT in match.group() and not left else '-'}{right}"
        whole = left + right
        hyphened = f"{left}-{right}"
        capitals = left.isupper() and right.isupper()
        if (right[0].isupper() and not capitals) or self._often[hyphened] > self._often[whole]:
            return hyphened
        self.joined += 1
        return whole
