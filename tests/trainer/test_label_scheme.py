"""Lists of labels in every scheme and order, as tables and in the decoder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.tags import entities_from_tags, tags_from_entities
from components.trainer.decoding import decode_entities, decode_tags
from components.trainer.label_scheme import LabelError, bio_scheme, label_scheme

BIO = ("B-PER", "I-PER", "B-LOC", "I-LOC")
BIOES = tuple(f"{prefix}-{name}" for name in ("PER", "LOC") for prefix in "BIES")
BMES = tuple(f"{prefix}-{name}" for name in ("PER", "LOC") for prefix in "BMES")
BIOUL = tuple(f"{prefix}-{name}" for name in ("PER", "LOC") for prefix in "BIUL")


def decode(labels, texts, *, iob1=False, continues=None, strength=6.0):
    """Decodes texts of label names: logits favour each by `strength`. Returns (start, end, type) of each text."""
    scheme = label_scheme(labels, iob1=iob1)
    flat = [label for text in texts for label in text]
    logits = np.zeros((len(flat), len(labels)), np.float32)
    logits[np.arange(len(flat)), [labels.index(label) for label in flat]] = strength
    start = tf.RaggedTensor.from_row_lengths(
        tf.constant([place for text in texts for place in range(len(text))], tf.int32), [len(text) for text in texts]
    )
    continues_word = None if continues is None else tf.constant(continues, tf.bool)
    found = decode_entities(tf.constant(logits), start, start + 1, continues_word, None, scheme)
    rows = zip(*(part.to_list() for part in found[:3]), strict=True)
    return [[(s, e, scheme.types[t]) for s, e, t in zip(*row, strict=True)] for row in rows]


@st.composite
def entities(draw):
    """Entities of one text of at most eight tokens, which may touch, and its length."""
    length = draw(st.integers(0, 8))
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    spans = [(a, b, draw(st.sampled_from(["PER", "LOC", None]))) for a, b in itertools.pairwise(cuts)]
    return [span for span in spans if span[2]], length


@pytest.mark.parametrize(
    ("scheme", "written"),
    [
        pytest.param("BIO", BIO, id="BIO"),
        pytest.param("IOB1", BIO, id="IOB1"),
        pytest.param("BIOES", BIOES, id="BIOES"),
        pytest.param("BMES", BMES, id="BMES"),
    ],
)
@given(texts=st.lists(entities(), max_size=3), order=st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_a_legal_sequence_in_any_order_of_labels_gives_its_entities(scheme, written, texts, order):
    labels = ["O", "[PAD]", "X", "[CLS]", "[SEP]", *written]
    order.shuffle(labels)
    tags = [tags_from_entities(spans, length, scheme) for spans, length in texts]
    expected = [entities_from_tags(row, scheme) for row in tags]
    assert expected == [sorted(spans) for spans, _ in texts]
    assert decode(labels, tags, iob1=scheme == "IOB1") == expected


@pytest.mark.parametrize(
    ("scheme", "labels"),
    [
        pytest.param("BIO", ("O", *BIO), id="BIO"),
        pytest.param("BIOES", (*BIOES, "O"), id="BIOES"),
        pytest.param("BMES", ("O", *BMES), id="BMES"),
    ],
)
def test_the_table_allows_exactly_what_the_scheme_writes(scheme, labels):
    """Legal is what is written again after reading: a definition that does not use the table."""
    allowed = label_scheme(labels).allowed
    boundary = len(labels)
    for ids in itertools.product(range(len(labels)), repeat=3):
        steps = itertools.pairwise((boundary, *ids, boundary))
        tags = [labels[index] for index in ids]
        is_written = tags_from_entities(entities_from_tags(tags, scheme), 3, scheme) == tags
        assert all(allowed[step] for step in steps) == is_written, tags


def test_the_best_legal_sequence_of_bioes_is_found():
    labels = ("E-LOC", "O", "S-LOC", "I-LOC", "B-LOC")
    allowed = label_scheme(labels).allowed
    random = np.random.default_rng(5)
    for _ in range(20):
        scores = tf.nn.log_softmax(random.normal(size=(4, len(labels))).astype(np.float32) * 3)
        legal = (
            ids
            for ids in itertools.product(range(5), repeat=4)
            if all(allowed[step] for step in itertools.pairwise((5, *ids, 5)))
        )
        best = max(legal, key=lambda ids: sum(scores.numpy()[place, index] for place, index in enumerate(ids)))
        assert tuple(decode_tags(scores, tf.constant([4]), None, label_scheme(labels)).numpy()) == best


@pytest.mark.parametrize(
    ("labels", "tags", "expected"),
    [
        pytest.param(("O", *BIOUL), ["U-LOC", "B-PER", "L-PER"], [(0, 1, "LOC"), (1, 3, "PER")], id="BIOUL"),
        pytest.param(("O", "B-LOC", "I-LOC", "E-LOC"), ["B-LOC", "O"], [(0, 1, "LOC")], id="B alone without S"),
        pytest.param(("O", "B-LOC", "I-LOC", "S-LOC"), ["B-LOC", "I-LOC", "O"], [(0, 2, "LOC")], id="I ends without E"),
        pytest.param(("O", "B-LOC"), ["B-LOC", "B-LOC"], [(0, 1, "LOC"), (1, 2, "LOC")], id="B alone"),
        pytest.param(("I-PER", "O", "B-LOC", "I-LOC"), ["I-PER", "I-LOC"], [(0, 1, "PER"), (1, 2, "LOC")], id="IOB1"),
        pytest.param(("[PAD]", "O", *BIO), ["B-PER", "[PAD]", "B-PER"], [(0, 1, "PER"), (2, 3, "PER")], id="as O"),
        pytest.param(("<pad>", "O", *BIO), ["<pad>", "B-PER"], [(1, 2, "PER")], id="angle brackets"),
        pytest.param(("X", *BIO, "O"), ["X", "X"], [], id="X begins no word"),
        pytest.param(
            ("O", *BIOES[:4], "B-LOC", "I-LOC"),
            ["B-LOC", "I-LOC", "B-LOC", "B-PER", "E-PER", "S-PER"],
            [(0, 2, "LOC"), (2, 3, "LOC"), (3, 5, "PER"), (5, 6, "PER")],
            id="a type in BIO beside one in BIOES",
        ),
        pytest.param(
            ("O", *BMES[:4], "B-LOC", "M-LOC"),
            ["B-LOC", "M-LOC", "B-LOC", "B-PER", "E-PER", "S-PER"],
            [(0, 2, "LOC"), (2, 3, "LOC"), (3, 5, "PER"), (5, 6, "PER")],
            id="a type in BIO beside one in BMES",
        ),
        pytest.param(
            ("O", *BIOES[:4], "B-LOC", "E-LOC"),
            ["B-LOC", "E-LOC", "B-LOC"],
            [(0, 2, "LOC"), (2, 3, "LOC")],
            id="a type without S",
        ),
        pytest.param(
            ("O", *BIOES[:4], "B-LOC", "I-LOC", "S-LOC"),
            ["S-LOC", "B-LOC", "I-LOC", "O"],
            [(0, 1, "LOC"), (1, 3, "LOC")],
            id="a type without E",
        ),
        pytest.param(
            ("O", *BIOES[:4], "B-LOC"), ["B-LOC", "B-LOC"], [(0, 1, "LOC"), (1, 2, "LOC")], id="a type with only B"
        ),
        pytest.param(
            ("O", *BIOES[:4], "S-LOC"), ["S-LOC", "S-LOC"], [(0, 1, "LOC"), (1, 2, "LOC")], id="a type with only S"
        ),
        pytest.param(("O", "S-LOC"), ["S-LOC", "O"], [(0, 1, "LOC")], id="S alone"),
        pytest.param(
            ("O", "B-PER", "I-PER", "I-LOC"), ["I-LOC", "B-PER"], [(0, 1, "LOC"), (1, 2, "PER")], id="only I, in IOB1"
        ),
        pytest.param(
            ("O", *BIOES[:4], "I-LOC", "S-LOC"), ["S-LOC", "O"], [(0, 1, "LOC")], id="an I that nothing leads to"
        ),
    ],
)
def test_label_lists(labels, tags, expected):
    assert decode(labels, [tags]) == [expected]


@pytest.mark.parametrize("label", ["X", "[##WordPiece]"])
def test_later_pieces_follow_their_word(label):
    labels = ("[PAD]", *BIOES, "O", label)
    tags = ["B-PER", label, "E-PER", label, label, "O", label]
    assert decode(labels, [tags], continues=[tag == label for tag in tags]) == [[(0, 5, "PER")]]
    # Whatever the later piece says by itself, the first one has decided.
    assert decode(labels, [["S-LOC", "O"]], continues=[False, True]) == [[(0, 2, "LOC")]]


def test_the_tables_of_our_own_tags():
    scheme = bio_scheme(5)
    assert scheme.type_ids.tolist() == [-1, 0, 0, 1, 1]
    assert scheme.continued.tolist() == [0, 2, 2, 4, 4]
    assert scheme.begins[:, [1, 3]].all()
    assert not scheme.begins[:, 0].any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(("O", "B-PER", "O"), r"the label 'O' stands twice, as 0 and as 2", id="twice"),
        pytest.param(("O", "PER"), r"the label 1, 'PER', is unknown; expected O, an entity type behind", id="unknown"),
        pytest.param(("O", "B-"), r"the label 1, 'B-', is unknown", id="no type"),
        pytest.param(("B-PER", "I-PER"), r"the label O is missing", id="without O"),
        pytest.param(("O", "[PAD]", "X"), r"no label names an entity type", id="without types"),
        pytest.param((), r"the label O is missing; received none", id="empty"),
        pytest.param(("O", "B-A", "M-A", "I-A"), r"several schemes are mixed: B, I, M", id="mixed"),
        pytest.param(("O", "B-A", "X", "[##WordPiece]"), r"at most one label for the later pieces", id="pieces"),
    ],
)
def test_impossible_lists_are_refused(labels, message):
    with pytest.raises(LabelError, match=message):
        label_scheme(labels)


def test_every_type_of_a_mixed_list_is_closed_in_its_own_way():
    labels = ("O", *BIOES[:4], "B-LOC", "I-LOC")
    allowed = label_scheme(labels).allowed
    may_end = {label for index, label in enumerate(labels) if allowed[index, len(labels)]}
    assert may_end == {"O", "E-PER", "S-PER", "B-LOC", "I-LOC"}


@pytest.mark.parametrize(
    "written",
    [
        pytest.param(("I-LOC",), id="only I"),
        pytest.param(("E-LOC",), id="only E"),
        pytest.param(("I-LOC", "E-LOC"), id="I and E"),
        pytest.param(("M-LOC", "E-LOC"), id="M and E"),
    ],
)
def test_a_type_that_no_label_begins_is_refused(written):
    others = BMES[:4] if "M-LOC" in written else BIOES[:4]
    with pytest.raises(LabelError, match=f"^the type LOC has {' and '.join(written)}, with which no entity begins"):
        label_scheme(("O", *others, *written))


def test_iob1_has_no_other_prefixes():
    with pytest.raises(LabelError, match="IOB1 has the labels O, B- and I-; these have B, E, I, S"):
        label_scheme(("O", *BIOES), iob1=True)
