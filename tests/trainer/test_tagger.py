from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from components.trainer.fusion import FUSIONS, FusionName
from components.trainer.tagger import FusionTagger, TaggerOutput
from tests.trainer.tiny_taggers import TINY, random_rows, random_tagger

PACKED = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int32)]


@functools.cache
def tag_in_graph(fusion: FusionName) -> Callable[[tf.Tensor, tf.Tensor], TaggerOutput]:
    """Returns a random tagger as one graph for all shapes."""
    tagger = random_tagger(fusion=fusion)
    return tf.function(lambda token_ids, row_lengths: tagger(token_ids, row_lengths), input_signature=PACKED)


@functools.cache
def gradients_in_graph() -> Callable[[tf.Tensor, tf.Tensor], list[tf.Tensor]]:
    """Returns the gradients of a sum over all tokens, as one graph for all shapes."""
    tagger = random_tagger()

    @tf.function(input_signature=PACKED)
    def gradients(token_ids: tf.Tensor, row_lengths: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tagger(token_ids, row_lengths).logits))
        return [tf.convert_to_tensor(slope) for slope in tape.gradient(loss, tagger.trainable_variables)]

    return gradients


def split_rows(token_ids: tf.Tensor, row_lengths: list[int]) -> list[tf.Tensor]:
    return tf.split(token_ids, row_lengths) if row_lengths else []


@given(row_lengths=st.lists(st.integers(0, TINY.max_positions), max_size=9), fusion=st.sampled_from(FUSIONS))
@settings(max_examples=30)
def test_a_row_is_tagged_alike_alone_and_in_any_company(row_lengths: list[int], fusion: FusionName) -> None:
    tag = tag_in_graph(fusion)
    token_ids = random_rows(row_lengths)
    together = tag(token_ids, tf.constant(row_lengths, tf.int32))
    alone = [tag(row, tf.shape(row)) for row in split_rows(token_ids, row_lengths)]
    assert together.logits.shape == (sum(row_lengths), 5)
    np.testing.assert_allclose(tf.reduce_sum(together.layer_weights, axis=-1), np.ones(sum(row_lengths)), rtol=1e-5)
    if alone:
        np.testing.assert_allclose(tf.concat([output.logits for output in alone], 0), together.logits, atol=5e-5)
        weights = tf.concat([output.layer_weights for output in alone], 0)
        np.testing.assert_allclose(weights, together.layer_weights, atol=5e-5)


@given(row_lengths=st.lists(st.integers(1, TINY.max_positions), min_size=2, max_size=6))
@settings(max_examples=10)
def test_gradients_add_up_over_the_rows_of_a_batch(row_lengths: list[int]) -> None:
    gradients = gradients_in_graph()
    token_ids = random_rows(row_lengths)
    together = gradients(token_ids, tf.constant(row_lengths, tf.int32))
    alone = [gradients(row, tf.shape(row)) for row in split_rows(token_ids, row_lengths)]
    for whole, *parts in zip(together, *alone, strict=True):
        np.testing.assert_allclose(whole, np.sum(parts, axis=0), atol=1e-4 * max(1.0, np.abs(whole).max()))


def test_every_weight_is_trained() -> None:
    tagger = random_tagger()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tagger(random_rows([4, 9]), tf.constant([4, 9]), training=True).logits)
    slopes = tape.gradient(loss, tagger.named_variables())
    assert [name for name, slope in slopes.items() if slope is None] == []


def test_graph_of_dynamic_shapes_survives_saving(tmp_path: pathlib.Path) -> None:
    tagger = random_tagger()
    module = tf.Module()
    module.tagger = tagger
    module.tag = tf.function(lambda token_ids, row_lengths: tagger(token_ids, row_lengths)._asdict(), PACKED)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for row_lengths in ([], [0], [1], [3, 24, 1, 1, 2]):
        token_ids = random_rows(row_lengths)
        expected = tagger(token_ids, tf.constant(row_lengths, tf.int32))
        received = loaded.tag(token_ids, tf.constant(row_lengths, tf.int32))
        np.testing.assert_allclose(received["logits"], expected.logits, atol=1e-5)
        np.testing.assert_allclose(received["layer_weights"], expected.layer_weights, atol=1e-5)


def test_checkpoint_restores_every_weight(tmp_path: pathlib.Path) -> None:
    tagger = random_tagger()
    path = tf.train.Checkpoint(tagger=tagger).write(str(tmp_path / "checkpoint"))
    fresh = FusionTagger(TINY, tag_count=5)
    tf.train.Checkpoint(tagger=fresh).read(path).assert_consumed()
    for name, variable in tagger.named_variables().items():
        np.testing.assert_array_equal(fresh.named_variables()[name], variable, err_msg=name)


def test_names_of_weights_are_unique_and_stable() -> None:
    tagger = FusionTagger(TINY, tag_count=5)
    assert len(tagger.named_variables()) == len(tagger.trainable_variables) == 5 + 3 * 12 + 3 * 2 + 2
    names = tagger.named_variables().keys()
    assert {name for name in names if not name.startswith("bert/encoder/layer_")} == {
        "bert/embeddings/word_embeddings",
        "bert/embeddings/token_type_embeddings",
        "bert/embeddings/position_embeddings",
        "bert/embeddings/LayerNorm/gamma",
        "bert/embeddings/LayerNorm/beta",
        "layer_logit0/kernel",
        "layer_logit0/bias",
        "layer_logit1/kernel",
        "layer_logit1/bias",
        "layer_logit2/kernel",
        "layer_logit2/bias",
        "output_weights",
        "output_bias",
    }


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.2), ("float16", 0.03)])
def test_a_copy_for_serving_takes_half_the_memory(precision: str, tolerance: float) -> None:
    tagger = random_tagger()
    copy = tagger.in_precision(precision)
    low = {name for name, variable in copy.named_variables().items() if variable.dtype.name == precision}
    assert low == {
        name
        for name, variable in tagger.named_variables().items()
        if name.startswith("bert/") and variable.shape.rank == 2
    }
    for name, variable in copy.named_variables().items():
        np.testing.assert_array_equal(variable, tf.cast(tagger.named_variables()[name], variable.dtype), err_msg=name)
    received, expected = (each(random_rows([3, 9]), tf.constant([3, 9])).logits for each in (copy, tagger))
    assert received.dtype == tf.float32
    assert 0 < np.abs(received - expected).max() < tolerance


def test_seed_makes_the_tagger_reproducible() -> None:
    first, second = (FusionTagger(TINY, tag_count=5, seed=4).named_variables() for _ in range(2))
    for name, variable in first.items():
        np.testing.assert_array_equal(variable, second[name], err_msg=name)


def test_no_tags_are_refused() -> None:
    with pytest.raises(ValueError, match="tag_count: expected a positive number; received 0"):
        FusionTagger(TINY, tag_count=0)
