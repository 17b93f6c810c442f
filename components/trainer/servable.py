"""The exported model: a SavedModel whose signatures TF Serving answers.

Axis letters: B texts, E entities of the text with most of them, S places of a padded row, T tokens of the text
with most of them, K tags, L encoder layers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import tensorflow as tf

from components import features
from components.segments import segment_ids
from components.trainer.decoding import Entities, entity_types
from components.trainer.serving_ops import check_serving_ops
from components.trainer.text_tagger import TextTagger
from components.transform.tokenizer import Tokenizer

_FIELD_SEPARATOR = "\t"


class Servable(tf.Module):
    """Text in, entities out.

    Args:
        tokenizer: the tokenizer of Transform.
        text_tagger: the trained model.
        tags: the model's tags in id order; O, B-x, I-x, B-y, I-y, .. unless `text_tagger` has a scheme for them.
    """

    def __init__(self, tokenizer: Tokenizer, text_tagger: TextTagger, tags: Sequence[str]) -> None:
        super().__init__()
        self._tokenizer = tokenizer
        self.text_tagger = text_tagger
        self._tags = tuple(tags)
        scheme = text_tagger.scheme
        self._types = tf.constant(entity_types(tags) if scheme is None else scheme.types)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)], autograph=False)
    def tag_texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the entities of texts: the signature `serving_default`.

        Args:
            text: string [B], UTF-8; every byte that is not counts as one U+FFFD or joins one.

        Returns:
            entity_count int32 [B]; entity_start, entity_end int32 [B, E] in code points, end exclusive; entity_type,
            entity_text string [B, E]; entity_score float32 [B, E]. Rows are padded with -1, "" and 0.
        """
        entities = self._find_entities(text)
        return {
            features.ENTITY_COUNT: tf.cast(entities.start.row_lengths(), tf.int32),
            features.ENTITY_START: entities.start.to_tensor(-1),
            features.ENTITY_END: entities.end.to_tensor(-1),
            features.ENTITY_TYPE: self._type_names(entities).to_tensor(""),
            features.ENTITY_TEXT: cut_texts(text, entities.start, entities.end).to_tensor(""),
            features.ENTITY_SCORE: entities.score.to_tensor(0.0),
        }

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int32, name=features.TOKEN_IDS),
            tf.TensorSpec([None, None], tf.int32, name=features.PADDING_MASK),
        ],
        autograph=False,
    )
    def tag_tokens(self, token_ids: tf.Tensor, padding_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        """Runs the bare model over rows of token ids: the signature `tokens`.

        Args:
            token_ids: int32 [B, S], rows with their [CLS] and [SEP], no more tokens than the encoder has positions.
            padding_mask: int32 [B, S], 0 at padding, wherever it stands, and not 0 at tokens; only these count.

        Returns:
            logits float32 [B, S, K] and layer_weights float32 [B, S, L], both 0 at padding.
        """
        is_token = tf.not_equal(padding_mask, 0)
        lengths = tf.reduce_sum(tf.cast(is_token, tf.int32), axis=1)
        config = self.text_tagger.tagger.encoder_config
        flat_ids = tf.boolean_mask(token_ids, is_token)
        checks = [
            tf.debugging.assert_less_equal(
                lengths,
                config.max_positions,
                f"a row has more tokens than the {config.max_positions} positions of the encoder",
            ),
            tf.debugging.assert_non_negative(flat_ids, "token_ids must not be negative"),
            tf.debugging.assert_less(
                flat_ids, config.vocab_size, f"token_ids must be less than {config.vocab_size}, the vocabulary's size"
            ),
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            output = self.text_tagger.tag_rows(tf.identity(flat_ids), tf.boolean_mask(lengths, lengths > 0))
        place = tf.where(is_token)
        shape = tf.shape(token_ids, out_type=tf.int64)

        def spread(values: tf.Tensor) -> tf.Tensor:
            full_shape = tf.concat([shape, [values.shape[-1]]], axis=0)
            return tf.ensure_shape(tf.scatter_nd(place, values, full_shape), [None, None, values.shape[-1]])

        return {features.LOGITS: spread(output.logits), features.LAYER_WEIGHTS: spread(output.layer_weights)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.EXAMPLES)], autograph=False)
    def compare_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Finds the entities of raw examples and returns them beside the gold ones: the signature `examples`.

        Args:
            examples: string [B], serialized tf.Examples as ExampleGen writes them.

        Returns:
            gold_entities string [B, G] and predicted_entities string [B, E], "start<TAB>end<TAB>type" each, rows padded
            with ""; predicted_score float32 [B, E], in (0, 1], rows padded with 0.
        """
        parsed = tf.io.parse_example(
            examples,
            {
                features.TEXT: tf.io.FixedLenFeature([], tf.string),
                features.ENTITY_START: tf.io.RaggedFeature(tf.int64),
                features.ENTITY_END: tf.io.RaggedFeature(tf.int64),
                features.ENTITY_TYPE: tf.io.RaggedFeature(tf.string),
            },
        )
        entities = self._find_entities(parsed[features.TEXT])
        gold = _joined(parsed[features.ENTITY_START], parsed[features.ENTITY_END], parsed[features.ENTITY_TYPE])
        predicted = _joined(entities.start, entities.end, self._type_names(entities))
        return {
            features.GOLD_ENTITIES: gold.to_tensor(""),
            features.PREDICTED_ENTITIES: predicted.to_tensor(""),
            features.PREDICTED_SCORE: entities.score.to_tensor(0.0),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name=features.TEXT)], autograph=False)
    def explain_texts(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Shows what the model says of every token by itself, before decoding: the signature `explain`.

        Args:
            text: string [B], as in `serving_default`.

        Returns:
            token_count int32 [B]; token_start, token_end int32 [B, T] in code points, end exclusive; token_text string
            [B, T], cut out of the text; tag_name string [B, K], the same in every row; tag_probability float32
            [B, T, K], which sums to 1 over K; layer_weights float32 [B, T, L], which sum to 1 over L. Rows are padded
            with -1, "" and 0.
        """
        tokens = self._tokenizer(text)
        output = self.text_tagger.tag_tokens(tokens.token_ids)
        probabilities = tf.nn.softmax(output.logits)
        return {
            features.TOKEN_COUNT: tf.cast(tokens.start.row_lengths(), tf.int32),
            features.TOKEN_START: tf.cast(tokens.start.to_tensor(-1), tf.int32),
            features.TOKEN_END: tf.cast(tokens.end.to_tensor(-1), tf.int32),
            features.TOKEN_TEXT: cut_texts(text, tokens.start, tokens.end).to_tensor(""),
            # One row a text, so that a server that merges requests can cut the answer at the texts.
            features.TAG_NAME: tf.tile(tf.constant([self._tags]), [tf.size(text), 1]),
            features.TAG_PROBABILITY: tokens.start.with_flat_values(probabilities).to_tensor(0.0),
            features.LAYER_WEIGHTS: tokens.start.with_flat_values(output.layer_weights).to_tensor(0.0),
        }

    def _find_entities(self, text: tf.Tensor) -> Entities:
        tokens = self._tokenizer(text)
        return self.text_tagger.find_entities(tokens.token_ids, tokens.start, tokens.end)

    def _type_names(self, entities: Entities) -> tf.RaggedTensor:
        return entities.type_id.with_flat_values(tf.gather(self._types, entities.type_id.flat_values))


def cut_texts(text: tf.Tensor, start: tf.RaggedTensor, end: tf.RaggedTensor) -> tf.RaggedTensor:
    """Cuts pieces, by their offsets in code points, out of texts: string [B, (E)]; what is not UTF-8 becomes U+FFFD."""
    code_points = tf.strings.unicode_decode(text, "UTF-8", errors="replace")  # [B, (code points)]
    row_start = tf.gather(tf.cast(code_points.row_starts(), tf.int32), segment_ids(start.row_splits))
    places = tf.ragged.range(row_start + start.flat_values, row_start + end.flat_values)
    cut = places.with_flat_values(tf.gather(code_points.flat_values, places.flat_values))
    return start.with_flat_values(tf.strings.unicode_encode(cut, "UTF-8"))


def export(servable: Servable, directory: str | os.PathLike[str]) -> None:
    """Writes the SavedModel and checks that TF Serving knows every op in it.

    Raises:
        ServingOpsError: an op is unknown to TF Serving; the message names it and where it stands.
    """
    tf.saved_model.save(
        servable,
        os.fspath(directory),
        signatures={
            features.SERVING_SIGNATURE: servable.tag_texts,
            features.TOKENS_SIGNATURE: servable.tag_tokens,
            features.EXAMPLES_SIGNATURE: servable.compare_examples,
            features.EXPLAIN_SIGNATURE: servable.explain_texts,
        },
    )
    check_serving_ops(directory)


def _joined(start: tf.RaggedTensor, end: tf.RaggedTensor, type_names: tf.RaggedTensor) -> tf.RaggedTensor:
    parts = [tf.strings.as_string(start.flat_values), tf.strings.as_string(end.flat_values), type_names.flat_values]
    return start.with_flat_values(tf.strings.join(parts, _FIELD_SEPARATOR))
