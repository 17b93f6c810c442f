from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.decoding import (
    decode_entities,
    decode_tags,
    entity_types,
    transition_scores,
)
from components.trainer.label_scheme import bio_scheme

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def logits_of(names, *, strength=4.0):
    """Logits that favour the named tags; "B-LOC/I-PER" favours the first, then the second."""
    logits = np.zeros((len(names), len(TAGS)), np.float32)
    for row, name in enumerate(names):
        for rank, tag in enumerate(name.split("/")):
            logits[row, TAGS.index(tag)] = strength - rank
    return logits


def ragged(rows):
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([value for row in rows for value in row], tf.int32), [len(row) for row in rows]
    )


def decode(logits, rows_of_spans, continues_word=None, may_begin=None):
    start = ragged([[span[0] for span in row] for row in rows_of_spans])
    end = start.with_flat_values(tf.constant([span[1] for row in rows_of_spans for span in row], tf.int32))
    if continues_word is not None:
        continues_word = tf.constant(continues_word, tf.bool)
    if may_begin is not None:
        may_begin = tf.constant(may_begin, tf.bool)
    entities = decode_entities(tf.constant(logits), start, end, continues_word, may_begin=may_begin)
    types = entity_types(TAGS)
    return [
        [(s, e, types[t]) for s, e, t in zip(*row, strict=True)]
        for row in zip(*(part.to_list() for part in entities[:3]), strict=True)
    ]


def characters(*lengths):
    return [[(place, place + 1) for place in range(length)] for length in lengths]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param(["O", "O"], [], id="nothing"),
        pytest.param(["B-LOC", "I-LOC", "O"], [(0, 2, "LOC")], id="one entity"),
        pytest.param(["B-LOC", "B-LOC"], [(0, 1, "LOC"), (1, 2, "LOC")], id="two that touch"),
        pytest.param(["B-LOC", "I-LOC", "B-PER", "I-PER"], [(0, 2, "LOC"), (2, 4, "PER")], id="two types that touch"),
        pytest.param(["O", "O", "B-PER"], [(2, 3, "PER")], id="at the end"),
        pytest.param(["O/B-LOC", "I-LOC", "I-LOC"], [(0, 3, "LOC")], id="a missing beginning is mended"),
        pytest.param(["B-LOC", "I-PER/I-LOC"], [(0, 2, "LOC")], id="types do not change inside"),
    ],
)
def test_entities_of_one_text(tags, expected):
    assert decode(logits_of(tags), characters(len(tags))) == [expected]


@pytest.mark.parametrize(
    ("lengths", "tags", "expected"),
    [
        pytest.param([], [], [], id="no texts"),
        pytest.param([0, 0], [], [[], []], id="no tokens"),
        pytest.param([1, 1], ["B-LOC", "I-LOC/B-LOC"], [[(0, 1, "LOC")], [(0, 1, "LOC")]], id="no entity over two"),
        pytest.param([0, 2, 0], ["B-PER", "I-PER"], [[], [(0, 2, "PER")], []], id="between empty texts"),
    ],
)
def test_entities_of_several_texts(lengths, tags, expected):
    assert decode(logits_of(tags).reshape(-1, len(TAGS)), characters(*lengths)) == expected


def test_offsets_are_those_of_first_and_last_token():
    assert decode(logits_of(["O", "B-PER", "I-PER"]), [[(0, 3), (4, 9), (12, 15)]]) == [[(4, 15, "PER")]]


@pytest.mark.parametrize(
    ("continues", "tags", "expected"),
    [
        pytest.param([False, True], ["B-LOC", "O"], [(0, 2, "LOC")], id="a word is not cut by a weaker O"),
        pytest.param([False, True], ["O", "B-LOC/I-LOC"], [], id="no entity begins inside a word"),
        pytest.param([False, True, False], ["B-PER", "I-PER", "I-PER"], [(0, 3, "PER")], id="over two words"),
        pytest.param([False, True, False], ["B-PER", "I-PER", "O"], [(0, 2, "PER")], id="ends with the word"),
        pytest.param([True, False], ["B-PER", "O"], [(0, 1, "PER")], id="the first token begins a word anyway"),
    ],
)
def test_whole_words(continues, tags, expected):
    logits = logits_of(tags)
    if tags == ["B-LOC", "O"]:
        logits[1] /= 4  # weaker than the first piece
    assert decode(logits, characters(len(tags)), continues) == [expected]


@pytest.mark.parametrize(
    ("may_begin", "continues", "tags", "expected"),
    [
        pytest.param([True, False], None, ["O", "B-LOC"], [], id="no entity begins there"),
        pytest.param([True, False, False], None, ["O", "O", "I-LOC/B-LOC"], [], id="none is mended there"),
        pytest.param([True, False], None, ["B-LOC", "I-LOC"], [(0, 2, "LOC")], id="one goes on there"),
        pytest.param([True, False], None, ["B-LOC", "B-LOC/I-LOC"], [(0, 2, "LOC")], id="one goes on instead"),
        pytest.param([True, False], None, ["B-LOC", "B-PER/O"], [(0, 1, "LOC")], id="none of another type"),
        pytest.param([False, False], None, ["B-LOC", "B-PER"], [], id="none at all"),
        pytest.param([True, False, False], [False, True, False], ["O", "O", "B-LOC"], [], id="of words"),
        pytest.param([True, True, False], [False, False, True], ["O", "B-LOC", "I-LOC"], [(1, 3, "LOC")], id="a word"),
    ],
)
def test_entities_begin_where_they_may(may_begin, continues, tags, expected):
    assert decode(logits_of(tags), characters(len(tags)), continues, may_begin) == [expected]


def test_the_score_counts_only_sequences_whose_entities_begin_where_they_may():
    logits = np.random.default_rng(1).normal(size=(3, len(TAGS))).astype(np.float32)
    logits[0, 1] += 3
    start = ragged([[0, 1, 2]])
    entities = decode_entities(tf.constant(logits), start, start + 1, may_begin=tf.constant([True, False, True]))
    assert (entities.start.to_list()[0][0], entities.type_id.to_list()[0][0]) == (0, 0)
    end = entities.end.to_list()[0][0]
    marking, everything = 0.0, 0.0
    for tags in filter(is_legal, itertools.product(range(len(TAGS)), repeat=3)):
        if tags[1] % 2 == 1:
            continue
        weight = np.exp(sum(logits[place, tag] for place, tag in enumerate(tags)))
        everything += weight
        if tags[:end] == (1, 2, 2)[:end] and (end == 3 or tags[end] != 2):
            marking += weight
    assert entities.score.to_list()[0][0] == pytest.approx(marking / everything, rel=1e-5)


def test_where_no_entity_may_begin_numbers_that_are_none_change_nothing():
    logits = logits_of(["O", "O"])
    logits[1] = np.nan
    assert decode(logits, characters(2), may_begin=[True, False]) == [[]]


def test_the_scores_of_a_long_run_without_beginnings_stay_in_their_text():
    # All tokens of the first text but the first look like the inside of an entity, which nothing begins.
    logits = np.concatenate([logits_of(["O"], strength=190), logits_of(["I-LOC"] * 3000, strength=0.06)])
    logits = np.concatenate([logits, logits_of(["B-LOC", "O", "O"])])
    may_begin = tf.constant([True] + [False] * 3000 + [True] * 3)
    start = ragged([[*range(3001)], [0, 1, 2]])
    together = decode_entities(tf.constant(logits), start, start + 1, may_begin=may_begin)
    alone = decode_entities(tf.constant(logits[-3:]), start[1:], start[1:] + 1, may_begin=may_begin[-3:])
    assert together.start.to_list() == [[], [0]]
    assert together.score.to_list()[1] == pytest.approx(alone.score.to_list()[0])


def is_legal(tags):
    return all(tag % 2 or tag == 0 or before in (tag - 1, tag) for before, tag in zip((0, *tags), tags, strict=False))


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_sequence_is_the_best_legal_one(lengths, seed):
    scores = np.random.default_rng(seed).normal(size=(sum(lengths), len(TAGS))).astype(np.float32) * 3
    log_probabilities = tf.nn.log_softmax(scores)
    tags = decode_tags(log_probabilities, tf.constant(lengths, tf.int32)).numpy()
    first = 0
    for length in lengths:
        row = log_probabilities.numpy()[first : first + length]
        candidates = filter(is_legal, itertools.product(range(len(TAGS)), repeat=length))
        best = max(sum(row[place, tag] for place, tag in enumerate(tags)) for tags in candidates)
        found = tags[first : first + length].tolist()
        assert is_legal(found)
        assert sum(row[place, tag] for place, tag in enumerate(found)) == pytest.approx(best, abs=1e-4)
        first += length


def test_transitions_join_what_the_classifier_splits():
    # Both characters look like the beginning of an entity, as those of an unseen name do.
    logits = logits_of(["B-PER/I-PER", "B-PER/I-PER"])
    assert decode(logits, characters(2)) == [[(0, 1, "PER"), (1, 2, "PER")]]
    transitions = np.zeros((6, 6), np.float32)
    transitions[3, 4] = 2.0
    start = ragged([[0, 1]])
    entities = decode_entities(tf.constant(logits), start, start + 1, None, transitions)
    assert (entities.start.to_list(), entities.end.to_list()) == ([[0]], [[2]])


def test_transition_scores_are_relative_frequencies():
    # Two texts, O O B I and O: the step from I to O does not count, a text ends between them.
    scores = transition_scores(np.array([0, 0, 1, 2, 0]), np.array([0, 4, 4, 5]), 3)
    pairs = np.array([[2, 2, 1], [1, 1, 2], [1, 1, 1]])  # one added to each
    expected = np.log(pairs / pairs.sum(axis=1, keepdims=True)) - np.log(pairs.sum(axis=0) / pairs.sum())
    np.testing.assert_allclose(scores[:3, :3], expected - expected[0, 0], atol=1e-6)
    # Before and after a text it is as if there were an O.
    np.testing.assert_array_equal(scores[3], scores[0])
    np.testing.assert_array_equal(scores[:, 3], scores[:, 0])


def test_a_text_is_decoded_alike_alone_and_after_100_000_tokens():
    generator = np.random.default_rng(1)
    long = generator.normal(size=(100_000, len(TAGS))).astype(np.float32)
    # A near tie after a long text: sums in float32 must still tell its sides apart.
    short = logits_of(["O/B-LOC", "I-LOC"])
    short[0, 0] = short[0, 1] + 1.0
    short[1, 0] = short[1, 2] - 1.0001
    alone = decode_tags(tf.nn.log_softmax(short), tf.constant([2])).numpy().tolist()
    after = (
        decode_tags(tf.nn.log_softmax(np.concatenate([long, short])), tf.constant([100_000, 2])).numpy()[-2:].tolist()
    )
    assert alone == after == [1, 2]


def test_logits_that_are_no_numbers_raise_nothing_and_stay_in_their_text():
    logits = logits_of(["B-LOC", "I-LOC", "O", "B-PER"])
    both = np.concatenate([np.full_like(logits, np.nan), logits])
    assert decode(both, characters(4, 4))[1] == [(0, 2, "LOC"), (3, 4, "PER")]
    start = ragged([range(4), range(4)])
    score = decode_entities(tf.constant(both), start, start + 1).score.flat_values
    assert np.all((score > 0) & (score <= 1))


def test_the_score_is_the_share_of_the_legal_sequences_that_mark_the_entity():
    logits = np.log(np.array([[0.1, 0.8, 0.05, 0.03, 0.02], [0.2, 0.1, 0.6, 0.06, 0.04]], np.float32))
    start = ragged([[0, 1]])
    entities = decode_entities(tf.constant(logits), start, start + 1)
    # O, B-LOC or B-PER, then O or B; I-LOC after B-LOC only, I-PER after B-PER only.
    legal = (0.1 + 0.8 + 0.03) * (0.2 + 0.1 + 0.06) + 0.8 * 0.6 + 0.03 * 0.04
    assert entities.score.to_list() == [[pytest.approx(0.8 * 0.6 / legal, abs=1e-6)]]


def test_transitions():
    allowed = bio_scheme(5).allowed
    pairs = {(TAGS[i], TAGS[j]) for i in range(5) for j in range(5) if not allowed[i, j]}
    assert pairs == {(before, f"I-{name}") for name in ("LOC", "PER") for before in TAGS if name not in before}
    assert [TAGS[j] for j in range(5) if allowed[5, j]] == ["O", "B-LOC", "B-PER"]


@pytest.mark.parametrize("tags", [("O",), ("B-LOC", "I-LOC", "O"), ("O", "I-LOC", "B-LOC"), ()])
def test_another_order_of_tags_is_refused(tags):
    with pytest.raises(ValueError, match="expected the tags O, then B- and I- of each entity type"):
        entity_types(tags)


_MANY_TEXTS = """
import resource
import numpy as np
import tensorflow as tf
from components.trainer.decoding import decode_entities

specs = [tf.TensorSpec([None, 5]), tf.RaggedTensorSpec([None, None], tf.int32, 1)]
decode = tf.function(lambda logits, start: decode_entities(logits, start, start + 1).score.flat_values, specs)

def peak(lengths):
    count = sum(lengths)
    logits = np.tile(np.array([9, 0, 0, 0, 0], np.float32), [count, 1])
    decode(tf.constant(logits), tf.RaggedTensor.from_row_lengths(tf.range(count), lengths))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

few = peak([50_000, 1])
print(peak([50_000] + [1] * 4000) - few)
"""


def test_memory_grows_with_the_sum_of_the_texts_and_not_with_their_number_times_the_longest():
    finished = subprocess.run([sys.executable, "-c", _MANY_TEXTS], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    # 4001 x 50,000 places of 5 bytes are 1000 MB.
    assert int(finished.stdout.split()[-1]) < 300
