"""The loss: cross-entropy over real tokens, or over all positions of a padded batch, as the seed took it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.settings import SettingsError
from components.tags import OUTSIDE

# Marks positions without a loss: [CLS], [SEP], and tokens whose tag counts in another window.
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


def token_loss(
    logits: tf.Tensor, tag_ids: tf.Tensor, *, label_smoothing: float = 0.0, tag_weights: np.ndarray | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the cross-entropy over the positions that carry a tag.

    Args:
        logits: float32 [N, K].
        tag_ids: int32 [N], `NO_TAG` where a position does not count.
        label_smoothing: the target of a position is `1 - label_smoothing` on its tag and `label_smoothing / K` on every
            tag (Szegedy et al., https://arxiv.org/abs/1512.00567).
        tag_weights: float32 [K], how often a position counts, by its tag; None counts each once.

    Returns:
        The weighted sum of -log softmax(logits)[tag], float32 [], and the sum of the weights, float32 []: the loss is
        their quotient, also over several batches.
    """
    tags = tf.maximum(tag_ids, 0)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tags, logits=logits)
    if label_smoothing:
        uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * uniform
    weights = tf.ones_like(losses) if tag_weights is None else tf.gather(tf.constant(tag_weights, tf.float32), tags)
    weights = tf.where(tf.not_equal(tag_ids, NO_TAG), weights, 0.0)
    # The zeros of a position that does not count must not meet a loss that is infinite.
    return tf.reduce_sum(tf.where(weights > 0.0, weights * losses, 0.0)), tf.reduce_sum(weights)


def weights_of_tags(class_weights: Mapping[str, float], tags: Sequence[str]) -> np.ndarray | None:
    """Returns the weight of each tag in the loss, float32 [K]; None if all weigh the same.

    Args:
        class_weights: entity type or "O" -> weight; tags of others weigh 1.
        tags: O, B-x, I-x, .. in id order.

    Raises:
        SettingsError: a name is no entity type of the corpus.
    """
    classes = [tag if tag == OUTSIDE else tag[2:] for tag in tags]
    unknown = sorted(class_weights.keys() - set(classes))
    if unknown:
        raise SettingsError(
            f"trainer.recipe.class_weights: {', '.join(unknown)} is no entity type of the corpus; expected "
            f"{', '.join(sorted(set(classes)))}"
        )
    if not class_weights:
        return None
    return np.array([class_weights.get(name, 1.0) for name in classes], np.float32)
