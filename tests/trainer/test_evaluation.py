"""Scores on the dev set, and the transition weight that it chooses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from components.annotated_text import Entity
from components.trainer.evaluation import (
    TRANSITION_WEIGHTS,
    best_weight,
    evaluator_of,
    scorer_of,
    transition_weights,
)
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training_data import TokenizedTexts
from tests.trainer.tiny_taggers import TINY, random_tagger

TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def text_tagger_of(tagger: FusionTagger, transitions: np.ndarray | None) -> TextTagger:
    return TextTagger(tagger, cls_id=2, sep_id=3, window=24, overlap=4, continuation=None, transitions=transitions)


@pytest.mark.parametrize(
    ("f1", "expected"),
    [
        pytest.param({0.0: 0.1, 0.5: 0.4, 1.0: 0.3}, 0.5, id="the greatest"),
        pytest.param({0.0: 0.1, 0.5: 0.4, 1.0: 0.4}, 0.5, id="of two the smaller"),
        pytest.param({0.5: 0.0}, 0.5, id="the only one"),
    ],
)
def test_best_weight(f1, expected):
    assert best_weight(f1) == expected


@pytest.mark.parametrize(
    ("setting", "counted", "expected"),
    [
        pytest.param(None, True, TRANSITION_WEIGHTS, id="left open"),
        pytest.param(0.3, True, (0.3,), id="set"),
        pytest.param(None, False, (1.0,), id="nothing to weigh"),
    ],
)
def test_weights_to_try(setting, counted, expected):
    text_tagger = text_tagger_of(random_tagger(), np.zeros([6, 6], np.float32) if counted else None)
    assert transition_weights(text_tagger, TrainerSettings(transition_weight=setting)) == expected


def dev_texts() -> TokenizedTexts:
    """Texts of random tokens, without gold entities yet."""
    generator = np.random.default_rng(5)
    row_splits = np.array([0, 30, 31, 31, 60])
    token_ids = generator.integers(4, TINY.vocab_size, 60).astype(np.int32)
    places = np.arange(60, dtype=np.int32)
    return TokenizedTexts(
        token_ids=token_ids,
        token_start=places,
        token_end=places + 1,
        tag_ids=np.zeros(60, np.int32),
        row_splits=row_splits,
        entities=((),) * 4,
        unaligned=0,
    )


@pytest.mark.parametrize("best", [0.0, 0.5, 2.0])
def test_the_weight_is_chosen_that_finds_the_gold_entities(best):
    """Gold is what the model finds at one weight; at others it finds something else."""
    transitions = np.random.default_rng(2).normal(size=[6, 6]).astype(np.float32)
    tagger = random_tagger()
    # So that neither logits nor transitions alone decide.
    tagger.named_variables()["output_weights"].assign(np.random.default_rng(1).normal(size=[5, 16]) / 4)
    tagger.named_variables()["output_bias"].assign(np.zeros(5))
    text_tagger = text_tagger_of(tagger, transitions)
    texts = dev_texts()
    text_tagger.transition_weight = best
    entities = text_tagger.find_entities(*(ragged(texts, name) for name in ("token_ids", "token_start", "token_end")))
    gold = tuple(
        tuple(Entity(start, end, ("LOC", "PER")[kind]) for start, end, kind in zip(*row, strict=True))
        for row in zip(entities.start.to_list(), entities.end.to_list(), entities.type_id.to_list(), strict=True)
    )
    texts = dataclasses.replace(texts, entities=gold)
    weights = (0.0, 0.5, 2.0)
    evaluation = evaluator_of(text_tagger, TAGS, weights)(texts)
    assert evaluation.transition_weight == best
    assert evaluation.report.micro.scores().f1 == 1.0
    score = scorer_of(text_tagger, TAGS, texts)
    f1 = {weight: score(1.0, weight).calibration.scores(texts.entity_count).f1 for weight in weights}
    assert f1[best] == 1.0
    assert sorted(f1.values())[1] < 1.0


def ragged(texts: TokenizedTexts, name: str):
    return tf.RaggedTensor.from_row_splits(getattr(texts, name), texts.row_splits)
