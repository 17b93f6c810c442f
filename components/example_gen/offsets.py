"""Offsets of other programs to code points."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from typing import Literal

OffsetUnit = Literal["code_point", "utf16", "byte"]

UNIT_WORDS: dict[OffsetUnit, str] = {"code_point": "code points", "utf16": "UTF-16 units", "byte": "bytes"}

_WIDTHS: dict[OffsetUnit, Callable[[str], int]] = {
    "utf16": lambda character: 2 if ord(character) > 0xFFFF else 1,
    # A lone surrogate is reported later; here it counts what JavaScript would write for it.
    "byte": lambda character: len(character.encode("utf-8", "surrogatepass")),
}


def code_point_offsets(text: str, unit: OffsetUnit) -> Callable[[int], int | None]:
    """Returns the function from an offset in `unit` to one in code points; None inside a character or out of range.

    Example:
        >>> to_code_point = code_point_offsets("😀b", "utf16")
        >>> [to_code_point(offset) for offset in range(4)]
        [0, None, 1, 2]
    """
    if unit == "code_point":
        return lambda offset: offset if 0 <= offset <= len(text) else None
    starts = list(itertools.accumulate(map(_WIDTHS[unit], text), initial=0))

    def to_code_point(offset: int) -> int | None:
        index = bisect.bisect_left(starts, offset)
        return index if index < len(starts) and starts[index] == offset else None

    return to_code_point


def length_in(text: str, unit: OffsetUnit) -> int:
    """Returns the length of `text` in `unit`."""
    return len(text) if unit == "code_point" else sum(map(_WIDTHS[unit], text))
