"""The loss: cross-entropy over real tokens, or over all positions of a padded batch, as the seed took it."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# Marks positions without a loss: [CLS], [SEP], tokens whose tag counts in another window, and those that do not count.
NO_TAG = -1

# What google-research's code appends to token ids, and the tag O.
_PADDING_ID = 0
_OUTSIDE_ID = 0


class PaddedRows(NamedTuple):
    """Rows at full length, one after another.

    Attributes:
        token_ids: int32 [B * S].
        row_lengths: int32 [B], S each.
        attended_lengths: int32 [B], the real length of each row: padding attends, but is not attended to.
        tag_ids: int32 [B * S], O at [CLS], [SEP] and padding.
    """

    token_ids: tf.Tensor
    row_lengths: tf.Tensor
    attended_lengths: tf.Tensor
    tag_ids: tf.Tensor


def pad_rows(token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor, *, length: int) -> PaddedRows:
    """Pads packed rows to one length for the seed's loss, which counts what the model says of padding.

    Args:
        token_ids: int32 [N], rows one after another.
        row_lengths: int32 [B], none above `length`.
        tag_ids: int32 [N], `NO_TAG` at [CLS] and [SEP].
        length: the length S of every row.
    """

    def padded(values: tf.Tensor, padding: int) -> tf.Tensor:
        rows = tf.RaggedTensor.from_row_lengths(values, row_lengths, validate=False)
        return tf.reshape(rows.to_tensor(padding, shape=[None, length]), [-1])

    return PaddedRows(
        token_ids=padded(token_ids, _PADDING_ID),
        row_lengths=tf.fill(tf.shape(row_lengths), length),
        attended_lengths=row_lengths,
        tag_ids=padded(tf.where(tf.equal(tag_ids, NO_TAG), _OUTSIDE_ID, tag_ids), _OUTSIDE_ID),
    )


def token_loss(logits: tf.Tensor, tag_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the cross-entropy over the positions that carry a tag.

    Args:
        logits: float32 [N, K].
        tag_ids: int32 [N], `NO_TAG` where a position does not count.

    Returns:
        The sum of -log softmax(logits)[tag] and the number of positions, float32 []: the loss is their quotient, also
        over several batches.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(tag_ids, 0), logits=logits)
    counts = tf.not_equal(tag_ids, NO_TAG)
    # The zeros of a position that does not count must not meet a loss that is infinite.
    return tf.reduce_sum(tf.where(counts, losses, 0.0)), tf.reduce_sum(tf.cast(counts, tf.float32))
