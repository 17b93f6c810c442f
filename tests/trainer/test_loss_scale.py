from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.loss_scale import GROWTH_STEPS, INITIAL, LossScale
from components.trainer.optimizer import AdamW, Schedule


@pytest.mark.parametrize(
    ("finite", "expected"),
    [
        pytest.param([], INITIAL, id="start"),
        pytest.param([False, False], INITIAL / 4, id="halved"),
        pytest.param([False, True], INITIAL / 2, id="one good step"),
        pytest.param([True] * (GROWTH_STEPS - 1), INITIAL, id="nearly doubled"),
        pytest.param([True] * GROWTH_STEPS, INITIAL * 2, id="doubled"),
        pytest.param([True] * (GROWTH_STEPS - 1) + [False, True], INITIAL / 2, id="counting begins again"),
        pytest.param([True] * (2 * GROWTH_STEPS), INITIAL * 4, id="doubled twice"),
    ],
)
def test_the_scale_follows_the_gradients(finite, expected):
    scale = LossScale(tokens=8)
    update = tf.function(scale.update, input_signature=[tf.TensorSpec([], tf.bool)])
    for each in finite:
        update(tf.constant(each))
    assert float(scale.value) == expected
    assert float(scale.factor()) == expected / 8


def test_scaled_gradients_give_the_same_step_and_infinite_ones_none():
    plain, scaled = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    arguments = {
        "peaks": [0.1], "decayed": [True], "schedule": Schedule(5, 0), "weight_decay": 0.1, "clip_norm": 0.3
    }  # fmt: skip
    scale = LossScale(tokens=4)
    optimizers = AdamW([plain], **arguments), AdamW([scaled], **arguments, loss_scale=scale, ema_decay=0.5)
    gradient = np.array([4.0, -2.0], np.float32)
    assert not np.isfinite(float(optimizers[1].apply([tf.constant([np.inf, 0.0])], 8.0)))
    assert (scaled.numpy().tolist(), int(optimizers[1].step)) == ([1.0, 2.0], 0)
    assert optimizers[1].averages[0].numpy().tolist() == [1.0, 2.0]
    assert float(scale.value) == INITIAL / 2
    norms = (
        optimizers[0].apply([tf.constant(gradient)], 8.0),
        optimizers[1].apply([tf.constant(gradient * INITIAL / 2 / 4)], 8.0),
    )
    assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-6)
    np.testing.assert_allclose(scaled.numpy(), plain.numpy(), rtol=1e-6)
