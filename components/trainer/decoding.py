"""Decoding: the logits of a text's tokens become entities, in the graph, by legal label sequences only.

Axis letters: B texts, N tokens of all texts, K tags, M decoded units of all texts, E entities of all texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from components.tags import OUTSIDE, split_tag
from components.trainer.label_scheme import LabelScheme, bio_scheme

# Far below any difference of log-probabilities that a classifier produces, yet exact to add up in float32.
IMPOSSIBLE = -1e4


class Entities(NamedTuple):
    """Entities of a batch of texts, ragged [B, (E)], in the order of the texts.

    Attributes:
        start: int32, code points.
        end: int32, exclusive.
        type_id: int32, index into the entity types, which are sorted for our own tags.
        score: float32 in [0, 1], see `decode_entities`.
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

    log P(next | tag) / P(next), from counts with one added to each, relative to O after O, which is 0; the last row and
    column, start and end, are 0. A classifier that tags each token by itself finds "B-x B-x" where "B-x I-x" and
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
    padded = np.zeros([tag_count + 1, tag_count + 1], np.float32)
    padded[:tag_count, :tag_count] = scores - scores[0, 0]
    return padded


def decode_tags(
    log_probabilities: tf.Tensor,
    row_lengths: tf.Tensor,
    transitions: np.ndarray | None = None,
    scheme: LabelScheme | None = None,
) -> tf.Tensor:
    """Returns the legal tag sequence of each row with the greatest sum of log-probabilities and transitions: int32 [N].

    Args:
        log_probabilities: float32 [N, K], rows packed one after another.
        row_lengths: int32 [B], which may be 0; their sum is N.
        transitions: float32 [K+1, K+1], what the step from one tag to the next adds; the last index is start and end;
            None adds nothing.
        scheme: what the labels mean; None takes them for O, B-x, I-x, B-y, I-y, ..
    """
    tag_count = log_probabilities.shape[-1]
    scheme = bio_scheme(tag_count) if scheme is None else scheme
    # The kernel adds scores in float32. Relative to the best tag of each token nearly all of them are 0, so that sums
    # stay exact over 100,000 tokens.
    scores = log_probabilities - tf.reduce_max(log_probabilities, axis=-1, keepdims=True)
    # All rows are decoded as one sequence, an O between them, over which no entity reaches: padding to the longest
    # text would cost B times its length.
    token_count = tf.shape(scores)[0]
    row_of_token = tf.repeat(tf.range(tf.size(row_lengths)), row_lengths)
    slot = tf.range(token_count) + row_of_token  # [N] in [N+B]; one slot after each row stays free
    slot_count = token_count + tf.size(row_lengths)
    separator = tf.one_hot([scheme.outside_id], tag_count, on_value=0.0, off_value=IMPOSSIBLE)
    is_token = tf.scatter_nd(slot[:, tf.newaxis], tf.ones([token_count], tf.bool), [slot_count])
    spread = tf.scatter_nd(slot[:, tf.newaxis], tf.maximum(scores, IMPOSSIBLE), [slot_count, tag_count])
    spread = tf.where(is_token[:, tf.newaxis], spread, separator)
    tags = tf_text.viterbi_constrained_sequence(
        spread[tf.newaxis],
        [slot_count],
        allowed_transitions=scheme.allowed,
        transition_weights=transitions,
        use_log_space=True,
        use_start_and_end_states=True,
    )
    return tf.gather(tf.ensure_shape(tags.flat_values, [None]), slot)


def decode_entities(
    logits: tf.Tensor,
    start: tf.RaggedTensor,
    end: tf.RaggedTensor,
    continues_word: tf.Tensor | None = None,
    transitions: np.ndarray | None = None,
    scheme: LabelScheme | None = None,
) -> Entities:
    """Finds the entities of texts from the logits of their tokens.

    The tag sequence is the most probable legal one: with our own tags, I-x follows only B-x or I-x. An entity
    reaches from the start of its first token to the end of its last. Its score is the geometric mean, over its tokens,
    of the probability that the classifier gives to the token's tag: exp(1/n sum_i log softmax(logits_i)[tag_i]).

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
    """
    scheme = bio_scheme(logits.shape[-1]) if scheme is None else scheme
    log_probabilities = tf.nn.log_softmax(logits)  # [N, K]
    token_text = tf.cast(start.value_rowids(), tf.int32)  # [N]
    text_count = tf.cast(start.nrows(), tf.int32)
    token_count = tf.shape(logits)[0]

    is_first = tf.ones([token_count], tf.bool) if continues_word is None else tf.logical_not(continues_word)
    # The first token of a text begins a word whatever it says about itself.
    is_first |= tf.concat([[True], token_text[1:] != token_text[:-1]], axis=0)[:token_count]
    unit = tf.cumsum(tf.cast(is_first, tf.int32)) - 1  # [N]
    unit_count = tf.reduce_sum(tf.cast(is_first, tf.int32))
    # After its first token a word goes on inside, so the column of B-x holds the log-probability of I-x there.
    continued = tf.gather(log_probabilities, scheme.continued, axis=1)
    unit_scores = tf.math.unsorted_segment_sum(
        tf.where(is_first[:, tf.newaxis], log_probabilities, continued), unit, unit_count
    )  # [M, K]
    first_tokens = tf.where(is_first)[:, 0]  # [M]
    unit_text = tf.gather(token_text, first_tokens)
    tags = decode_tags(
        unit_scores, tf.math.bincount(unit_text, minlength=text_count, maxlength=text_count), transitions, scheme
    )  # [M]

    # What stands before the first unit of a text is the boundary, the last row of the table.
    follows = tf.concat([[False], unit_text[1:] == unit_text[:-1]], axis=0)[: tf.size(tags)]
    before = tf.where(follows, tf.roll(tags, 1, axis=0), len(scheme.labels))
    is_begin = tf.gather_nd(tf.constant(scheme.begins), tf.stack([before, tags], axis=1))
    type_ids = tf.gather(tf.constant(scheme.type_ids), tags)
    in_entity = type_ids >= 0
    entity_of_unit = tf.cumsum(tf.cast(is_begin, tf.int32)) - 1  # [M], right wherever in_entity holds
    entity_count = tf.reduce_sum(tf.cast(is_begin, tf.int32))
    begin_units = tf.where(is_begin)[:, 0]
    entity_text = tf.gather(unit_text, begin_units)

    token_in_entity = tf.gather(in_entity, unit)
    member_entity = tf.boolean_mask(tf.gather(entity_of_unit, unit), token_in_entity)
    member_end = tf.boolean_mask(tf.cast(end.flat_values, tf.int32), token_in_entity)
    tag_of_token = tf.gather(tags, unit)
    tag_of_token = tf.where(is_first, tag_of_token, tf.gather(tf.constant(scheme.continued), tag_of_token))
    chosen = tf.gather(log_probabilities, tag_of_token, axis=1, batch_dims=1)
    mean_log_probability = tf.math.unsorted_segment_mean(
        tf.boolean_mask(chosen, token_in_entity), member_entity, entity_count
    )

    def by_text(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_value_rowids(values, entity_text, nrows=text_count, validate=False)

    return Entities(
        start=by_text(tf.gather(tf.cast(start.flat_values, tf.int32), tf.gather(first_tokens, begin_units))),
        end=by_text(tf.math.unsorted_segment_max(member_end, member_entity, entity_count)),
        type_id=by_text(tf.gather(type_ids, begin_units)),
        score=by_text(tf.exp(mean_log_probability)),
    )
