"""A tiny model with the signatures of the exported tagger: the first two code points of a text are an entity."""

from __future__ import annotations

import pathlib

import tensorflow as tf

from components import features


class FakeServable(tf.Module):
    """With `random_scores` the model never answers twice in the same way."""

    def __init__(self, *, random_scores: bool = False) -> None:
        super().__init__()
        self._random_scores = random_scores
        self._scale = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)])
    def tag_texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        has_entity = tf.strings.length(text, unit="UTF8_CHAR") >= 2
        count = tf.cast(has_entity, tf.int32)
        width = tf.reduce_max(tf.concat([[0], count], axis=0))

        def column(values: tf.Tensor, padding: object) -> tf.Tensor:
            return tf.where(has_entity, values, tf.cast(padding, values.dtype))[:, tf.newaxis][:, :width]

        score = tf.fill(tf.shape(count), self._scale)
        if self._random_scores:
            score = tf.random.uniform(tf.shape(count))
        return {
            features.ENTITY_COUNT: count,
            features.ENTITY_START: column(tf.zeros_like(count), -1),
            features.ENTITY_END: column(tf.fill(tf.shape(count), 2), -1),
            features.ENTITY_TYPE: column(tf.fill(tf.shape(count), "PER"), ""),
            features.ENTITY_TEXT: column(tf.strings.substr(text, 0, 2, unit="UTF8_CHAR"), ""),
            features.ENTITY_SCORE: column(score, 0.0),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name=features.TOKEN_IDS),
            tf.TensorSpec([None, None], tf.int32, name=features.PADDING_MASK),
        ]
    )
    def tag_tokens(self, token_ids: tf.Tensor, padding_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = tf.cast(token_ids * padding_mask, tf.float32)[:, :, tf.newaxis] * self._scale
        return {features.LOGITS: logits, features.LAYER_WEIGHTS: tf.ones_like(logits)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.EXAMPLES)])
    def compare_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {features.ID: tf.io.FixedLenFeature([], tf.string)})
        cells = parsed[features.ID][:, tf.newaxis]
        return {features.GOLD_ENTITIES: cells, features.PREDICTED_ENTITIES: cells}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)])
    def explain_texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {features.TOKEN_COUNT: tf.strings.length(text, unit="UTF8_CHAR")}


def export_servable(folder: pathlib.Path, *, random_scores: bool = False, only: str | None = None) -> pathlib.Path:
    model = FakeServable(random_scores=random_scores)
    signatures = {
        features.SERVING_SIGNATURE: model.tag_texts,
        features.TOKENS_SIGNATURE: model.tag_tokens,
        features.EXAMPLES_SIGNATURE: model.compare_examples,
        features.EXPLAIN_SIGNATURE: model.explain_texts,
    }
    kept = {name: function for name, function in signatures.items() if only in (None, name)}
    tf.saved_model.save(model, str(folder), signatures=kept)
    return folder
