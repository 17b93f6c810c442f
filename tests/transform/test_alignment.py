from __future__ import annotations

import itertools

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.transform.alignment import align_entities

Span = tuple[int, int]
TypedSpan = tuple[int, int, int]


def align(pieces: list[list[Span]], entities: list[list[TypedSpan]]) -> tuple[list[list[int]], list[list[int]]]:
    def column(rows: list, index: int) -> tf.RaggedTensor:
        return tf.ragged.constant([[row[index] for row in rows_of] for rows_of in rows], tf.int64, ragged_rank=1)

    alignment = align_entities(
        column(pieces, 0), column(pieces, 1), column(entities, 0), column(entities, 1), column(entities, 2)
    )
    return alignment.tag_ids.to_list(), alignment.unaligned.to_list()


@pytest.mark.parametrize(
    ("pieces", "entities", "tags", "unaligned"),
    [
        pytest.param([(0, 1), (1, 2), (2, 3)], [(0, 2, 0)], [1, 2, 0], [], id="exact"),
        pytest.param([(0, 1), (1, 2)], [(0, 1, 0), (1, 2, 0)], [1, 1], [], id="neighbours of one type"),
        pytest.param([(0, 1), (1, 2)], [(0, 1, 0), (1, 2, 2)], [1, 5], [], id="neighbours of two types"),
        pytest.param([(0, 3), (3, 5)], [(0, 5, 1)], [3, 4], [], id="a continuation piece is inside"),
        pytest.param([(0, 3), (4, 5)], [(0, 5, 0)], [1, 2], [], id="whitespace within the entity"),
        pytest.param([(1, 3)], [(0, 3, 0)], [1], [0], id="whitespace before: tagged, not aligned"),
        pytest.param([(0, 3)], [(0, 4, 0)], [1], [0], id="a dropped character after: tagged, not aligned"),
        pytest.param([(0, 3)], [(0, 2, 0)], [0], [0], id="ends inside a piece"),
        pytest.param([(0, 3)], [(1, 3, 0)], [0], [0], id="begins inside a piece"),
        pytest.param([(0, 2), (2, 5)], [(0, 3, 0)], [0, 0], [0], id="the last of two pieces is cut"),
        pytest.param([(0, 1), (3, 4)], [(1, 3, 0)], [0, 0], [0], id="no piece at all"),
        pytest.param([], [(0, 1, 0), (2, 3, 0)], [], [0, 1], id="a text without pieces"),
        pytest.param([(0, 1)], [(0, 1, -1)], [0], [0], id="unknown type"),
        pytest.param([(0, 1), (1, 2)], [(0, 1, -1), (1, 2, 0)], [0, 1], [0], id="unknown type beside a known one"),
        pytest.param([(0, 1), (0, 1), (0, 1)], [(0, 1, 0)], [1, 2, 2], [], id="pieces of one code point"),
        pytest.param([(0, 1), (1, 2)], [(1, 2, 1), (0, 1, 0)], [1, 3], [], id="entities out of order"),
        pytest.param([(0, 1), (1, 2)], [(0, 9, 0)], [1, 2], [0], id="an entity that leaves the text"),
        pytest.param([(0, 1)], [], [0], [], id="no entity"),
    ],
)
def test_one_text(pieces: list[Span], entities: list[TypedSpan], tags: list[int], unaligned: list[int]) -> None:
    assert align([pieces], [entities]) == ([tags], [unaligned])


def test_no_text() -> None:
    assert align([], []) == ([], [])


def reference(pieces: list[Span], entities: list[TypedSpan]) -> tuple[list[int], list[int]]:
    """The rule of `align_entities` in plain Python, an entity at a time."""
    tags, unaligned = [0] * len(pieces), []
    for index, (start, end, kind) in enumerate(entities):
        touched = [i for i, piece in enumerate(pieces) if piece[0] < end and start < piece[1]]
        inside = all(start <= pieces[i][0] and pieces[i][1] <= end for i in touched)
        if touched and inside and kind >= 0:
            for i in touched:
                tags[i] = 1 + 2 * kind + (i != touched[0])
        exact = touched and (pieces[touched[0]][0], pieces[touched[-1]][1]) == (start, end)
        if not (exact and kind >= 0):
            unaligned.append(index)
    return tags, unaligned


@st.composite
def disjoint_spans(draw: st.DrawFn) -> list[Span]:
    bounds = sorted(draw(st.lists(st.integers(0, 20), max_size=10, unique=True)))
    spans = list(itertools.pairwise(bounds))
    kept = draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans)))
    return [span for span, keep in zip(spans, kept, strict=True) if keep]


@st.composite
def annotated(draw: st.DrawFn) -> tuple[list[Span], list[TypedSpan]]:
    return draw(disjoint_spans()), [(*span, draw(st.integers(-1, 2))) for span in draw(disjoint_spans())]


@settings(max_examples=100)
@given(batch=st.lists(annotated(), max_size=12))
def test_a_batch_is_its_texts_one_by_one(batch: list[tuple[list[Span], list[TypedSpan]]]) -> None:
    tags, unaligned = align([pieces for pieces, _ in batch], [entities for _, entities in batch])
    assert list(zip(tags, unaligned, strict=True)) == [reference(*text) for text in batch]
