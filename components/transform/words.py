"""Texts to normalised words in the graph: the basic tokenizer of google-research/bert, with offsets carried along.

Everything is flat vectors over the code points of the batch; no loop over texts and no padding. Axes: B texts, N code
points of the texts, K those that clean_text keeps, E code points after normalisation, W words.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from components.segments import segment_ids
from components.transform import code_points
from components.transform.code_points import CodePointTables, PagedTable


class Words(NamedTuple):
    """The words of a batch of texts, one after another.

    Attributes:
        text: string [W], normalised words in UTF-8; noncharacters are replaced as `code_points` tells.
        row: int32 [W], the text of each word.
        first: int32 [W + 1], the first character of each word; the last element is E.
        code_point: int32 [E], the characters of the words.
        start: int32 [E], the code point of the original text each character comes from.
        end: int32 [E], its end, exclusive, nonspacing marks stripped from it included.
    """

    text: tf.Tensor
    row: tf.Tensor
    first: tf.Tensor
    code_point: tf.Tensor
    start: tf.Tensor
    end: tf.Tensor


class _Tokens(NamedTuple):
    """Cleaned text; "token" as in the reference: what whitespace and CJK characters delimit."""

    code_point: tf.Tensor  # int32 [K]
    properties: tf.Tensor  # int32 [K]
    row: tf.Tensor  # int32 [K]
    position: tf.Tensor  # int32 [K], in the original text
    token: tf.Tensor  # int32 [K]


def split_words(texts: tf.Tensor, tables: CodePointTables) -> Words:
    """Splits texts into normalised words.

    Args:
        texts: string [B], any bytes; invalid UTF-8 counts as U+FFFD, one for each that Python's "replace" gives.
        tables: what to do with each code point.
    """
    tokens = _clean(texts, tables)
    code_point, source = _normalize(tokens, tables)
    properties = _look_up(tables.normalized, code_point)
    if tables.lower_case:
        code_point, source, properties = _strip_marks(code_point, source, properties, tokens)
        end = tf.gather(_ends_with_stripped_marks(tokens, source), source)
    else:
        end = tf.gather(tokens.position, source) + 1
    token = tf.gather(tokens.token, source)
    punctuation = tf.not_equal(properties & code_points.PUNCTUATION, 0)
    begins = _differs(token) | punctuation | _shifted(punctuation)
    first = tf.cast(tf.where(begins)[:, 0], tf.int32)
    splits = tf.concat([first, [tf.size(code_point)]], 0)
    return Words(
        text=tf.strings.unicode_encode(
            tf.RaggedTensor.from_row_splits(code_point, tf.cast(splits, tf.int64), validate=False), "UTF-8"
        ),
        row=tf.gather(tokens.row, tf.gather(source, first)),
        first=splits,
        code_point=code_point,
        start=tf.gather(tokens.position, source),
        end=end,
    )


def _clean(texts: tf.Tensor, tables: CodePointTables) -> _Tokens:
    decoded = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    code_point, splits = decoded.flat_values, decoded.row_splits  # [N], [B + 1]
    row = segment_ids(splits)
    position = tf.range(tf.size(code_point)) - tf.gather(tf.cast(splits, tf.int32), row)
    properties = _look_up(tables.original, code_point)
    kept = tf.where(tf.equal(properties & code_points.DROPPED, 0))[:, 0]
    code_point, properties, row, position = (tf.gather(x, kept) for x in (code_point, properties, row, position))
    alone = tf.not_equal(properties & (code_points.CJK | code_points.WHITESPACE), 0)
    token = tf.cumsum(tf.cast(_differs(row) | alone | _shifted(alone), tf.int32))
    return _Tokens(code_point, properties, row, position, token)


def _normalize(tokens: _Tokens, tables: CodePointTables) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the characters after lower-casing and NFD, marks included, and their sources, indices into K."""
    expansion = tf.bitwise.right_shift(tokens.properties, code_points.EXPANSION_SHIFT)
    if tables.lower_case:
        expansion = tf.where(_is_final_sigma(tokens), code_points.FINAL_SIGMA, expansion)
    start = tf.gather(tables.expansion_start, expansion)
    length = tf.gather(tables.expansion_length, expansion)
    splits, value = tf.raw_ops.RaggedRange(starts=start, limits=start + length, deltas=1, Tsplits=tf.int64)
    source = segment_ids(splits)
    unchanged = tf.equal(expansion, code_points.UNCHANGED)
    code_point = tf.where(
        tf.gather(unchanged, source),
        tf.gather(tokens.code_point, source),
        tf.gather(tables.expansion_values, value),
    )
    return code_point, source


def _is_final_sigma(tokens: _Tokens) -> tf.Tensor:
    """Tells, bool [K], which capital sigmas `str.lower` turns into ς.

    The nearest neighbours that are not case-ignorable count: a cased one before, none after, in the same token.
    """
    noticed = tf.where(tf.equal(tokens.properties & code_points.CASE_IGNORABLE, 0))
    properties, token, code_point = (
        tf.gather_nd(x, noticed) for x in (tokens.properties, tokens.token, tokens.code_point)
    )
    cased = tf.not_equal(properties & code_points.CASED, 0)
    same_token = tf.logical_not(_differs(token))  # as the one before
    cased_before = _shifted(cased) & same_token
    cased_after = tf.concat([(cased & same_token)[1:], tf.zeros_like(cased[:1])], 0)
    final = tf.equal(code_point, code_points.CAPITAL_SIGMA) & cased_before & tf.logical_not(cased_after)
    return tf.scatter_nd(noticed, final, tf.shape(tokens.token, out_type=tf.int64))


def _strip_marks(
    code_point: tf.Tensor, source: tf.Tensor, properties: tf.Tensor, tokens: _Tokens
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Removes nonspacing marks and brings what is left into the order of NFD; sources stay ascending."""
    retained = tf.where(tf.equal(properties & code_points.STRIPPED, 0))[:, 0]
    combining_class = tf.bitwise.right_shift(properties, code_points.COMBINING_CLASS_SHIFT)
    stripped = tf.gather(code_point, retained)

    def in_canonical_order() -> tf.Tensor:
        starts_run = tf.equal(combining_class, 0) | _differs(tf.gather(tokens.token, source))
        run = tf.cumsum(tf.cast(starts_run, tf.int64))
        order = run * 256 + tf.cast(combining_class, tf.int64)
        return tf.gather(stripped, tf.argsort(tf.gather(order, retained), stable=True))

    # Few characters are neither stripped nor starters: viramas, Hangul tone marks, stems of musical notes.
    has_marks = tf.reduce_any(tf.greater(tf.gather(combining_class, retained), 0))
    return (
        tf.cond(has_marks, in_canonical_order, lambda: stripped),
        tf.gather(source, retained),
        tf.gather(properties, retained),
    )


def _ends_with_stripped_marks(tokens: _Tokens, source: tf.Tensor) -> tf.Tensor:
    """Returns, int32 [K], the end of each code point in the text, together with the stripped marks that follow it.

    So "é" written as "e" and U+0301 is covered as a whole, as it is when written as one code point.
    """
    size = tf.size(tokens.token)
    characters = tf.math.unsorted_segment_sum(tf.ones_like(source), source, size)
    begins = tf.greater(characters, 0) | _differs(tokens.token)
    group = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    first = tf.cast(tf.where(begins)[:, 0], tf.int32)
    last = tf.concat([first[1:], [size]], 0) - 1
    return tf.gather(tokens.position, tf.gather(last, group)) + 1


def _look_up(table: PagedTable, code_point: tf.Tensor) -> tf.Tensor:
    page = tf.gather(table.page_of, tf.bitwise.right_shift(code_point, code_points.PAGE_BITS))
    within = code_point & ((1 << code_points.PAGE_BITS) - 1)
    return tf.gather(table.pages, tf.bitwise.left_shift(page, code_points.PAGE_BITS) + within)


def _shifted(flags: tf.Tensor) -> tf.Tensor:
    """Returns the flag of the element before each; False before the first."""
    return tf.concat([tf.zeros_like(flags[:1]), flags[:-1]], 0)


def _differs(values: tf.Tensor) -> tf.Tensor:
    """Tells of each element whether it differs from the one before; the first does."""
    return tf.concat([tf.ones_like(values[:1], tf.bool), tf.not_equal(values[1:], values[:-1])], 0)
