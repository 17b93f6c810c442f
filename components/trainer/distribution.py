"""Training on several accelerators of one machine."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

from components import progress


def training_strategy(distribution: Literal["none", "mirrored"]) -> tf.distribute.Strategy:
    """Returns the strategy in whose scope the model is made: of one device, or of all GPUs that TensorFlow sees."""
    if distribution == "none":
        return tf.distribute.get_strategy()
    strategy = tf.distribute.MirroredStrategy()
    replicas = strategy.num_replicas_in_sync
    progress.report(
        f"{replicas} replicas, a step takes as many times the batch"
        if replicas > 1
        else "trainer.distribution: mirrored, but fewer than two GPUs are visible: training runs on one device"
    )
    return strategy


def replica_batch(
    token_ids: tf.Tensor, row_lengths: tf.Tensor, tag_ids: tf.Tensor, row_counts: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cuts the batch of the replica that calls it out of the batches of all replicas.

    Args:
        token_ids: int32 [N], the rows of all replicas one after another.
        row_lengths: int32 [B].
        tag_ids: int32 [N].
        row_counts: int32 [R], rows of each replica; they sum to B, and some may be 0.

    Returns:
        Its token_ids, row_lengths and tag_ids.
    """
    if row_counts.shape[0] == 1:
        return token_ids, row_lengths, tag_ids
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    row_ends = tf.concat([[0], tf.cumsum(row_counts)], axis=0)
    token_ends = tf.gather(tf.concat([[0], tf.cumsum(row_lengths)], axis=0), row_ends)
    tokens = slice(token_ends[replica], token_ends[replica + 1])
    return token_ids[tokens], row_lengths[row_ends[replica] : row_ends[replica + 1]], tag_ids[tokens]
