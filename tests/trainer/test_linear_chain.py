"""Probabilities of spans and sums over paths, against all paths written out and against NumPy in log space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp

from components.tags import Scheme, entities_from_tags
from components.trainer.decoding import decode_entities
from components.trainer.label_scheme import LabelScheme, label_scheme

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SCHEMES = {
    "BIO": (BIO, "BIO", False),
    "BIO with special labels": (("[PAD]", "B-PER", "I-PER", "X", "O", "[CLS]"), "BIO", False),
    "IOB1": (BIO, "IOB1", True),
    "IOB1 without B": (("I-LOC", "O", "I-PER"), "IOB1", False),
    "BIOES": (("O", "S-PER", "B-PER", "I-PER", "E-PER"), "BIOES", False),
    "BMES": (("B-PER", "M-PER", "E-PER", "S-PER", "O", "X"), "BMES", False),
    "BIOES without S": (("O", "B-PER", "I-PER", "E-PER"), "BIOES", False),
    "BIOES without E": (("O", "B-PER", "I-PER", "S-PER"), "BIOES", False),
}


def decode(logits, lengths, transitions, scheme, *, continues=None, temperature=1.0):
    """Returns the entities of each text as {(start, end, type): score}, offsets in tokens."""
    start = tf.RaggedTensor.from_row_lengths(tf.range(0, sum(lengths)), lengths)
    start -= tf.cast(start.row_starts(), tf.int32)[:, tf.newaxis]
    continues = None if continues is None else tf.constant(continues)
    found = decode_entities(tf.constant(logits), start, start + 1, continues, transitions, scheme, temperature)
    rows = zip(*(part.to_list() for part in found), strict=True)
    return [{(s, e, scheme.types[t]): score for s, e, t, score in zip(*row, strict=True)} for row in rows]


def unit_scores(logits, is_first, scheme: LabelScheme):
    """Returns the units' scores, float64 [M, K], and the first token of each unit and the end of the last."""
    log_probabilities = logits - logsumexp(logits, axis=1, keepdims=True)
    firsts = np.flatnonzero(is_first)
    rows = [
        log_probabilities[first] + log_probabilities[first + 1 : end, scheme.continued].sum(axis=0)
        for first, end in itertools.pairwise([*firsts, len(logits)])
    ]
    return np.array(rows).reshape(-1, logits.shape[1]), [*firsts, len(logits)]


def written_out(scores, places, transitions, scheme: LabelScheme, written: Scheme):
    """Returns the probability of every span, from all legal label sequences of one text."""
    as_tags = [label if scheme.type_ids[i] >= 0 else "O" for i, label in enumerate(scheme.labels)]
    boundary = len(as_tags)
    weights, spans = [], []
    for labels in itertools.product(range(boundary), repeat=len(scores)):
        steps = list(itertools.pairwise((boundary, *labels, boundary)))
        if labels and not all(scheme.allowed[step] for step in steps):
            continue
        emissions = sum(scores[place, label] for place, label in enumerate(labels))
        weights.append(emissions + sum(transitions[step] for step in steps if step != (boundary, boundary)))
        tags = [as_tags[label] for label in labels]
        spans.append({(places[a], places[b], name) for a, b, name in entities_from_tags(tags, written)})
    probabilities = np.exp(np.array(weights) - logsumexp(weights))
    found = {}
    for probability, entities in zip(probabilities, spans, strict=True):
        for entity in entities:
            found[entity] = found.get(entity, 0.0) + probability
    return found


@pytest.mark.parametrize("name", SCHEMES)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
    whole_words=st.booleans(),
    temperature=st.sampled_from([0.5, 1.0, 3.0]),
)
@settings(max_examples=12)
def test_a_score_is_the_share_of_the_sequences_that_mark_the_entity(name, lengths, seed, whole_words, temperature):
    labels, written, iob1 = SCHEMES[name]
    scheme = label_scheme(labels, iob1=iob1)
    generator = np.random.default_rng(seed)
    logits = (3 * generator.normal(size=(sum(lengths), len(labels)))).astype(np.float32)
    transitions = generator.normal(size=(len(labels) + 1, len(labels) + 1)).astype(np.float32)
    continues = generator.random(sum(lengths)) < 0.3 if whole_words else None
    found = decode(logits, lengths, transitions, scheme, continues=continues, temperature=temperature)
    first = 0
    for length, entities in zip(lengths, found, strict=True):
        is_first = np.ones(length, bool) if continues is None else ~continues[first : first + length]
        is_first[:1] = True
        scores, places = unit_scores(logits[first : first + length].astype(np.float64), is_first, scheme)
        expected = written_out(scores / temperature, places, transitions / temperature, scheme, written)
        assert entities == pytest.approx({span: expected[span] for span in entities}, rel=1e-5)
        assert all(0 < score <= 1 for score in entities.values())
        assert sum(entities.values()) <= sum(expected.values()) + 1e-6
        first += length


def in_log_space(scores, transitions, scheme: LabelScheme):
    """Forward and backward messages of one text with BIO labels, float64 [M, K], and log Z."""
    with np.errstate(divide="ignore"):
        steps = transitions.astype(np.float64) + np.log(scheme.allowed.astype(np.float64))
    inner, count = steps[:-1, :-1], len(scores)
    forward, backward = np.empty_like(scores), np.empty_like(scores)
    forward[0] = steps[-1, :-1] + scores[0]
    for place in range(1, count):
        forward[place] = logsumexp(forward[place - 1][:, np.newaxis] + inner, axis=0) + scores[place]
    backward[-1] = steps[:-1, -1]
    for place in reversed(range(count - 1)):
        backward[place] = logsumexp(inner + (scores[place + 1] + backward[place + 1]), axis=1)
    return forward, backward, logsumexp(forward[-1] + backward[-1])


@pytest.mark.parametrize(
    ("length", "strength"),
    [
        pytest.param(31, 5.0, id="one block"),
        pytest.param(32, 5.0, id="two blocks by a hair"),
        pytest.param(700, 0.0, id="uniform"),
        pytest.param(700, 1.0, id="undecided"),
        pytest.param(3000, 8.0, id="usual"),
        pytest.param(3000, 60.0, id="certain"),
    ],
)
def test_scores_of_long_texts(length, strength):
    scheme = label_scheme(BIO)
    generator = np.random.default_rng(length)
    logits = generator.normal(size=(length, len(BIO))).astype(np.float32)
    # Runs of one tag, and steps that are illegal.
    runs = np.repeat(generator.integers(0, len(BIO), length), generator.integers(1, 40, length))[:length]
    logits[np.arange(length), runs] += np.float32(strength)
    transitions = generator.normal(size=(6, 6)).astype(np.float32)
    (found,) = decode(logits, [length], transitions, scheme)
    scores = logits - logsumexp(logits, axis=1, keepdims=True)
    forward, backward, log_sum = in_log_space(scores.astype(np.float64), transitions, scheme)
    assert found
    for (start, end, name), score in found.items():
        begin, inside = 1 + 2 * scheme.types.index(name), 2 + 2 * scheme.types.index(name)
        tags = [begin] + [inside] * (end - start - 1)
        onto = forward[start, begin]
        path = sum(scores[start + 1 + i, tag] + transitions[tags[i], tag] for i, tag in enumerate(tags[1:]))
        # All that goes on from the last tag but its own continuation.
        last = tags[-1]
        away = np.array([transitions[last, -1]])
        if end < length:
            followers = [tag for tag in range(len(BIO)) if scheme.allowed[last, tag] and tag != inside]
            away = np.array([transitions[last, tag] + scores[end, tag] + backward[end, tag] for tag in followers])
        assert score == pytest.approx(np.exp(onto + path + logsumexp(away) - log_sum), rel=2e-4, abs=1e-30)


@pytest.mark.parametrize("strength", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("weight", [0.0, 10.0])
def test_extreme_logits_give_probabilities(strength, weight):
    generator = np.random.default_rng(5)
    logits = (strength * generator.normal(size=(400, len(BIO)))).astype(np.float32)
    transitions = (weight * 10 * generator.normal(size=(6, 6))).astype(np.float32)
    texts = decode(logits, [150, 0, 250], transitions, label_scheme(BIO), continues=generator.random(400) < 0.5)
    scores = [score for text in texts for score in text.values()]
    assert scores
    assert all(0 < score <= 1 for score in scores)


def test_scores_do_not_depend_on_the_batch():
    scheme = label_scheme(BIO)
    lengths = [3, 0, 70, 1, 33, 31, 40]
    logits = 3 * np.random.default_rng(2).normal(size=(sum(lengths), len(BIO))).astype(np.float32)
    transitions = np.random.default_rng(3).normal(size=(6, 6)).astype(np.float32)
    together = decode(logits, lengths, transitions, scheme)
    ends = np.cumsum(lengths)
    for length, end, entities in zip(lengths, ends, together, strict=True):
        (alone,) = decode(logits[end - length : end], [length], transitions, scheme)
        assert alone == pytest.approx(entities, rel=1e-5)


def test_a_temperature_changes_scores_and_no_entity():
    scheme = label_scheme(BIO)
    logits = 4 * np.random.default_rng(4).normal(size=(60, len(BIO))).astype(np.float32)
    transitions = np.random.default_rng(5).normal(size=(6, 6)).astype(np.float32)
    (cold,), (warm,) = (decode(logits, [60], transitions, scheme, temperature=t) for t in (1.0, 4.0))
    assert cold.keys() == warm.keys()
    assert np.mean(list(warm.values())) < np.mean(list(cold.values()))
