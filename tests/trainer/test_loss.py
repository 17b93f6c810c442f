from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.loss import NO_TAG, pad_rows, token_loss


@pytest.mark.parametrize(
    ("tag_ids", "expected", "count"),
    [
        pytest.param([0, 2], np.log(2) + np.log(4), 2, id="all count"),
        pytest.param([NO_TAG, 2], np.log(4), 1, id="one is special"),
        pytest.param([NO_TAG, NO_TAG], 0.0, 0, id="none counts"),
    ],
)
def test_loss_runs_over_real_tokens_only(tag_ids, expected, count):
    logits = tf.math.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    loss, tokens = token_loss(logits, tf.constant(tag_ids))
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert int(tokens) == count


def test_positions_without_a_tag_have_no_gradient():
    logits = tf.Variable(tf.random.stateless_normal([3, 5], seed=[1, 2]))
    with tf.GradientTape() as tape:
        loss, _ = token_loss(logits, tf.constant([1, NO_TAG, 4]))
    gradient = tf.convert_to_tensor(tape.gradient(loss, logits)).numpy()
    assert np.all(gradient[1] == 0)
    assert np.all(gradient[[0, 2]] != 0)


@pytest.mark.parametrize(
    ("row_lengths", "token_ids", "tag_ids"),
    [
        pytest.param([3, 4], [2, 7, 3, 0, 2, 8, 9, 3], [0, 5, 0, 0, 0, 1, 2, 0], id="two rows"),
        pytest.param([4], [2, 8, 9, 3], [0, 1, 2, 0], id="full"),
        pytest.param([], [], [], id="none"),
    ],
)
def test_rows_are_padded_with_0_and_o(row_lengths, token_ids, tag_ids):
    packed = {"ids": [2, 7, 3, 2, 8, 9, 3], "tags": [NO_TAG, 5, NO_TAG, NO_TAG, 1, 2, NO_TAG]}
    count = sum(row_lengths)
    ids, tags = (tf.constant(packed[name][len(packed[name]) - count :], tf.int32) for name in ("ids", "tags"))
    rows = pad_rows(ids, tf.constant(row_lengths, tf.int32), tags, length=4)
    assert rows.token_ids.numpy().tolist() == token_ids
    assert rows.tag_ids.numpy().tolist() == tag_ids
    assert rows.row_lengths.numpy().tolist() == [4] * len(row_lengths)
    assert rows.attended_lengths.numpy().tolist() == row_lengths
