"""Lines of columns to sentences of tokens and tags: what the columns of a file mean, found by evidence."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from components.annotated_text import AnnotationError
from components.example_gen.problems import Problems
from components.example_gen.spans import shorten
from components.tags import OUTSIDE, holds_several_tags, is_tag, split_tag

# A column holds tags if at least this share of its values are tags; the others are reported line by line.
TAG_SHARE = 0.8
# A column numbers the rows if at least this share of its values are numbers, and counts them if they go up by one.
NUMBER_SHARE = 0.95
# Types of syntactic chunks, which CoNLL-2000 and CoNLL-2003 write in the same form as entities; the last three are
# those of its German part.
CHUNK_TYPES = frozenset(
    ["NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"]
)

# No blank can be matched by two neighbours here: a line of # and 100,000 blanks would take minutes.
_COMMENT = re.compile(r"#\s?(?P<key>[A-Za-z_ ]+)(?:[^\S ]\s*)?=\s?(?P<value>.*)")
# A comment has a blank or another # behind its #; a line with anything else may be meant as a token.
_LOOKS_LIKE_HASHTAG = re.compile(r"#[^\s#]")
# A token, a separator and a tag in one cell, as some corpora write a sentence a line: 中/B-ORG 国/I-ORG.
_INLINE_TAG = re.compile(r".+[/|_\\](?:O|[BIESMUL]-.+)", re.DOTALL)
# What numbers a row: 7, in CoNLL-U also 2-3 (a token of several words) and 1.1 (an empty node), in WebAnno 4-7
# (sentence and token).
_ROW_NUMBER = re.compile(r"\d+(?:[-.]\d+)?", re.ASCII)
_ROW_OF_NO_TOKEN = re.compile(r"\d+[-.]\d+", re.ASCII)
_DOCUMENT_START = "-DOCSTART-"


@dataclasses.dataclass(frozen=True)
class Token:
    """A token, its tag, and its line counted from 1."""

    text: str
    tag: str
    line: int


@dataclasses.dataclass(frozen=True)
class Sentence:
    """The tokens of a sentence, and what its comments say.

    Args:
        tokens: in order.
        line: of the first token or comment.
        text: of the comment `# text = ...`; None without one.
        identifier: of the comment `# sent_id = ...`; None without one.
    """

    tokens: tuple[Token, ...]
    line: int
    text: str | None = None
    identifier: str | None = None


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the lines of a file split into columns; columns are counted from 0.

    Args:
        separator: "\\t", or " " for any run of blanks.
        columns: how many each line has.
        token: the column of the tokens.
        tag: the column of the tags.
        counter: the column that counts the rows; None without one.
    """

    separator: str
    columns: int
    token: int
    tag: int
    counter: int | None = None


def read_sentences(
    lines: Sequence[str],
    name: str,
    problems: Problems,
    *,
    token_column: int | None = None,
    tag_column: int | None = None,
) -> tuple[list[Sentence], Layout, list[int]]:
    """Returns the sentences of a file of columns, its layout, and the lines with a hashtag that are comments.

    Blank lines (also with blanks in them) and `-DOCSTART-` lines end a sentence; a line that begins with `#` is a
    comment, which ends a sentence too, unless it has the columns of a token. A hashtag directly behind a token is no
    comment: without the columns of a token it is a problem.

    Args:
        lines: of the file.
        name: of the file, for messages.
        problems: receives a problem for each line that does not fit the layout.
        token_column, tag_column: counted from 1; None: found by evidence.

    Raises:
        AnnotationError: the layout cannot be found.
    """
    layout = find_layout(lines, name, token_column=token_column, tag_column=tag_column)
    sentences: list[Sentence] = []
    tokens: list[Token] = []
    comments: dict[str, str] = {}
    hashtags: list[int] = []
    first_line = 1

    def finish() -> None:
        text = comments.get("text")
        if tokens or (text is not None and text.strip()):
            sentences.append(Sentence(tuple(tokens), first_line, text, comments.get("sent_id")))
        tokens.clear()
        comments.clear()

    for number, line in enumerate(lines, start=1):
        if _is_boundary(line):
            finish()
            continue
        fields = _split(line, layout.separator)
        is_comment = _is_comment(line, fields, layout)
        if fault := _line_fault(line, fields, layout, is_comment=is_comment, inside=bool(tokens)):
            problems.add(number, fault)
            # Without this line the tokens cannot make up the sentence, which would be a second problem of one fault.
            comments.pop("text", None)
            continue
        if is_comment and tokens:
            finish()
        if not tokens and not comments:
            first_line = number
        if is_comment:
            if match := _COMMENT.fullmatch(line):
                comments[match["key"].rstrip(" ")] = match["value"]
            elif _LOOKS_LIKE_HASHTAG.match(line):
                hashtags.append(number)
        else:
            tokens.append(Token(fields[layout.token], fields[layout.tag].strip(), number))
    finish()
    return sentences, layout, hashtags


def find_layout(
    lines: Sequence[str], name: str, *, token_column: int | None = None, tag_column: int | None = None
) -> Layout:
    """Returns the layout that most lines have.

    Args:
        lines: of the file.
        name: of the file, for messages.
        token_column, tag_column: counted from 1; None: found by evidence.

    Raises:
        AnnotationError: the file has no token lines, no column holds tags, or several do.
    """
    token_lines = [line for line in lines if not _is_boundary(line) and not _COMMENT.fullmatch(line)]
    if not token_lines:
        raise AnnotationError(
            f"{name}:1: the corpus is empty: no line holds a token; expected lines of a token and its tag, such as "
            f"'Berlin<TAB>B-LOC'"
        )
    # What begins with # may be a comment or a token, so it is no evidence as long as there is other.
    is_evidence = [not line.startswith("#") for line in lines]
    if all(line.startswith("#") for line in token_lines):
        is_evidence = [not _COMMENT.fullmatch(line) for line in lines]
    with_tab = sum("\t" in line for line in token_lines)
    separator = "\t" if 2 * with_tab > len(token_lines) else " "
    sentences: list[list[list[str]]] = [[]]
    for line, counts in zip(lines, is_evidence, strict=True):
        # Some files have nothing but comments between their sentences.
        if _is_boundary(line) or not counts:
            sentences.append([])
        else:
            sentences[-1].append(_split(line, separator))
    widths = Counter(len(row) for rows in sentences for row in rows)
    columns = widths.most_common(1)[0][0]
    if columns < 2:
        _refuse_inline_tags([cell for rows in sentences for row in rows for cell in row], name)
        raise AnnotationError(
            f"{name}:1: most lines have 1 column; expected 2 or more, a token and its tag, separated by a tab or "
            f"blanks; if this is another format, set format"
        )
    for setting, column in (("token_column", token_column), ("tag_column", tag_column)):
        if column is not None and column > columns:
            raise AnnotationError(f"{name}:1: {setting} is {column}, but most lines have {columns} columns")
    sentences = [[row for row in rows if len(row) == columns] for rows in sentences]
    values = [[row[column] for rows in sentences for row in rows] for column in range(columns)]
    tag = _find_tag_column(values, name, token_column) if tag_column is None else tag_column - 1
    others = [column for column in range(columns) if column != tag]
    counters = [column for column in others if _counts_rows(values[column])]
    token = _find_token_column(sentences, values, others, counters) if token_column is None else token_column - 1
    counter = next((column for column in counters if column != token), None)
    return Layout(separator, columns, token, tag, counter)


def _refuse_inline_tags(cells: list[str], name: str) -> None:
    """Raises AnnotationError if the cells are tokens with a tag glued to them, such as 中/B-ORG."""
    with_tag = [cell for cell in cells if _INLINE_TAG.fullmatch(cell)]
    if len(with_tag) >= TAG_SHARE * len(cells):
        raise AnnotationError(
            f"{name}:1: the tags stand inside the tokens, as in {shorten(with_tag[0])}; one token a line with its tag "
            f"in a column is expected, such as '中<TAB>B-ORG'; separate them"
        )


def _find_token_column(
    sentences: list[list[list[str]]], values: list[list[str]], candidates: list[int], counters: list[int]
) -> int:
    """Returns the first column that neither numbers the rows nor names their document; the nearest, if all do.

    Args:
        sentences: sentences of rows of cells.
        values: the cells by column.
        candidates: the columns to choose from.
        counters: those of them that count the rows.
    """
    longer = [rows for rows in sentences if len(rows) > 1]

    def implausibility(column: int) -> tuple[int, int]:
        numbers = _are_numbers(values[column])
        # The name of the document, or the number of the sentence: one value in each sentence.
        constant = bool(longer) and all(len({row[column] for row in rows}) == 1 for rows in longer)
        return 3 if column in counters or (numbers and constant) else 2 if constant else 1 if numbers else 0, column

    return min(candidates, key=implausibility)


def _are_numbers(values: list[str]) -> bool:
    return _share(map(_ROW_NUMBER.fullmatch, values)) >= NUMBER_SHARE


def _counts_rows(values: list[str]) -> bool:
    """Whether plain numbers are most of the values, and each is one more than the one before, or begins again."""
    if not _are_numbers(values):
        return False
    # The number of an endless token counts no row, and Python would refuse to convert it.
    numbers = [int(value) for value in values if value.isdecimal() and len(value) <= 9]
    right = [
        number == before + 1 or (number in (0, 1) and number < before) for before, number in itertools.pairwise(numbers)
    ]
    return 2 * len(numbers) > len(values) and bool(right) and _share(right) >= NUMBER_SHARE


def _share(found: Iterable[object]) -> float:
    flags = [bool(each) for each in found]
    return sum(flags) / len(flags)


def _find_tag_column(values: list[list[str]], name: str, token_column: int | None) -> int:
    shares = [_share(_looks_like_tag(value.strip()) for value in column) for column in values]
    if token_column is not None:
        shares[token_column - 1] = -1.0
    candidates = [column for column, share in enumerate(shares) if share >= TAG_SHARE]
    if not candidates:
        _refuse_inline_tags(list(itertools.chain(*values)), name)
        best = max(range(len(values)), key=lambda column: (shares[column], column))
        shown = ", ".join(shorten(value) for value, _ in Counter(values[best]).most_common(5))
        raise AnnotationError(
            f"{name}:1: no column holds tags; the nearest is column {best + 1}, where {shares[best]:.0%} of the values "
            f"are tags, and which holds {shown}; expected O (the letter), B-PER, I-PER and so on; mend the tags, or "
            f"set tag_column"
        )
    # Of several columns that look like tags, those that mark entities count. Chunks go first: in a file without any
    # entity theirs is the only column with types.
    types = {column: _types(values[column]) for column in candidates}
    candidates = [each for each in candidates if not types[each] or types[each] - CHUNK_TYPES] or candidates[-1:]
    candidates = [each for each in candidates if types[each]] or candidates[-1:]
    if len(candidates) > 1:
        numbers = " and ".join(str(column + 1) for column in candidates)
        raise AnnotationError(
            f"{name}:1: the columns {numbers} all hold tags, expected one; set tag_column to the one to learn"
        )
    return candidates[0]


def _looks_like_tag(value: str) -> bool:
    # Several tags in a cell are refused line by line, in better words than that the column holds none.
    return is_tag(value) or holds_several_tags(value)


def _types(values: list[str]) -> set[str]:
    return {split_tag(tag)[1] for tag in map(str.strip, values) if is_tag(tag) and tag != OUTSIDE}


def _is_boundary(line: str) -> bool:
    return not line.strip(" \t") or line.startswith(_DOCUMENT_START)


def _is_comment(line: str, fields: list[str], layout: Layout) -> bool:
    if not line.startswith("#"):
        return False
    # A hashtag, or a lone #, can be a token.
    return len(fields) != layout.columns or not _looks_like_tag(fields[layout.tag].strip())


def _split(line: str, separator: str) -> list[str]:
    # Not `str.split()`: it would split at the ideographic space and other characters that are tokens.
    return line.rstrip(" \t").split("\t") if separator == "\t" else re.split(r"[ \t]+", line.strip(" \t"))


def _line_fault(line: str, fields: list[str], layout: Layout, *, is_comment: bool, inside: bool) -> str | None:
    """Returns what is wrong with a line that is no boundary; `inside`: a token stands before it in its sentence."""
    if is_comment:
        return _hashtag_fault(line, fields, layout) if inside and _LOOKS_LIKE_HASHTAG.match(line) else None
    if len(fields) != layout.columns:
        return _column_fault(line, fields, layout)
    if layout.counter is not None and _ROW_OF_NO_TOKEN.fullmatch(fields[layout.counter]):
        return _row_number_fault(fields, layout)
    return None


def _columns_expected(layout: Layout) -> str:
    separator = "tabs" if layout.separator == "\t" else "blanks"
    return f"expected {layout.columns} separated by {separator}"


def _column_fault(line: str, fields: list[str], layout: Layout) -> str:
    return (
        f"the line {shorten(line)} has {len(fields)} columns; {_columns_expected(layout)}, as most lines have; mend "
        f"the line"
    )


def _hashtag_fault(line: str, fields: list[str], layout: Layout) -> str:
    if len(fields) == layout.columns:
        fault = f"column {layout.tag + 1} holds {shorten(fields[layout.tag])}, which is no tag"
    else:
        fault = f"it has {len(fields)} columns, {_columns_expected(layout)}"
    return (
        f"the line {shorten(line)} stands inside a sentence and begins with a hashtag, but is no token with its tag: "
        f"{fault}; mend the line, or, if it is a comment, write a blank behind its # or an empty line before it"
    )


def _row_number_fault(fields: list[str], layout: Layout) -> str:
    number, token = fields[layout.counter or 0], shorten(fields[layout.token])
    if "." in number:
        return (
            f"the row {number} with {token} is an empty node, which the sentence does not have; expected a row for "
            f"each token; remove the row"
        )
    return (
        f"the row {number} with {token} stands for several words, which have rows of their own; what text each of them "
        f"has cannot be known from the columns; expected a row for each token; remove the rows of the words and give "
        f"this one a number and a tag, or, where a `# text =` line has the words as they are, remove this row"
    )
