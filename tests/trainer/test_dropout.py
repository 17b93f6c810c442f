from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.dropout import dropout, dropout_scope


@pytest.mark.parametrize("shape", [(), (0, 3), (1001,), (37, 5, 11)])
def test_shapes_survive(shape):
    assert dropout(tf.ones(shape), 0.5, training=True).shape == shape


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_without_training_or_rate_nothing_is_dropped(rate, training):
    values = tf.range(5.0)
    assert dropout(values, rate, training=training) is values


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_and_mean(rate):
    with dropout_scope(1, tf.constant(0, tf.int64)):
        values = dropout(tf.ones([1000, 1000]), rate, training=True).numpy()
    assert np.mean(values == 0) == pytest.approx(rate, abs=2e-3)
    assert np.mean(values) == pytest.approx(1.0, abs=3e-3)
    assert set(np.unique(values)) == {0.0, np.max(values)}


def masks(seed, step):
    with dropout_scope(seed, tf.constant(step, tf.int64)):
        return [(dropout(tf.ones([64]), 0.5, training=True).numpy() > 0).tolist() for _ in range(2)]


def test_masks_depend_on_seed_step_and_place_only():
    first, second = masks(1, 5)
    assert [first, second] == masks(1, 5)
    assert first != second
    assert first not in masks(1, 6)
    assert first not in masks(2, 5)


def test_the_gradient_passes_where_values_passed():
    values = tf.Variable(tf.ones([200]))
    with tf.GradientTape() as tape:
        kept = dropout(values * 1.0, 0.25, training=True)
    gradient = tape.gradient(kept, values).numpy()
    np.testing.assert_allclose(gradient, kept.numpy())
