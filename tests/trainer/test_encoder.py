from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.encoder import Dense, Encoder, LayerNorm, truncated_normal
from components.trainer.packing import plan_rows
from tests.trainer.numpy_bert import padded_layers
from tests.trainer.tiny_taggers import TINY, google_research_weights, random_rows, random_tagger

ROW_LENGTHS = st.lists(st.integers(1, TINY.max_positions), min_size=1, max_size=9)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@given(row_lengths=ROW_LENGTHS)
@settings(max_examples=10)
def test_packed_rows_equal_a_padded_encoder(activation: str, row_lengths: list[int]) -> None:
    tagger = random_tagger(dataclasses.replace(TINY, hidden_activation=activation))
    token_ids = random_rows(row_lengths)
    mask = np.arange(max(row_lengths)) < np.array(row_lengths)[:, np.newaxis]
    padded = np.zeros(mask.shape, np.int32)
    padded[mask] = token_ids
    expected = padded_layers(google_research_weights(tagger), tagger.encoder_config, padded, mask)
    layers = tagger.encoder(token_ids, plan_rows(tf.constant(row_lengths), num_heads=tagger.encoder_config.num_heads))
    assert len(layers) == len(expected) == TINY.num_layers
    for layer, expected_layer in zip(layers, expected, strict=True):
        np.testing.assert_allclose(layer, expected_layer[mask], atol=2e-5)


def test_initial_weights() -> None:
    config = dataclasses.replace(TINY, hidden_size=64, initializer_range=0.05)
    variables = {variable.name.removesuffix(":0"): variable.numpy() for variable in Encoder(config, seed=1).variables}
    for name, values in variables.items():
        if name.endswith("gamma"):
            np.testing.assert_array_equal(values, 1)
        elif name.endswith(("beta", "bias")):
            np.testing.assert_array_equal(values, 0)
        else:
            # A normal distribution cut at two standard deviations has 0.88 of its standard deviation.
            assert np.abs(values).max() <= 0.1, name
            if values.size > 1000:
                assert 0.040 < values.std() < 0.048, name


def test_seed_makes_initial_weights_reproducible() -> None:
    first, second, other = (Encoder(TINY, seed=seed).variables for seed in (1, 1, 2))
    for left, right in zip(first, second, strict=True):
        np.testing.assert_array_equal(left, right)
    assert any((left.numpy() != right.numpy()).any() for left, right in zip(first, other, strict=True))


def test_no_two_kernels_start_alike() -> None:
    kernels = [
        variable.numpy().ravel()[:50] for variable in Encoder(TINY, seed=1).variables if "kernel" in variable.name
    ]
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels)


def test_dropout_acts_while_training_only() -> None:
    encoder = Encoder(TINY, seed=1)
    token_ids, plan = random_rows([5, 9]), plan_rows(tf.constant([5, 9]), num_heads=TINY.num_heads)
    calm = [encoder(token_ids, plan)[-1].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*calm)
    assert (encoder(token_ids, plan, training=True)[-1].numpy() != calm[0]).any()
    without = Encoder(dataclasses.replace(TINY, hidden_dropout=0.0, attention_dropout=0.0), seed=1)
    np.testing.assert_array_equal(without(token_ids, plan, training=True)[-1], calm[0])


def test_layer_norm_computes_in_float32_and_keeps_the_type() -> None:
    norm = LayerNorm("norm", 4, 1e-12)
    values = tf.constant([[1000.0, 1001.0, 1002.0, 1003.0]])
    result = norm(tf.cast(values, tf.float16))
    assert result.dtype == tf.float16
    np.testing.assert_allclose(result.numpy()[0], [-1.342, -0.447, 0.447, 1.342], atol=2e-3)


@pytest.mark.parametrize("transposed", [False, True])
def test_dense(transposed: bool) -> None:
    dense = Dense("dense", 2, 3, truncated_normal(0.02, seed=0), tf.float32, transposed=transposed)
    kernel = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    dense.kernel.assign(kernel.T if transposed else kernel)
    dense.bias.assign([10.0, 20.0, 30.0])
    np.testing.assert_array_equal(dense(tf.constant([[1.0, 1.0]])), [[15.0, 27.0, 39.0]])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_stays_near(dtype: str) -> None:
    row_lengths = [7, 2, 20]
    token_ids = random_rows(row_lengths)
    exact = random_tagger()(token_ids, tf.constant(row_lengths)).logits.numpy()
    tagger = random_tagger(compute_dtype=dtype)
    assert (
        tagger.encoder(token_ids, plan_rows(tf.constant(row_lengths), num_heads=tagger.encoder_config.num_heads))[
            0
        ].dtype
        == dtype
    )
    rough = tagger(token_ids, tf.constant(row_lengths)).logits
    assert rough.dtype == tf.float32
    assert np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()
