"""Entities of a text to the tags of its word pieces, in the graph.

An entity is *aligned* when a run of pieces begins and ends exactly where it does, so that a tagger can return it. Where
it reaches further than its pieces, over whitespace or dropped characters, the pieces are tagged all the same: that is
what the annotator meant, but the span that comes back differs, so the entity counts as unaligned. Where it begins or
ends inside a piece, no tag is right, and the pieces stay O. An entity of a type outside the tag list stays O as well.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from components.segments import segment_ids


class Alignment(NamedTuple):
    """Tags and what they cannot express, for a batch of texts.

    Attributes:
        tag_ids: int64 ragged [B, (T)], in the order of `components.tags.tag_names`.
        unaligned: int64 ragged [B, (U)], the indices of the unaligned entities of each text.
    """

    tag_ids: tf.RaggedTensor
    unaligned: tf.RaggedTensor


def align_entities(
    token_start: tf.RaggedTensor,
    token_end: tf.RaggedTensor,
    entity_start: tf.RaggedTensor,
    entity_end: tf.RaggedTensor,
    entity_type: tf.RaggedTensor,
) -> Alignment:
    """Gives each word piece its tag.

    Args:
        token_start: integer ragged [B, (T)], code points, ascending within a text.
        token_end: integer ragged [B, (T)], exclusive, ascending.
        entity_start: integer ragged [B, (E)], code points, in any order.
        entity_end: integer ragged [B, (E)], exclusive.
        entity_type: integer ragged [B, (E)], the index of the type in the sorted list of types, -1 if it is not there.
    """
    token_splits, entity_splits = token_start.row_splits, entity_start.row_splits
    token_row = tf.cast(segment_ids(token_splits), tf.int64)
    entity_row = tf.cast(segment_ids(entity_splits), tf.int64)
    piece_start, piece_end = (tf.cast(x.flat_values, tf.int64) for x in (token_start, token_end))
    start, end, type_id = (tf.cast(x.flat_values, tf.int64) for x in (entity_start, entity_end, entity_type))

    # One sorted key for all texts: row * stride + position, so that one binary search serves the whole batch.
    stride = tf.reduce_max(tf.concat([piece_end, start, end, [0]], 0)) + 1
    start_key = entity_row * stride + tf.maximum(start, 0)
    end_key = entity_row * stride + tf.maximum(end, 0)
    first = tf.raw_ops.UpperBound(
        sorted_inputs=[token_row * stride + piece_end], values=[start_key], out_type=tf.int64
    )[0]
    past = tf.raw_ops.LowerBound(sorted_inputs=[token_row * stride + piece_start], values=[end_key], out_type=tf.int64)[
        0
    ]

    # Of the entities that touch a piece, the index into all entities and the first and the last piece they touch.
    touching = tf.where(tf.less(first, past))[:, 0]
    first, last = tf.gather(first, touching), tf.gather(past, touching) - 1
    lead = tf.gather(piece_start, first) - tf.gather(start, touching)
    tail = tf.gather(end, touching) - tf.gather(piece_end, last)
    type_id = tf.gather(type_id, touching)
    tagged = tf.greater_equal(lead, 0) & tf.greater_equal(tail, 0) & tf.greater_equal(type_id, 0)
    exact = tagged & tf.equal(lead, 0) & tf.equal(tail, 0)

    tags = _tag_ids(
        first=tf.boolean_mask(first, tagged),
        last=tf.boolean_mask(last, tagged),
        type_id=tf.boolean_mask(type_id, tagged),
        pieces=tf.size(piece_start),
    )
    return Alignment(
        tag_ids=tf.RaggedTensor.from_row_splits(tags, token_splits, validate=False),
        unaligned=_others(tf.boolean_mask(touching, exact), entity_row, entity_splits),
    )


def _tag_ids(*, first: tf.Tensor, last: tf.Tensor, type_id: tf.Tensor, pieces: tf.Tensor) -> tf.Tensor:
    """Returns the tags, int64 [pieces]: B on the first and I on the other pieces of each entity."""
    splits, piece = tf.raw_ops.RaggedRange(starts=first, limits=last + 1, deltas=tf.constant(1, tf.int64))
    entity = segment_ids(splits)
    begin_tag = 1 + 2 * tf.gather(type_id, entity)
    tag = begin_tag + tf.cast(tf.not_equal(piece, tf.gather(first, entity)), tf.int64)
    # Entities of a checked corpus do not overlap; if they do, the result is still a tag.
    return tf.tensor_scatter_nd_max(tf.zeros([pieces], tf.int64), piece[:, tf.newaxis], tag)


def _others(indices: tf.Tensor, row: tf.Tensor, splits: tf.Tensor) -> tf.RaggedTensor:
    """Returns, within each row, the indices of the elements that are not among `indices`."""
    count = tf.size(row, out_type=tf.int64)
    listed = tf.math.unsorted_segment_sum(tf.ones_like(indices), indices, count)
    other = tf.where(tf.equal(listed, 0))[:, 0]
    other_row = tf.gather(row, other)
    lengths = tf.math.unsorted_segment_sum(tf.ones_like(other), other_row, tf.size(splits) - 1)
    return tf.RaggedTensor.from_row_splits(
        other - tf.gather(splits, other_row), tf.concat([[0], tf.cumsum(lengths)], 0), validate=False
    )
