"""Strict scores of a model on tokenized texts, by the graph that serves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from components.annotated_text import Entity
from components.evaluator.calibration import Calibration, count_scores
from components.evaluator.entity_scores import StrictReport, count_entities
from components.trainer.calibration import ScoredEntities
from components.trainer.decoding import Entities, entity_types
from components.trainer.settings import TrainerSettings
from components.trainer.text_tagger import CHUNK_TOKENS, TextTagger
from components.trainer.training_data import TokenizedTexts, text_batches

# What `transition_weight` is chosen from.
TRANSITION_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


class Evaluation(NamedTuple):
    """Scores of the model on a set of texts.

    Args:
        report: strict, at `transition_weight`.
        transition_weight: the one with the best F1 of those that were tried.
        layer_weights: float64 [L], mean weight of each encoder layer over all tokens.
    """

    report: StrictReport
    transition_weight: float
    layer_weights: np.ndarray


Evaluate = Callable[[TokenizedTexts], Evaluation]
Score = Callable[[float, float], ScoredEntities]

_TOKENS = tf.RaggedTensorSpec([None, None], tf.int32, row_splits_dtype=tf.int64)


def transition_weights(text_tagger: TextTagger, settings: TrainerSettings) -> tuple[float, ...]:
    """Returns the transition weights of which the dev set chooses one."""
    if not text_tagger.has_counted_transitions:
        return (1.0,)  # any: it makes no difference
    return TRANSITION_WEIGHTS if settings.transition_weight is None else (settings.transition_weight,)


def best_weight(f1: Mapping[float, float]) -> float:
    """Returns the weight with the greatest F1; of several the smallest, which trusts the classifier most."""
    return min(f1, key=lambda weight: (-f1[weight], weight))


def evaluator_of(text_tagger: TextTagger, tags: Sequence[str], weights: Sequence[float]) -> Evaluate:
    """Returns a function that scores the model as it stands, against all gold entities, unaligned ones too.

    Make it once: its graphs are traced at the first call.

    Args:
        text_tagger: the model.
        tags: in id order.
        weights: the transition weights to try.
    """
    types = entity_types(tags)
    classify = _classifier_of(text_tagger)

    @tf.function(
        input_signature=[tf.TensorSpec([None, len(tags)]), *[_TOKENS] * 3, tf.TensorSpec([])],
        autograph=False,
    )
    def decode(logits: tf.Tensor, *tokens_and_weight: tf.Tensor) -> tuple[tf.Tensor, ...]:
        *tokens, weight = tokens_and_weight
        # Without the scores, which cost more than all the rest.
        return _flat(text_tagger.decode(logits, *tokens, transition_weight=weight))[:-1]

    def evaluate(texts: TokenizedTexts) -> Evaluation:
        reports = dict.fromkeys(weights, StrictReport())
        layer_weights = np.zeros([text_tagger.tagger.encoder_config.num_layers])
        for gold_of_texts, tokens in _batches(texts):
            logits, layer_weights_of_batch = classify(tokens[0])
            layer_weights += layer_weights_of_batch.numpy()
            for weight in weights:
                rows, *spans = (tensor.numpy() for tensor in decode(logits, *tokens, tf.constant(weight, tf.float32)))
                for gold, found in zip(gold_of_texts, _by_text(types, rows, *spans), strict=True):
                    reports[weight] += count_entities(gold, found)
        best = best_weight({weight: report.micro.scores().f1 for weight, report in reports.items()})
        return Evaluation(reports[best], best, layer_weights / max(len(texts.token_ids), 1))

    return evaluate


def scorer_of(text_tagger: TextTagger, tags: Sequence[str], texts: TokenizedTexts) -> Score:
    """Returns a function that gives the predicted entities of `texts` with their scores.

    It takes a temperature and a transition weight. The encoder runs once, now: the logits are kept, K floats a token.
    """
    types = entity_types(tags)
    classify = _classifier_of(text_tagger)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, len(tags)]), *[_TOKENS] * 3, tf.TensorSpec([], tf.float64), tf.TensorSpec([])
        ],
        autograph=False,
    )  # fmt: skip
    def decode(logits: tf.Tensor, *arguments: tf.Tensor) -> tuple[tf.Tensor, ...]:
        *tokens, temperature, weight = arguments
        return _flat(text_tagger.decode(logits, *tokens, temperature=temperature, transition_weight=weight))

    batches = [(gold_of_texts, (classify(tokens[0])[0], *tokens)) for gold_of_texts, tokens in _batches(texts)]

    def score(temperature: float, transition_weight: float) -> ScoredEntities:
        calibration, all_scores, right = Calibration(), [np.zeros([0])], []
        options = tf.constant(temperature, tf.float64), tf.constant(transition_weight, tf.float32)
        for gold_of_texts, arguments in batches:
            rows, *spans, scores_of_batch = (tensor.numpy() for tensor in decode(*arguments, *options))
            scores_of_texts = np.split(scores_of_batch, rows[1:-1])
            found_of_texts = _by_text(types, rows, *spans)
            for gold, found, scores in zip(gold_of_texts, found_of_texts, scores_of_texts, strict=True):
                calibration += count_scores(gold, found, scores.tolist())
                right += [entity in gold for entity in found]
                all_scores.append(scores.astype(np.float64))
        return ScoredEntities(np.concatenate(all_scores), np.array(right, dtype=bool), calibration)

    return score


def _classifier_of(text_tagger: TextTagger) -> Callable[[tf.RaggedTensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns the graph from tokens to logits, float32 [N, K], and summed layer weights, float32 [L]."""

    @tf.function(input_signature=[_TOKENS], autograph=False)
    def classify(token_ids: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        output = text_tagger.tag_tokens(token_ids)
        return output.logits, tf.reduce_sum(output.layer_weights, axis=0)

    return classify


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
) -> Iterator[list[Entity]]:
    """Yields the entities of each text from what `_flat` returned, but for the scores."""
    found = [Entity(*row) for row in zip(starts.tolist(), ends.tolist(), (types[i] for i in type_ids), strict=True)]
    for first, end in itertools.pairwise(rows):
        yield found[first:end]
