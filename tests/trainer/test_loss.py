from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.loss import NO_TAG, token_loss


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
