"""What BERT's basic tokenizer does with each code point, as tables small enough to be constants of a graph.

The rules are those of google-research/bert `tokenization.py`, evaluated by the same functions it calls (`unicodedata`,
`str.lower`) once for every code point. A table of all 0x110000 code points is stored in pages of 256, equal pages once.
"""

from __future__ import annotations

import dataclasses
import functools
import unicodedata

import numpy as np

CODE_POINTS = 0x110000
PAGE_BITS = 8

# Bits of the table of original code points; the index of the expansion follows above them.
DROPPED = 1  # NUL, U+FFFD and control characters
WHITESPACE = 2
CJK = 4  # a word of its own
CASED = 8  # the last two decide between the two small sigmas
CASE_IGNORABLE = 16
EXPANSION_SHIFT = 5

# Bits of the table of normalised code points; the canonical combining class follows above them.
STRIPPED = 1  # nonspacing marks, in lower case only
PUNCTUATION = 2  # a word of its own
COMBINING_CLASS_SHIFT = 2

# Expansions that are not tied to one code point.
UNCHANGED, NOTHING, FINAL_SIGMA = 0, 1, 2
CAPITAL_SIGMA = 0x3A3

# TensorFlow encodes the 66 noncharacters as U+FFFD. Tag characters stand in for them: clean_text drops those from the
# text, so they are free.
_FIRST_STAND_IN = 0xE0020
NONCHARACTERS = (*range(0xFDD0, 0xFDF0), *(plane << 16 | low for plane in range(17) for low in (0xFFFE, 0xFFFF)))
NONCHARACTER_STAND_INS = {code: _FIRST_STAND_IN + index for index, code in enumerate(NONCHARACTERS)}

_CJK_RANGES = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
_ASCII_PUNCTUATION_RANGES = ((33, 47), (58, 64), (91, 96), (123, 126))


@dataclasses.dataclass(frozen=True, eq=False)
class PagedTable:
    """An int32 for each code point: `pages[(page_of[code >> 8] << 8) + (code & 255)]`.

    Args:
        page_of: int32 [4352], the page of each run of 256 code points.
        pages: int32 [256 * pages], the distinct pages one after another.
    """

    page_of: np.ndarray
    pages: np.ndarray

    @classmethod
    def from_values(cls, values: np.ndarray) -> PagedTable:
        """Pages the table `values`, int32 [0x110000]."""
        page_indices: dict[bytes, int] = {}
        rows = values.astype(np.int32).reshape(-1, 1 << PAGE_BITS)
        page_of = [page_indices.setdefault(row.tobytes(), len(page_indices)) for row in rows]
        return cls(np.array(page_of, np.int32), np.frombuffer(b"".join(page_indices), np.int32))

    def value(self, code: int) -> int:
        """Returns the entry of the code point `code`."""
        return int(self.pages[(int(self.page_of[code >> PAGE_BITS]) << PAGE_BITS) + (code & 255)])


@dataclasses.dataclass(frozen=True, eq=False)
class CodePointTables:
    """The tables of one kind of vocabulary, cased or uncased.

    Args:
        lower_case: whether words are lower-cased, decomposed (NFD) and stripped of nonspacing marks.
        original: bits and expansion of each code point of the text.
        normalized: bits and combining class of each code point of an expansion.
        expansion_start: int32 [expansions], where each expansion begins in `expansion_values`.
        expansion_length: int32 [expansions].
        expansion_values: int32 [values], code points. Expansion UNCHANGED stands for the code point itself.
    """

    lower_case: bool
    original: PagedTable
    normalized: PagedTable
    expansion_start: np.ndarray
    expansion_length: np.ndarray
    expansion_values: np.ndarray


@functools.cache
def code_point_tables(*, lower_case: bool) -> CodePointTables:
    """Returns the tables for a cased or uncased vocabulary; computed once a process, in a few tenths of a second."""
    categories = _categories()
    control = np.isin(categories, ("Cc", "Cf"))
    control[[ord(character) for character in "\t\n\r"]] = False
    dropped = control.copy()
    dropped[[0, 0xFFFD]] = True
    # str.split() also splits at U+2028 and U+2029, the only separators outside of Zs.
    whitespace = np.isin(categories, ("Zs", "Zl", "Zp"))
    whitespace[[ord(character) for character in "\t\n\r"]] = True
    cjk = _in_ranges(_CJK_RANGES)
    original = dropped * DROPPED + whitespace * WHITESPACE + cjk * CJK

    expansions = [(0,), (), (0x3C2,)]
    expansion_of = np.full(CODE_POINTS, UNCHANGED, np.int32)
    for code, stand_in in NONCHARACTER_STAND_INS.items():
        expansion_of[code] = len(expansions)
        expansions.append((stand_in,))
    if lower_case:
        assigned = np.flatnonzero(~np.isin(categories, ("Cn", "Cs", "Co")) & ~dropped & ~whitespace)
        for code, lowered in zip(assigned.tolist(), _lower_nfd(assigned), strict=True):
            if lowered != chr(code):
                expansion_of[code] = len(expansions)
                expansions.append(tuple(map(ord, lowered)))
        cased, case_ignorable = _sigma_context(assigned)
        original[assigned] += cased * CASED + case_ignorable * CASE_IGNORABLE
    expansion_of[whitespace] = NOTHING
    original += expansion_of << EXPANSION_SHIFT

    punctuation = _in_ranges(_ASCII_PUNCTUATION_RANGES) | (categories.astype("U1") == "P")
    normalized = punctuation * PUNCTUATION
    if lower_case:
        normalized += (categories == "Mn") * STRIPPED
        marks = np.flatnonzero(np.isin(categories, ("Mn", "Mc", "Me")))
        normalized[marks] += np.array([unicodedata.combining(chr(mark)) for mark in marks]) << COMBINING_CLASS_SHIFT

    lengths = np.array([len(expansion) for expansion in expansions], np.int32)
    return CodePointTables(
        lower_case=lower_case,
        original=PagedTable.from_values(original),
        normalized=PagedTable.from_values(normalized),
        expansion_start=np.cumsum(lengths, dtype=np.int32) - lengths,
        expansion_length=lengths,
        expansion_values=np.array([code for expansion in expansions for code in expansion], np.int32),
    )


@functools.cache
def _categories() -> np.ndarray:
    return np.array(list(map(unicodedata.category, map(chr, range(CODE_POINTS)))))


def _in_ranges(ranges: tuple[tuple[int, int], ...]) -> np.ndarray:
    member = np.zeros(CODE_POINTS, bool)
    for first, last in ranges:
        member[first : last + 1] = True
    return member


def _lower_nfd(codes: np.ndarray) -> list[str]:
    # One call for all: a line feed neither has a case nor combines, so it keeps the code points apart.
    return unicodedata.normalize("NFD", "\n".join(map(chr, codes)).lower()).split("\n")


def _sigma_context(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns which code points are cased, and which case-ignorable, where `str.lower` looks around a capital sigma.

    Python does not expose these properties, but its choice of sigma after `c` and after `Ac` shows them.
    """
    after = np.array([word[-1] for word in "\n".join(f"{chr(code)}Σ" for code in codes).lower().split("\n")])
    after_a = np.array([word[-1] for word in "\n".join(f"A{chr(code)}Σ" for code in codes).lower().split("\n")])
    cased = after == "ς"
    return cased, (after_a == "ς") & ~cased
