"""The loss: cross-entropy over real tokens."""

from __future__ import annotations

import tensorflow as tf

# Marks positions without a loss: [CLS], [SEP], and tokens whose tag counts in another window.
NO_TAG = -1


def token_loss(logits: tf.Tensor, tag_ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the cross-entropy over the positions that carry a tag.

    Args:
        logits: float32 [N, K].
        tag_ids: int32 [N], `NO_TAG` where a position does not count.

    Returns:
        The sum of -log softmax(logits)[tag], float32 [], and the number of positions it runs over, int32 [].
    """
    counts = tf.not_equal(tag_ids, NO_TAG)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(tag_ids, 0), logits=logits)
    return tf.reduce_sum(tf.where(counts, losses, 0.0)), tf.reduce_sum(tf.cast(counts, tf.int32))
