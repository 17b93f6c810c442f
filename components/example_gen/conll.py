"""Columns of tokens and tags (CoNLL, .iob2, .bmes) to annotated text."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

from components.annotated_text import AnnotatedText, AnnotationError
from components.example_gen.columns import Sentence, Token, read_sentences
from components.example_gen.corpus import Corpus
from components.example_gen.problems import Problems
from components.example_gen.scripts import is_one_character, joint_needs_space, writes_no_spaces
from components.example_gen.settings import ReadingSettings
from components.example_gen.spans import SpanCounts, make_annotated_text, shorten
from components.tags import Scheme, check_tag, detect_scheme, entities_from_tags, holds_several_tags, split_tag

# A file is annotated by character if at least this share of its tokens are one character each: the odd one among
# thousands (a character and a blank, a ligature taken apart) must not put blanks into every number of the file.
CHARACTER_SHARE = 0.99

# Tokens bring their own blanks if at least this share of them are white space or begin or end with it (every fifth in
# Korean annotated by character); fewer are slips of words that a blank still belongs between.
OWN_BLANK_SHARE = 0.05

# Digits behind characters are positions if at least this share of the tokens carry that of their place in the word.
POSITION_SHARE = 0.95

_CHARACTER_AND_POSITION = re.compile(r"(.+?)(0|[1-9]\d*)", re.DOTALL | re.ASCII)


def read_conll(lines: Sequence[str], name: str, settings: ReadingSettings) -> Corpus:
    """Returns the annotated texts of a file of columns.

    The text of a sentence is what its `# text =` line gives, with the tokens located in it in order; without such a
    line the tokens are joined, with a space except where the script has none.

    Args:
        lines: of the file, without their ends.
        name: of the file, for messages and sources.
        settings: how to read.

    Raises:
        AnnotationError: with the first problems of the file, each with its line.

    Example:
        >>> read_conll(["Ada B-PER", "sings O", ""], "a.conll", ReadingSettings()).texts[0].text
        'Ada sings'
    """
    problems = Problems(name)
    sentences, layout, hashtags = read_sentences(
        lines, name, problems, token_column=settings.token_column, tag_column=settings.tag_column
    )
    notes = [
        f"the tokens stand in column {layout.token + 1} of {layout.columns}",
        f"the tags stand in column {layout.tag + 1} of {layout.columns}",
    ]
    if hashtags:
        notes.append(
            f"{len(hashtags)} lines before a sentence begin with a hashtag and were read as comments, the first is "
            f"line {hashtags[0]}"
        )
    digits = count_position_digits(sentences)
    if settings.position_digits == "strip" or (settings.position_digits == "auto" and digits.are_positions):
        sentences = [_without_position_digits(sentence, problems) for sentence in sentences]
        notes.append("the digit behind each character was read as its position in the word, not as text")
        if digits.wrong_lines:
            notes.append(
                f"{len(digits.wrong_lines)} tokens carry another digit than that of their position, the first in line "
                f"{digits.wrong_lines[0]}; it was left out as well"
            )
    elif settings.position_digits == "auto" and digits.may_be_positions:
        notes.append(
            f"the digits behind characters were kept as text, as only {_percent(digits.right, digits.tokens)} of the "
            f"tokens carry that of their position; to leave them out, set position_digits: strip"
        )
    scheme: Scheme = (
        detect_scheme([token.tag for token in sentence.tokens] for sentence in sentences)
        if settings.scheme == "auto"
        else settings.scheme
    )
    notes.append(f"the scheme is {scheme}" + (" (detected)" if settings.scheme == "auto" else ""))
    needs_space, joint_notes = _find_joint(sentences, settings)
    notes += joint_notes
    counts = SpanCounts()
    texts: list[AnnotatedText] = []
    lenient: Counter[str] = Counter()
    for sentence in sentences:
        before = len(problems)
        _check_tags(sentence, scheme, problems)
        located = _locate(sentence, needs_space, problems)
        if located is None or len(problems) > before:
            continue
        text, offsets = located
        tags = [token.tag for token in sentence.tokens]
        entities = entities_from_tags(tags, scheme)
        lenient += count_lenient(tags, entities, scheme)
        annotated = make_annotated_text(
            identifier=sentence.identifier or f"{os.path.basename(name)}:{sentence.line}",
            text=text,
            spans=[(offsets[first][0], offsets[last - 1][1], entity_type) for first, last, entity_type in entities],
            name=name,
            line=sentence.tokens[0].line,
            trim_whitespace=settings.trim_whitespace,
            ignore_types=settings.ignore_types,
            problems=problems,
            counts=counts,
        )
        if annotated is not None:
            texts.append(annotated)
    problems.raise_if_any()
    notes += [f"{count} {what}, as conlleval does" for what, count in sorted(lenient.items())]
    return Corpus(tuple(texts), (*notes, *counts.notes()))


def count_lenient(tags: Sequence[str], entities: Sequence[tuple[int, int, str]], scheme: Scheme) -> Counter[str]:
    """Returns how many tags of each kind break the order of `scheme` and are read as conlleval reads them, in words.

    Args:
        tags: of a sentence.
        entities: what `entities_from_tags` finds in them.
        scheme: of the tags.

    Example:
        >>> tags = ["I-PER", "I-PER", "I-LOC", "O"]
        >>> count_lenient(tags, entities_from_tags(tags, "BIO"), "BIO")
        Counter({'I- tags behind O or another type were read as the start of an entity': 2})
    """
    counts: Counter[str] = Counter()
    for first, end, _ in entities:
        begins, ends = tags[first][0], tags[end - 1][0]
        # IOB1 writes B- only where an entity of the same type ends before it.
        if scheme == "IOB1":
            follows = first > 0 and split_tag(tags[first])[1] == split_tag(tags[first - 1])[1]
            if begins == "B" and not follows:
                counts["B- tags behind O or another type were read as the start of an entity"] += 1
        elif scheme == "BIO":
            if begins == "I":
                counts["I- tags behind O or another type were read as the start of an entity"] += 1
        else:
            if begins not in "BSU":
                counts[f"{begins}- tags that continue no entity were read as the start of one"] += 1
            if ends not in "ESLU":
                counts[f"{ends}- tags that no tag of their entity follows were read as its end"] += 1
    return counts


@dataclasses.dataclass(frozen=True)
class PositionDigits:
    """How many tokens of a file are one character and the number of its place in the word, counted from 0.

    Args:
        tokens: all of them.
        right: tokens whose digit continues the word or begins one.
        wrong_lines: of the tokens with another digit, in order.
        longest: the largest of the right digits.
    """

    tokens: int
    right: int
    wrong_lines: tuple[int, ...]
    longest: int

    @property
    def may_be_positions(self) -> bool:
        """Whether the digits of most tokens count up, and a word of two characters occurs (a Q1 Q0 could be meant)."""
        return self.longest > 0 and 2 * self.right > self.tokens

    @property
    def are_positions(self) -> bool:
        """Whether the digits are positions, not text."""
        return self.may_be_positions and self.right >= POSITION_SHARE * self.tokens


def count_position_digits(sentences: Sequence[Sentence]) -> PositionDigits:
    """Returns which tokens of a file carry the digit of their position in the word.

    Example:
        >>> tokens = tuple(Token(text, "O", 1) for text in ("科0", "技1", "很0", "好0"))
        >>> count_position_digits([Sentence(tokens, 1)])
        PositionDigits(tokens=4, right=4, wrong_lines=(), longest=1)
    """
    right = longest = 0
    wrong_lines = []
    for sentence in sentences:
        position = 0
        for token in sentence.tokens:
            parts = _character_and_position(token.text)
            # A token without a digit takes a place: the one behind it is not wrong for that.
            digit = position if parts is None else parts[1]
            if parts is not None and digit in (0, position):
                right += 1
                longest = max(longest, digit)
            elif parts is not None:
                wrong_lines.append(token.line)
            position = digit + 1
    return PositionDigits(sum(len(sentence.tokens) for sentence in sentences), right, tuple(wrong_lines), longest)


def _character_and_position(token: str) -> tuple[str, int] | None:
    match = _CHARACTER_AND_POSITION.fullmatch(token)
    # The number of an endless token is no position, and Python would refuse to convert it.
    if match is None or len(match[2]) > 9 or not is_one_character(match[1]):
        return None
    return match[1], int(match[2])


def _without_position_digits(sentence: Sentence, problems: Problems) -> Sentence:
    tokens = []
    for token in sentence.tokens:
        parts = _character_and_position(token.text)
        if parts is None:
            problems.add(
                token.line,
                f"the token {shorten(token.text)} is no character with its position, such as 科0; mend it, or "
                f"set position_digits: keep",
            )
        else:
            tokens.append(Token(parts[0], token.tag, token.line))
    return Sentence(tuple(tokens), sentence.line, sentence.text, sentence.identifier)


def _check_tags(sentence: Sentence, scheme: Scheme, problems: Problems) -> None:
    for token in sentence.tokens:
        if holds_several_tags(token.tag):
            problems.add(
                token.line,
                f"{token.tag!r} are several tags, nested or alternative ones; expected one tag a token; token "
                f"{shorten(token.text)}; keep the tag to learn",
            )
            continue
        try:
            check_tag(token.tag, scheme)
        except AnnotationError as error:
            problems.add(token.line, f"{error}; token {shorten(token.text)}; mend the tag, or set scheme or tag_column")


def _find_joint(
    sentences: Sequence[Sentence], settings: ReadingSettings
) -> tuple[Callable[[str, str], bool], list[str]]:
    """Returns the function that says whether a space belongs between two tokens, and notes on how it was found."""
    if settings.joint != "auto":
        return lambda left, right: settings.joint == "space", []
    tokens = [token.text for sentence in sentences for token in sentence.tokens if token.text]
    words = [token for token in tokens if any(map(str.isalpha, token))]
    mostly_without_spaces = 2 * sum(any(map(writes_no_spaces, word)) for word in words) > len(words)
    # Nothing but emoji is no evidence of words that were taken apart.
    is_lettered = 2 * sum(any(map(str.isalnum, token)) for token in tokens) > len(tokens)
    characters = sum(map(is_one_character, tokens))
    own_blanks = sum(token[0].isspace() or token[-1].isspace() for token in tokens)
    if own_blanks >= OWN_BLANK_SHARE * len(tokens) > 0:
        joint, evidence = "none", f", as {_of_tokens(own_blanks, tokens)} are white space, or begin or end with it"
    elif (mostly_without_spaces or is_lettered) and characters >= CHARACTER_SHARE * len(tokens):
        # One token for each character: also letters and digits of Western words were taken apart, and where a text has
        # many of them they outnumber the Chinese.
        joint, evidence = "none", f", as {_of_tokens(characters, tokens)} are one character"
    else:
        sides = "on either side" if mostly_without_spaces else "on both sides"
        joint = f"a space, except beside a script without spaces {sides}"
        evidence = f" ({_of_tokens(characters, tokens)} are one character)"
        if own_blanks:
            evidence += f"; there is none beside the white space that {own_blanks} tokens bring"
    # Where every sentence has its `# text =` line, nothing is joined.
    notes = [f"the joint of tokens is {joint}{evidence}"] if any(each.text is None for each in sentences) else []
    if joint == "none":
        return lambda left, right: False, notes
    return lambda left, right: joint_needs_space(left[-1], right[0], mostly_without_spaces=mostly_without_spaces), notes


def _have_blank_between(left: str, right: str) -> bool:
    return left[-1].isspace() or right[0].isspace()


def _of_tokens(count: int, tokens: Sequence[str]) -> str:
    return f"{_percent(count, len(tokens))} of the tokens"


def _percent(part: int, whole: int) -> str:
    """A share in words that never rounds up to all of them.

    Example:
        >>> _percent(9999, 10000)
        '99.9 %'
    """
    return f"{1000 * part // max(whole, 1) / 10:g} %"


def _locate(
    sentence: Sentence, needs_space: Callable[[str, str], bool], problems: Problems
) -> tuple[str, list[tuple[int, int]]] | None:
    """Returns the text of the sentence and where each token stands in it, or None after adding the fault."""
    empty = [token for token in sentence.tokens if not token.text]
    for token in empty:
        problems.add(token.line, "the token is empty; expected a token before its tag; mend or remove the line")
    if empty:
        return None
    if sentence.text is not None:
        return _locate_in_text(sentence, sentence.text, problems)
    parts: list[str] = []
    offsets: list[tuple[int, int]] = []
    position = 0
    before = ""
    for token in sentence.tokens:
        if before and not _have_blank_between(before, token.text) and needs_space(before, token.text):
            parts.append(" ")
            position += 1
        parts.append(token.text)
        offsets.append((position, position + len(token.text)))
        position += len(token.text)
        before = token.text
    return "".join(parts), offsets


def _locate_in_text(sentence: Sentence, text: str, problems: Problems) -> tuple[str, list[tuple[int, int]]] | None:
    offsets: list[tuple[int, int]] = []
    position = 0
    for token in sentence.tokens:
        if not text.startswith(token.text, position):
            position += _blanks(text, position)
        if not text.startswith(token.text, position):
            found = text[position : position + len(token.text) + 10]
            problems.add(
                token.line,
                f"the token {shorten(token.text)} does not continue the sentence of the `# text =` line, which goes on "
                f"with {shorten(found)} at code point {position}; mend the token or the line",
            )
            return None
        offsets.append((position, position + len(token.text)))
        position += len(token.text)
    position += _blanks(text, position)
    if rest := text[position:]:
        problems.add(
            sentence.line,
            f"the tokens end before the sentence of the `# text =` line, which goes on with {shorten(rest)} at code "
            f"point {position}; add the tokens, or mend the line",
        )
        return None
    return text, offsets


def _blanks(text: str, position: int) -> int:
    start = position
    while position < len(text) and text[position].isspace():
        position += 1
    return position - start
