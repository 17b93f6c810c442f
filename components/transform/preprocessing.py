"""The preprocessing function of TFX Transform: texts and entities to word pieces and tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf

from components import features
from components.settings import parse_settings
from components.transform.alignment import align_entities
from components.transform.analysis import analyze
from components.transform.code_points import code_point_tables
from components.transform.settings import TransformSettings
from components.transform.tokenizer import tokenize
from components.transform.words import split_words

# tf.Tensor, tf.SparseTensor or tf.RaggedTensor; TensorFlow has no types that a checker could follow.
Feature: TypeAlias = Any

_REQUIRED_FEATURES = (features.TEXT, features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)


def preprocessing_fn(
    inputs: Mapping[str, Feature], custom_config: Mapping[str, Any] | None = None
) -> dict[str, Feature]:
    """Tokenizes the texts and tags their word pieces.

    Args:
        inputs: the features of `components.features`, dense [B, 1], sparse or ragged; TEXT has one value a row.
        custom_config: `TransformSettings` as JSON.

    Returns:
        The inputs unchanged, and sparse int64 features: TOKEN_IDS, TOKEN_START, TOKEN_END and TAG_IDS, one value a word
        piece, and UNALIGNED_ENTITY, the indices of entities that no run of word pieces covers exactly or whose type
        does not occur in the train split.

    Raises:
        ValueError: a feature is missing.
        SettingsError: `custom_config` does not hold valid settings.
    """
    settings = parse_settings(TransformSettings, custom_config, "transform")
    missing = [name for name in _REQUIRED_FEATURES if name not in inputs]
    if missing:
        raise ValueError(f"the examples lack {', '.join(missing)}; they have {', '.join(sorted(inputs))}")
    texts = _one_a_row(inputs[features.TEXT])
    entity_start, entity_end, entity_type = (
        _as_ragged(inputs[name]) for name in (features.ENTITY_START, features.ENTITY_END, features.ENTITY_TYPE)
    )
    words = split_words(texts, code_point_tables(lower_case=settings.lower_case))
    analysis = analyze(words.text, entity_type.flat_values, settings)
    tokens = tokenize(texts, analysis.wordpiece_model, lower_case=settings.lower_case)
    alignment = align_entities(
        tokens.start,
        tokens.end,
        entity_start,
        entity_end,
        entity_type.with_flat_values(_index_of(entity_type.flat_values, analysis.entity_types)),
    )
    derived = {
        features.TOKEN_IDS: tokens.token_ids,
        features.TOKEN_START: tokens.start,
        features.TOKEN_END: tokens.end,
        features.TAG_IDS: alignment.tag_ids,
        features.UNALIGNED_ENTITY: alignment.unaligned,
    }
    return {**inputs, **{name: tf.cast(values.to_sparse(), tf.int64) for name, values in derived.items()}}


def _index_of(values: tf.Tensor, names: tf.Tensor) -> tf.Tensor:
    """Returns the index of each of `values` in `names`, int64, -1 where it is not there."""
    match = tf.where(tf.equal(values[:, tf.newaxis], names[tf.newaxis, :]))
    indices = tf.fill(tf.shape(values), tf.constant(-1, tf.int64))
    return tf.tensor_scatter_nd_update(indices, match[:, :1], match[:, 1])


def _as_ragged(feature: Feature) -> tf.RaggedTensor:
    if isinstance(feature, tf.SparseTensor):
        return tf.RaggedTensor.from_sparse(feature)
    if isinstance(feature, tf.RaggedTensor):
        return feature
    return tf.RaggedTensor.from_tensor(feature)


def _one_a_row(feature: Feature) -> tf.Tensor:
    """Returns the first value of each row, string [B]; "" for a row without one."""
    if isinstance(feature, tf.Tensor) and feature.shape.rank == 1:
        return feature
    return _as_ragged(feature).to_tensor(default_value="", shape=[None, 1])[:, 0]
