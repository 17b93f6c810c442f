"""Which characters belong to scripts that write no space between words."""

from __future__ import annotations

import unicodedata

# First and last code point.
_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # radicals, CJK punctuation, kana, Bopomofo
    (0x3190, 0x9FFF),  # kanbun, Bopomofo extensions, enclosed and compatible forms, CJK ideographs
    (0xF900, 0xFAFF),  # compatibility ideographs
    (0xFE30, 0xFE4F),  # compatibility forms
    (0xFF00, 0xFF9F),  # full-width forms, half-width kana
    (0x20000, 0x3FFFF),  # ideographs of the supplementary planes
)
# Punctuation that Chinese shares with Western text, but writes without spaces.
_SHARED_PUNCTUATION = frozenset("“”‘’…—·")
_ZERO_WIDTH_JOINER = "\u200d"
# First and last code point of what changes the character before it and is no combining mark: skin tones, flag tags.
_MODIFIERS = ((0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F))
# Marks that Chinese writes as two characters; corpora by character keep them together or apart.
_DOUBLE_MARKS = frozenset(["……", "——"])
# Two of these letters are one flag.
_REGIONAL_INDICATORS = (0x1F1E6, 0x1F1FF)


def writes_no_spaces(character: str) -> bool:
    """Whether `character` belongs to a script without spaces between words (Korean has them).

    Example:
        >>> writes_no_spaces("北"), writes_no_spaces("，"), writes_no_spaces("B")
        (True, True, False)
    """
    return any(first <= ord(character) <= last for first, last in _RANGES)


def joint_needs_space(left: str, right: str, *, mostly_without_spaces: bool) -> bool:
    """Whether a space belongs between two tokens whose joint has the characters `left` and `right`.

    Beside a character of a script without spaces there is none, on both sides; in a corpus that is mostly of such
    scripts, one such side is enough.

    Example:
        >>> joint_needs_space("年", "2", mostly_without_spaces=True)
        False
        >>> joint_needs_space("w", "Y", mostly_without_spaces=True)
        True
    """
    closed = [_is_closed(character, mostly_without_spaces) for character in (left, right)]
    return not (any(closed) if mostly_without_spaces else all(closed))


def _is_closed(character: str, mostly_without_spaces: bool) -> bool:
    return writes_no_spaces(character) or (mostly_without_spaces and character in _SHARED_PUNCTUATION)


def is_one_character(text: str) -> bool:
    """Whether readers see one character: a base with its combining marks, variation selectors, joined emoji and tones.

    The Chinese ellipsis and dash are one as well.

    Example:
        >>> is_one_character("❤\ufe0f"), is_one_character("👍🏽"), is_one_character("北京")
        (True, True, False)
    """
    if len(text) < 2 or text in _DOUBLE_MARKS:
        return bool(text)
    if len(text) == 2 and all(_within(character, _REGIONAL_INDICATORS) for character in text):
        return True
    joined = False
    for character in text[1:]:
        if not (joined or _extends(character)):
            return False
        joined = character == _ZERO_WIDTH_JOINER
    return True


def _extends(character: str) -> bool:
    return (
        character == _ZERO_WIDTH_JOINER
        or unicodedata.category(character).startswith("M")
        or any(_within(character, modifiers) for modifiers in _MODIFIERS)
    )


def _within(character: str, code_points: tuple[int, int]) -> bool:
    first, last = code_points
    return first <= ord(character) <= last
