from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from components.settings import SettingsError
from components.trainer.loss import NO_TAG, pad_rows, token_loss, weights_of_tags


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


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("tag_weights", [None, [0.5, 1.0, 3.0, 1.0, 2.0]])
def test_smoothed_and_weighted_loss_against_the_formula(label_smoothing, tag_weights):
    random = np.random.default_rng(1)
    logits = random.normal(size=(7, 5)) * 3
    tag_ids = np.array([0, 4, NO_TAG, 2, 2, NO_TAG, 1])
    expected = total = 0.0
    for row, tag in zip(logits, tag_ids, strict=True):
        if tag == NO_TAG:
            continue
        target = np.full(5, label_smoothing / 5)
        target[tag] += 1 - label_smoothing
        weight = 1.0 if tag_weights is None else tag_weights[tag]
        expected += weight * -np.sum(target * np.log(np.exp(row) / np.sum(np.exp(row))))
        total += weight
    loss, weight = token_loss(
        tf.constant(logits, tf.float32),
        tf.constant(tag_ids, tf.int32),
        label_smoothing=label_smoothing,
        tag_weights=None if tag_weights is None else np.array(tag_weights, np.float32),
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(weight) == pytest.approx(total, rel=1e-6)


TAGS = ("O", "B-LOC", "I-LOC", "B-creative-work", "I-creative-work")


@pytest.mark.parametrize(
    ("class_weights", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"O": 0.5}, [0.5, 1, 1, 1, 1], id="outside"),
        pytest.param({"LOC": 2.0, "creative-work": 3.0}, [1, 2, 2, 3, 3], id="types"),
    ],
)
def test_weights_of_tags(class_weights, expected):
    weights = weights_of_tags(class_weights, TAGS)
    assert (weights is None and expected is None) or weights.tolist() == expected


@pytest.mark.parametrize("name", ["PER", "B-LOC", "work"])
def test_a_class_weight_of_no_entity_type_is_refused(name):
    with pytest.raises(SettingsError, match=rf"class_weights: {name} is no entity type .* LOC, O, creative-work"):
        weights_of_tags({name: 2.0}, TAGS)


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
