from __future__ import annotations

import numpy as np
import pytest

from components.annotated_text import Entity
from components.trainer.pieces import (
    continuation_tokens,
    counted_pieces,
    follow_directly,
    has_whole_words,
    is_annotated_by_whitespace,
    piece_kinds,
)
from components.trainer.settings import TrainerSettings
from components.trainer.training_data import TokenizedTexts
from components.transform.vocabulary import Vocabulary

VOCABULARY = Vocabulary(["word", "##piece", "@", "北", "[PAD]", "[UNK]", "[CLS]", "[SEP]"])
CONTINUATION = continuation_tokens(VOCABULARY)


def _texts(
    spans: list[list[tuple[int, int]]], tag_ids: list[int], token_ids: list[int] | None = None
) -> TokenizedTexts:
    starts, ends = zip(*(span for text in spans for span in text), strict=True)
    return TokenizedTexts(
        row_splits=np.cumsum([0, *map(len, spans)]),
        token_ids=np.array(token_ids or [0] * len(starts)),
        token_start=np.array(starts),
        token_end=np.array(ends),
        tag_ids=np.array(tag_ids),
        entities=(*[(Entity(0, 1, "LOC"),) * tag_ids.count(1)], *[()] * (len(spans) - 1)),
        unaligned=0,
    )


@pytest.mark.parametrize(
    ("tag_ids", "whole"),
    [
        pytest.param([1, 2, 0], True, id="over the word"),
        pytest.param([1, 0, 0], False, id="ends inside"),
        pytest.param([0, 1, 0], False, id="begins inside"),
        pytest.param([0, 0, 1], True, id="another word"),
    ],
)
def test_whole_words(tag_ids, whole):
    texts = _texts([[(0, 1), (1, 2), (3, 4)]], tag_ids, token_ids=[0, 1, 0])  # word, ##piece, word
    assert has_whole_words(TrainerSettings(), texts, CONTINUATION) is whole
    assert has_whole_words(TrainerSettings(whole_words=not whole), texts, CONTINUATION) is not whole


@pytest.mark.parametrize(
    ("spans", "token_ids", "expected"),
    [
        pytest.param([[(0, 1), (1, 5), (5, 9), (10, 11)]], [0, 0, 1, 0], [False, True, True, False], id="@paulwalk :"),
        pytest.param([[(0, 2), (3, 4), (4, 5)]], [0, 0, 0], [False, False, True], id="in U.S without its end"),
        pytest.param([[(0, 1), (2, 3)]], [0, 1], [False, True], id="a dropped character within a word"),
        pytest.param([[(0, 1), (1, 2)], [], [(2, 3), (3, 4)]], [0] * 4, [False, True, False, True], id="three texts"),
        pytest.param([[(0, 4)], [(4, 6)]], [0, 0], [False, False], id="a text begins where the one before ends"),
        pytest.param([[(0, 1)], []], [0], [False], id="nothing after it"),
    ],
)
def test_pieces_follow_directly(spans, token_ids, expected):
    texts = _texts(spans, [0] * len(token_ids), token_ids)
    assert follow_directly(texts, np.array(CONTINUATION)[texts.token_ids]).tolist() == expected


@pytest.mark.parametrize(
    ("spans", "tag_ids", "token_ids", "expected"),
    [
        pytest.param([[(0, 1), (1, 5), (5, 9), (10, 11)]], [0] * 4, [2, 0, 1, 0], [1, 0, 0, 1], id="@paulwalk x"),
        pytest.param([[(0, 1), (2, 6), (6, 9)]], [0] * 3, [2, 0, 1], [1, 1, 1], id="@ paulwalk"),
        pytest.param([[(0, 4), (4, 5), (5, 8), (8, 9)]], [0] * 4, [0, 2, 0, 1], [1, 0, 0, 0], id="well-knowns"),
        pytest.param([[(0, 1), (1, 2), (2, 3)]], [1, 2, 2], [0, 2, 0], [1, 1, 1], id="an entity, U.S"),
        pytest.param([[(0, 1)], [(1, 2)]], [0, 0], [2, 0], [1, 1], id="two texts"),
        pytest.param([[(0, 1), (1, 5), (5, 6)]], [0] * 3, [3, 0, 2], [1, 1, 0], id="behind an ideograph"),
        pytest.param([[(0, 4), (4, 5), (5, 6)]], [0] * 3, [0, 3, 3], [1, 1, 1], id="ideographs"),
    ],
)
def test_counted_pieces(spans, tag_ids, token_ids, expected):
    assert counted_pieces(_texts(spans, tag_ids, token_ids), piece_kinds(VOCABULARY)).tolist() == expected


ENGLISH = [[(0, 1), (1, 5), (6, 10), (10, 11)]]  # @paul Rome.
CHINESE = [[(0, 1), (1, 2), (2, 3), (3, 4)]]


@pytest.mark.parametrize(
    ("spans", "tag_ids", "settings", "expected"),
    [
        pytest.param(ENGLISH, [0, 0, 1, 2], {}, True, id="entities end at whitespace"),
        pytest.param(ENGLISH, [1, 2, 0, 0], {}, True, id="the prefixed word is an entity"),
        pytest.param(ENGLISH, [0, 0, 1, 0], {}, False, id="an entity ends before a full stop"),
        pytest.param(ENGLISH, [0, 1, 0, 0], {}, False, id="an entity begins after @"),
        pytest.param(CHINESE, [0, 1, 2, 0], {}, False, id="no whitespace"),
        pytest.param(ENGLISH, [0, 0, 1, 2], {"annotated_by_whitespace": False}, False, id="not wanted"),
        pytest.param(ENGLISH, [0, 0, 1, 0], {"annotated_by_whitespace": True}, True, id="wanted"),
        pytest.param(ENGLISH, [0, 0, 1, 2], {"decoder": "crf"}, False, id="loss of sequences"),
        pytest.param(ENGLISH, [0, 0, 1, 2], {"loss": "seed"}, False, id="loss of the seed"),
        pytest.param(ENGLISH * 98 + CHINESE, [0, 0, 1, 2] * 98 + [0, 1, 0, 0], {}, False, id="2 ends of 99 inside"),
        pytest.param(ENGLISH * 100 + CHINESE, [0, 0, 1, 2] * 100 + [0, 0, 0, 1], {}, True, id="1 end of 101 inside"),
    ],
)
def test_annotated_by_whitespace(spans, tag_ids, settings, expected):
    texts = _texts(spans, tag_ids, [2, 0, 0, 2] * len(spans))
    assert is_annotated_by_whitespace(TrainerSettings(**settings), texts, CONTINUATION) is expected
