"""Strict scores of a model on tokenized texts, by the graph that serves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from components.annotated_text import Entity
from components.evaluator.calibration import Calibration, count_scores
from components.evaluator.entity_scores import StrictReport, count_entities
from components.trainer.calibration import ScoredEntities
from components.trainer.decoding import entity_types
from components.trainer.text_tagger import CHUNK_TOKENS, TextTagger
from components.trainer.training_data import TokenizedTexts, text_batches

Evaluate = Callable[[TokenizedTexts], tuple[StrictReport, np.ndarray]]


def evaluator_of(text_tagger: TextTagger, tags: Sequence[str]) -> Evaluate:
    """Returns a function that scores the model as it stands, against all gold entities, unaligned ones too.

    The function returns the strict report and the mean weight of each encoder layer over all tokens, float64 [L]. Make
    it once: its graph is traced at the first call.
    """
    types = entity_types(tags)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.int64), *(tf.TensorSpec([None], tf.int32) for _ in range(3))],
        autograph=False,
    )
    def predict(row_splits: tf.Tensor, token_ids: tf.Tensor, start: tf.Tensor, end: tf.Tensor) -> tuple[tf.Tensor, ...]:
        ids, starts, ends = (
            tf.RaggedTensor.from_row_splits(values, row_splits, validate=False) for values in (token_ids, start, end)
        )
        output = text_tagger.tag_tokens(ids)
        entities = text_tagger.decode(output.logits, ids, starts, ends)
        return (
            entities.start.row_splits,
            entities.start.flat_values,
            entities.end.flat_values,
            entities.type_id.flat_values,
            tf.reduce_sum(output.layer_weights, axis=0),
        )

    def evaluate(texts: TokenizedTexts) -> tuple[StrictReport, np.ndarray]:
        report = StrictReport()
        weight_sum = np.zeros([text_tagger.tagger.encoder_config.num_layers])
        for first, end in text_batches(texts.row_splits, batch_tokens=CHUNK_TOKENS):
            splits = texts.row_splits[first : end + 1]
            tokens = slice(int(splits[0]), int(splits[-1]))
            arrays = (texts.token_ids[tokens], texts.token_start[tokens], texts.token_end[tokens])
            rows, starts, ends, type_ids, weights = (
                tensor.numpy() for tensor in predict(*map(tf.constant, (splits - splits[0], *arrays)))
            )
            weight_sum += weights
            found = [
                Entity(*row) for row in zip(starts.tolist(), ends.tolist(), (types[i] for i in type_ids), strict=True)
            ]
            for offset, gold in enumerate(texts.entities[first:end]):
                report += count_entities(gold, found[rows[offset] : rows[offset + 1]])
        return report, weight_sum / max(len(texts.token_ids), 1)

    return evaluate


def scorer_of(text_tagger: TextTagger, tags: Sequence[str], texts: TokenizedTexts) -> Callable[[float], ScoredEntities]:
    """Returns a function that gives the predicted entities of `texts` with their scores at a temperature.

    The encoder runs once, now: the logits are kept, K floats a token.
    """
    types = entity_types(tags)
    spec = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)

    @tf.function(input_signature=[spec], autograph=False)
    def classify(token_ids: tf.RaggedTensor) -> tf.Tensor:
        return text_tagger.tag_tokens(token_ids).logits

    @tf.function(
        input_signature=[tf.TensorSpec([None, len(tags)]), spec, spec, spec, tf.TensorSpec([], tf.float64)],
        autograph=False,
    )
    def decode(logits: tf.Tensor, *tokens_and_temperature: tf.Tensor) -> tuple[tf.Tensor, ...]:
        entities = text_tagger.decode(logits, *tokens_and_temperature)
        return entities.start.row_splits, *(part.flat_values for part in entities)

    batches = []
    for first, end in text_batches(texts.row_splits, batch_tokens=CHUNK_TOKENS):
        splits = texts.row_splits[first : end + 1]
        tokens = slice(int(splits[0]), int(splits[-1]))
        ids, starts, ends = (
            tf.RaggedTensor.from_row_splits(values[tokens], splits - splits[0], validate=False)
            for values in (texts.token_ids, texts.token_start, texts.token_end)
        )
        batches.append((texts.entities[first:end], (classify(ids), ids, starts, ends)))

    def score(temperature: float) -> ScoredEntities:
        calibration, all_scores, right = Calibration(), [np.zeros([0])], []
        for gold_of_texts, arguments in batches:
            outputs = decode(*arguments, tf.constant(temperature, tf.float64))
            rows, starts, ends, type_ids, scores = (tensor.numpy() for tensor in outputs)
            found = [
                Entity(*row) for row in zip(starts.tolist(), ends.tolist(), (types[i] for i in type_ids), strict=True)
            ]
            for offset, gold in enumerate(gold_of_texts):
                row = slice(rows[offset], rows[offset + 1])
                calibration += count_scores(gold, found[row], scores[row].tolist())
                right += [entity in gold for entity in found[row]]
            all_scores.append(scores.astype(np.float64))
        return ScoredEntities(np.concatenate(all_scores), np.array(right, dtype=bool), calibration)

    return score
