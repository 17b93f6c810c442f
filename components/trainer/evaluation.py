"""Strict scores of a model on tokenized texts, by the graph that serves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from components.annotated_text import Entity
from components.evaluator.calibration import Calibration, count_scores
from components.evaluator.entity_scores import StrictReport, count_entities
from components.trainer.calibration import ScoredEntities
from components.trainer.decoding import Entities, entity_types
from components.trainer.text_tagger import CHUNK_TOKENS, TextTagger
from components.trainer.training_data import TokenizedTexts, text_batches

Evaluate = Callable[[TokenizedTexts], tuple[StrictReport, np.ndarray]]

_TOKENS = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)


def evaluator_of(text_tagger: TextTagger, tags: Sequence[str]) -> Evaluate:
    """Returns a function that scores the model as it stands, against all gold entities, unaligned ones too.

    The function returns the strict report and the mean weight of each encoder layer over all tokens, float64 [L]. Make
    it once: its graph is traced at the first call.
    """
    types = entity_types(tags)

    @tf.function(input_signature=[_TOKENS] * 3, autograph=False)
    def predict(token_ids: tf.RaggedTensor, start: tf.RaggedTensor, end: tf.RaggedTensor) -> tuple[tf.Tensor, ...]:
        output = text_tagger.tag_tokens(token_ids)
        entities = text_tagger.decode(output.logits, token_ids, start, end)
        return *_flat(entities), tf.reduce_sum(output.layer_weights, axis=0)

    def evaluate(texts: TokenizedTexts) -> tuple[StrictReport, np.ndarray]:
        report = StrictReport()
        weight_sum = np.zeros([text_tagger.tagger.encoder_config.num_layers])
        for gold_of_texts, tokens in _batches(texts):
            *entities, weights = (tensor.numpy() for tensor in predict(*tokens))
            weight_sum += weights
            for gold, (found, _) in zip(gold_of_texts, _by_text(types, *entities), strict=True):
                report += count_entities(gold, found)
        return report, weight_sum / max(len(texts.token_ids), 1)

    return evaluate


def scorer_of(text_tagger: TextTagger, tags: Sequence[str], texts: TokenizedTexts) -> Callable[[float], ScoredEntities]:
    """Returns a function that gives the predicted entities of `texts` with their scores at a temperature.

    The encoder runs once, now: the logits are kept, K floats a token.
    """
    types = entity_types(tags)

    @tf.function(input_signature=[_TOKENS], autograph=False)
    def classify(token_ids: tf.RaggedTensor) -> tf.Tensor:
        return text_tagger.tag_tokens(token_ids).logits

    @tf.function(
        input_signature=[tf.TensorSpec([None, len(tags)]), *[_TOKENS] * 3, tf.TensorSpec([], tf.float64)],
        autograph=False,
    )
    def decode(logits: tf.Tensor, *tokens_and_temperature: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return _flat(text_tagger.decode(logits, *tokens_and_temperature))

    batches = [(gold_of_texts, (classify(tokens[0]), *tokens)) for gold_of_texts, tokens in _batches(texts)]

    def score(temperature: float) -> ScoredEntities:
        calibration, all_scores, right = Calibration(), [np.zeros([0])], []
        for gold_of_texts, arguments in batches:
            entities = (tensor.numpy() for tensor in decode(*arguments, tf.constant(temperature, tf.float64)))
            for gold, (found, scores) in zip(gold_of_texts, _by_text(types, *entities), strict=True):
                calibration += count_scores(gold, found, scores.tolist())
                right += [entity in gold for entity in found]
                all_scores.append(scores.astype(np.float64))
        return ScoredEntities(np.concatenate(all_scores), np.array(right, dtype=bool), calibration)

    return score


def _batches(texts: TokenizedTexts) -> Iterator[tuple[Sequence[tuple[Entity, ...]], tuple[tf.RaggedTensor, ...]]]:
    """Yields runs of texts: the gold entities of each, and token ids, starts and ends, int32 [B, (tokens)]."""
    for first, end in text_batches(texts.row_splits, batch_tokens=CHUNK_TOKENS):
        splits = texts.row_splits[first : end + 1]
        tokens = slice(int(splits[0]), int(splits[-1]))
        yield (
            texts.entities[first:end],
            tuple(
                tf.RaggedTensor.from_row_splits(values[tokens], splits - splits[0], validate=False)
                for values in (texts.token_ids, texts.token_start, texts.token_end)
            ),
        )


def _flat(entities: Entities) -> tuple[tf.Tensor, ...]:
    return entities.start.row_splits, *(part.flat_values for part in entities)


def _by_text(
    types: Sequence[str],
    rows: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    type_ids: np.ndarray,
    scores: np.ndarray,
) -> Iterator[tuple[list[Entity], np.ndarray]]:
    """Yields the entities of each text, and their scores [E], from what `_flat` returned."""
    found = [Entity(*row) for row in zip(starts.tolist(), ends.tolist(), (types[i] for i in type_ids), strict=True)]
    for first, end in itertools.pairwise(rows):
        yield found[first:end], scores[first:end]
