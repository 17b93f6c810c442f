"""Decoding: the logits of a text's tokens become entities, in the graph, by legal label sequences only.

Axis letters: B texts, N tokens of all texts, K tags, M decoded units of all texts, E entities of all texts, S states of
the chain: the tags and the boundary of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.segments import segment_ids
from components.tags import OUTSIDE, split_tag
from components.trainer.label_scheme import LabelScheme, bio_scheme
from components.trainer.linear_chain import IMPOSSIBLE, Messages, Transitions, best_path, lay_out, sum_paths


class Entities(NamedTuple):
    """Entities of a batch of texts, ragged [B, (E)], in the order of the texts.

    Attributes:
        start: int32, code points.
        end: int32, exclusive.
        type_id: int32, index into the entity types, which are sorted for our own tags.
        score: float32 in (0, 1], see `decode_entities`.
    """

    start: tf.RaggedTensor
    end: tf.RaggedTensor
    type_id: tf.RaggedTensor
    score: tf.RaggedTensor


def entity_types(tags: Sequence[str]) -> tuple[str, ...]:
    """Returns the types of a tag list O, B-x, I-x, B-y, I-y, ..

    Raises:
        ValueError: the list has another order, on which the arithmetic of the decoder relies.
    """
    types = tuple(split_tag(tag)[1] for tag in tags[1::2])
    expected = (OUTSIDE, *(f"{prefix}-{name}" for name in types for prefix in "BI"))
    if not types or tuple(tags) != expected:
        raise ValueError(
            f"expected the tags O, then B- and I- of each entity type; received {', '.join(tags) or 'none'}"
        )
    return types


def transition_scores(tag_ids: np.ndarray, row_splits: np.ndarray, tag_count: int) -> np.ndarray:
    """Returns how much more often one tag follows another than it occurs: float32 [K+1, K+1], see `decode_tags`.

    log P(next | tag) / P(next), from counts with one added to each, relative to O after O, which is 0. Start and end,
    the last row and column, count as O. A classifier that tags each token by itself finds "B-x B-x" where "B-x I-x" and
    "B-x O" are both likely; the counts tell that entities of one type seldom touch.

    Args:
        tag_ids: int [tokens], tags of all training texts, one after another.
        row_splits: int [texts + 1], where texts begin and end.
        tag_count: number K of tags.
    """
    inside_text = np.ones(len(tag_ids), dtype=bool)
    inside_text[row_splits[:-1][row_splits[:-1] < len(tag_ids)]] = False
    pairs = np.ones([tag_count, tag_count])
    followers = np.flatnonzero(inside_text)
    np.add.at(pairs, (tag_ids[followers - 1], tag_ids[followers]), 1)
    following = pairs / pairs.sum(axis=1, keepdims=True)
    scores = np.log(following) - np.log(pairs.sum(axis=0) / pairs.sum())
    with_boundary = [*range(tag_count), 0]
    return (scores - scores[0, 0])[np.ix_(with_boundary, with_boundary)].astype(np.float32)


class Units(NamedTuple):
    """What is decoded: words where entities are whole words, else tokens.

    Attributes:
        scores: float32 [M, K], the sum of the log-probabilities of the unit's tokens.
        of_token: int32 [N], the unit of each token.
    """

    scores: tf.Tensor
    of_token: tf.Tensor


def gather_units(log_probabilities: tf.Tensor, is_first: tf.Tensor, scheme: LabelScheme) -> Units:
    """Adds up the log-probabilities of the tokens of each unit.

    Args:
        log_probabilities: float32 [N, K].
        is_first: bool [N], the token is the first one of its unit.
        scheme: what the labels mean.
    """
    ones = tf.cast(is_first, tf.int32)
    of_token = tf.cumsum(ones) - 1
    # After its first token a word goes on inside, so the column of B-x holds the log-probability of I-x there.
    continued = tf.gather(log_probabilities, scheme.continued, axis=1)
    scores = tf.math.unsorted_segment_sum(
        tf.where(is_first[:, tf.newaxis], log_probabilities, continued), of_token, tf.reduce_sum(ones)
    )
    return Units(tf.ensure_shape(scores, [None, len(scheme.labels)]), of_token)


def chain_transitions(scheme: LabelScheme, scores: np.ndarray | tf.Tensor | None) -> Transitions:
    """Returns what the steps between K labels and the boundary of texts add.

    Args:
        scheme: what the labels mean, and which may follow which.
        scores: float32 [K+1, K+1], see `decode_tags`.
    """
    count = len(scheme.labels) + 1
    allowed = scheme.allowed.copy()
    allowed[-1, -1] = True  # an empty text
    if scores is None:
        return Transitions(tf.zeros([count, count]), allowed)
    return Transitions(
        tf.cast(scores, tf.float32) * (1.0 - tf.scatter_nd([[count - 1] * 2], [1.0], [count] * 2)), allowed
    )


def decode_tags(
    log_probabilities: tf.Tensor,
    row_lengths: tf.Tensor,
    transitions: np.ndarray | tf.Tensor | None = None,
    scheme: LabelScheme | None = None,
) -> tf.Tensor:
    """Returns the legal tag sequence of each row with the greatest sum of log-probabilities and transitions: int32 [M].

    Args:
        log_probabilities: float32 [M, K], rows packed one after another.
        row_lengths: int32 [B], which may be 0; their sum is M.
        transitions: float32 [K+1, K+1], what the step from one tag to the next adds; the last index is start and end;
            None adds nothing.
        scheme: what the labels mean; None takes them for O, B-x, I-x, B-y, I-y, ..
    """
    boundary = log_probabilities.shape[-1]
    scheme = bio_scheme(boundary) if scheme is None else scheme
    slots = lay_out(log_probabilities, row_lengths)
    path = best_path(slots.emissions, chain_transitions(scheme, transitions), boundary)
    return tf.gather(path, slots.unit_slot)


def decode_entities(
    logits: tf.Tensor,
    start: tf.RaggedTensor,
    end: tf.RaggedTensor,
    continues_word: tf.Tensor | None = None,
    transitions: np.ndarray | tf.Tensor | None = None,
    scheme: LabelScheme | None = None,
    temperature: float | tf.Tensor = 1.0,
    *,
    may_begin: tf.Tensor | None = None,
) -> Entities:
    """Finds the entities of texts from the logits of their tokens.

    The tag sequence is the most probable legal one: with our own tags, I-x follows only B-x or I-x. An entity
    reaches from the start of its first token to the end of its last. Its score is the probability of exactly this
    entity: the share of all legal tag sequences of its text that mark it, each weighted with
    exp((sum of log-probabilities and transitions) / temperature).

    Args:
        logits: float32 [N, K], tokens of all texts.
        start: int32 [B, (tokens)], code points.
        end: int32 [B, (tokens)], exclusive.
        continues_word: bool [N], the token continues the word of the token before it. Tokens of one word then get one
            entity or none: their log-probabilities are added up, of O, of I-x, or of B-x followed by I-x. None lets
            entities begin and end at every token. If later pieces of words have a label of their own, the first
            piece alone decides.
        transitions: see `decode_tags`.
        scheme: see `decode_tags`.
        temperature: float32 [], above 0; it changes the scores and never the entities.
        may_begin: bool [N], an entity may begin at the token, as at the first of each text; None lets it begin
            everywhere. It acts on labels that begin an entity wherever they stand, as B-x does.
    """
    boundary = logits.shape[-1]
    scheme = bio_scheme(boundary) if scheme is None else scheme
    token_text = segment_ids(start.row_splits)  # [N]
    text_count = tf.cast(start.nrows(), tf.int32)
    token_count = tf.shape(logits)[0]

    is_first = tf.ones([token_count], tf.bool) if continues_word is None else tf.logical_not(continues_word)
    # The first token of a text begins a word whatever it says about itself.
    is_first |= tf.concat([[True], token_text[1:] != token_text[:-1]], axis=0)[:token_count]
    units = gather_units(tf.nn.log_softmax(logits), is_first, scheme)
    first_tokens = tf.where(is_first)[:, 0]  # [M]
    unit_text = tf.gather(token_text, first_tokens)
    scores = units.scores
    if may_begin is not None:
        forbidden = scheme.begins.all(axis=0) & ~tf.gather(may_begin, first_tokens)[:, tf.newaxis]  # [M, K]
        # A model served in float16 may overflow; of such a unit `lay_out` would forget what is forbidden.
        scores = tf.where(forbidden, IMPOSSIBLE, tf.where(tf.math.is_nan(scores), 0.0, scores))
    slots = lay_out(scores, tf.math.bincount(unit_text, minlength=text_count, maxlength=text_count))
    steps = chain_transitions(scheme, transitions)
    path = best_path(slots.emissions, steps, boundary)  # [N + B + 1]
    tags = tf.gather(path, slots.unit_slot)  # [M]

    is_begin = tf.gather_nd(tf.constant(scheme.begins), tf.stack([tf.gather(path, slots.unit_slot - 1), tags], axis=1))
    type_ids = tf.gather(tf.constant(scheme.type_ids), tags)
    entity_of_unit = tf.cumsum(tf.cast(is_begin, tf.int32)) - 1  # [M], right wherever a unit is in an entity
    begin_units = tf.where(is_begin)[:, 0]
    entity_text = tf.gather(unit_text, begin_units)
    member_units = tf.where(type_ids >= 0)[:, 0]
    last_units = tf.math.unsorted_segment_max(
        tf.cast(member_units, tf.int32), tf.gather(entity_of_unit, member_units), tf.size(begin_units)
    )
    # A unit ends where its last token does.
    unit_ends = tf.math.unsorted_segment_max(tf.cast(end.flat_values, tf.int32), units.of_token, tf.size(tags))
    score = _span_probabilities(
        sum_paths(slots.emissions, steps, path, boundary, temperature),
        path,
        tf.gather(slots.unit_slot, begin_units),
        tf.gather(slots.unit_slot, last_units),
        scheme,
    )

    def by_text(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_value_rowids(values, entity_text, nrows=text_count, validate=False)

    return Entities(
        start=by_text(tf.gather(tf.cast(start.flat_values, tf.int32), tf.gather(first_tokens, begin_units))),
        end=by_text(tf.gather(unit_ends, last_units)),
        type_id=by_text(tf.gather(type_ids, begin_units)),
        score=by_text(score),
    )


def _span_probabilities(
    messages: Messages, path: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, scheme: LabelScheme
) -> tf.Tensor:
    """Returns the probability of each entity of the best path: float32 [E] in (0, 1].

    All that leads to a beginning in its first slot, times the path to its last, times all that leads on from there
    without continuing it, over the sum of all paths. Only the label of its first slot is not given by the entity: in
    IOB1 it may be B-x as well as I-x.

    Args:
        messages: with `path` as the reference, relative to which the path inside an entity contributes 1.
        path: int32 [N].
        begin: int32 [E], first slots.
        end: int32 [E], last slots.
        scheme: what the labels mean.
    """
    type_ids = np.append(scheme.type_ids, -1)
    begins = np.pad(scheme.begins, [[0, 0], [0, 1]])  # [S, S]
    continues = (type_ids[:, np.newaxis] == type_ids) & (type_ids >= 0) & ~begins
    zero = tf.zeros([], tf.float64)
    entering = tf.where(begins, messages.weights, zero)
    going_on = tf.where(continues, messages.weights, zero)
    leaving = messages.weights - going_on

    def factor(slot: tf.Tensor) -> tf.Tensor:
        return tf.gather(messages.step_factors, slot)[:, tf.newaxis]

    first_tags, last_tags = tf.gather(path, begin), tf.gather(path, end)
    same_type = tf.equal(tf.gather(type_ids, first_tags)[:, tf.newaxis], type_ids)  # [E, S]
    before = tf.gather(messages.forward, begin - 1)
    start = tf.matmul(before, entering) * factor(begin - 1) * tf.gather(messages.emission_factors, begin)
    leave = tf.matmul(tf.gather(messages.backward, end + 1), leaving, transpose_b=True) * factor(end)
    go_on = tf.gather(tf.transpose(going_on), tf.gather(path, begin + 1)) * factor(begin)
    go_on *= tf.gather(leave, last_tags, axis=1, batch_dims=1)[:, tf.newaxis]
    rest = tf.where(tf.equal(begin, end)[:, tf.newaxis], leave, go_on)
    spans = tf.reduce_sum(tf.where(same_type, start * rest, zero), axis=1)

    onward = tf.matmul(tf.gather(messages.backward, begin), messages.weights, transpose_b=True) * factor(begin - 1)
    everything = tf.reduce_sum(before * onward, axis=1)
    log_scale = tf.gather(messages.backward_log_scale, end + 1) - tf.gather(messages.backward_log_scale, begin)
    probability = tf.exp(tf.math.log(spans) - tf.math.log(everything) + log_scale)
    # No trained model has such scores, but a number that is none would be passed on to users.
    probability = tf.where(tf.math.is_finite(probability), probability, zero)
    return tf.clip_by_value(tf.cast(probability, tf.float32), np.finfo(np.float32).tiny, 1.0)
