"""Which segment each element of a packed tensor belongs to, in the graph."""

from __future__ import annotations

import tensorflow as tf


def segment_ids(splits: tf.Tensor) -> tf.Tensor:
    """Returns the segment of each element, int32 [splits[-1]], from splits [S + 1] that begin with 0.

    RaggedTensor.value_rowids and tf.repeat take time and memory of segments x longest segment; this takes their sum.

    Example:
        >>> segment_ids(tf.constant([0, 2, 2, 3])).numpy()
        array([0, 0, 2], dtype=int32)
    """
    ends = tf.cast(splits[1:], tf.int32)
    total = tf.cast(splits[-1], tf.int32)
    return tf.cumsum(tf.math.unsorted_segment_sum(tf.ones_like(ends), ends, total + 1))[:total]
