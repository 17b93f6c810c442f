from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.trainer.optimizer import AdamW, Schedule


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param(Schedule(10, 2), [1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8], id="warm-up"),
        pytest.param(Schedule(4, 0), [1, 3 / 4, 2 / 4, 1 / 4], id="no warm-up"),
        pytest.param(Schedule(3, 3), [1 / 3, 2 / 3, 1], id="warm-up only"),
        pytest.param(Schedule(1, 0), [1], id="one step"),
    ],
)
def test_schedule(schedule, expected):
    rates = [float(schedule(tf.constant(step, tf.int64))) for step in range(schedule.total_steps)]
    assert rates == pytest.approx(expected)


def reference(weights, gradients, *, peak, decay, clip, schedule):
    """AdamW of the paper in numpy: weights and gradients as lists of arrays, one gradient list a step."""
    means = [np.zeros_like(weight) for weight in weights]
    squares = [np.zeros_like(weight) for weight in weights]
    for step, step_gradients in enumerate(gradients):
        norm = np.sqrt(sum(np.sum(gradient**2) for gradient in step_gradients))
        rate = peak * float(schedule(tf.constant(step, tf.int64)))
        for index, gradient in enumerate(step_gradients):
            clipped = gradient * min(1.0, clip / norm)
            means[index] = 0.9 * means[index] + 0.1 * clipped
            squares[index] = 0.999 * squares[index] + 0.001 * clipped**2
            mean_hat = means[index] / (1 - 0.9 ** (step + 1))
            square_hat = squares[index] / (1 - 0.999 ** (step + 1))
            weights[index] = weights[index] - rate * (
                decay[index] * weights[index] + mean_hat / (np.sqrt(square_hat) + 1e-6)
            )
    return weights


def test_updates_are_those_of_the_formula_with_embedding_gradients():
    generator = np.random.default_rng(1)
    start = [generator.normal(size=(5, 3)), generator.normal(size=3)]
    schedule = Schedule(total_steps=6, warmup_steps=2)
    variables = [tf.Variable(weight, dtype=tf.float32) for weight in start]
    optimizer = AdamW(
        variables,
        peaks=[0.1, 0.1],
        decayed=[True, False],
        schedule=schedule,
        weight_decay=0.3,
        clip_norm=1.0,
    )
    gradients = []
    for step in range(6):
        # Row 3 stands twice in the batch, as a frequent token does.
        rows, bias = generator.normal(size=(3, 3)) * (step + 0.1), generator.normal(size=3)
        dense = np.zeros((5, 3))
        np.add.at(dense, [3, 1, 3], rows)
        gradients.append([dense, bias])
        sparse = tf.IndexedSlices(tf.constant(rows, tf.float32), tf.constant([3, 1, 3]), tf.constant([5, 3]))
        norm = optimizer.apply([sparse, tf.constant(bias, tf.float32)])
        assert float(norm) == pytest.approx(np.sqrt(np.sum(dense**2) + np.sum(bias**2)), rel=1e-5)
    expected = reference(start, gradients, peak=0.1, decay=[0.3, 0.0], clip=1.0, schedule=schedule)
    for variable, weight in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), weight, atol=2e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_changes_nothing(bad):
    variable = tf.Variable([1.0, 2.0])
    optimizer = AdamW([variable], peaks=[0.1], decayed=[True], schedule=Schedule(5, 0), weight_decay=0.1, clip_norm=1.0)
    assert not np.isfinite(float(optimizer.apply([tf.constant([0.0, bad])])))
    assert variable.numpy().tolist() == [1.0, 2.0]
    assert int(optimizer.step) == 0


def test_averages_are_those_of_the_formula_and_stand_in_for_the_weights():
    variable = tf.Variable([1.0, -2.0])
    optimizer = AdamW(
        [variable],
        peaks=[0.3],
        decayed=[True],
        schedule=Schedule(40, 2),
        weight_decay=0.1,
        clip_norm=9.0,
        ema_decay=0.6,
    )
    expected = np.array([1.0, -2.0])
    for step in range(30):
        optimizer.apply([tf.constant([np.sin(step), 1.0], tf.float32)])
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * variable.numpy()
    weights = variable.numpy()
    assert np.abs(weights - expected).max() > 0.01
    with optimizer.averaged():
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5)
    assert variable.numpy().tolist() == weights.tolist()
    np.testing.assert_allclose(optimizer.averages[0].numpy(), expected, rtol=1e-5)


def test_the_gradient_of_a_sum_is_divided_by_its_weight():
    results = []
    for gradient, weight in ((tf.constant([0.5, -0.25]), 1.0), (tf.constant([4.0, -2.0]), 8.0)):
        variable = tf.Variable([1.0, 2.0])
        optimizer = AdamW(
            [variable], peaks=[0.1], decayed=[True], schedule=Schedule(5, 0), weight_decay=0.1, clip_norm=0.3
        )
        results.append((float(optimizer.apply([gradient], weight)), *variable.numpy()))
    assert results[0] == pytest.approx(results[1], rel=1e-6)
