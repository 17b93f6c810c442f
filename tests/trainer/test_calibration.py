"""The temperature: found where there is evidence, left alone where there is none, and it changes no entity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.evaluator.calibration import Calibration
from components.trainer.calibration import ScoredEntities, fit_temperature
from components.trainer.encoder_config import EncoderConfig
from components.trainer.run import calibrate, run_fn
from components.trainer.settings import TrainerSettings
from components.trainer.tagger import FusionTagger
from components.trainer.text_tagger import TextTagger
from components.trainer.training_data import read_texts


def entities_of(true_temperature: float, count: int):
    """Entities whose scores are right at `true_temperature`: the log odds are those at 1, divided by it."""
    generator = np.random.default_rng(1)
    log_odds = 3 * generator.normal(size=count) + 2
    is_right = generator.random(count) < 1 / (1 + np.exp(-log_odds / true_temperature))
    return lambda temperature: ScoredEntities(1 / (1 + np.exp(-log_odds / temperature)), is_right, Calibration())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(temperature):
    fitted = fit_temperature(entities_of(temperature, 20_000))
    assert fitted.note == ""
    assert fitted.temperature == pytest.approx(temperature, rel=0.1)


@pytest.mark.parametrize(
    ("right", "wrong", "note"),
    [
        pytest.param(0, 0, "0 predicted entities on dev, fewer than 50: nothing to fit", id="none"),
        pytest.param(30, 19, "49 predicted entities on dev, fewer than 50: nothing to fit", id="few"),
        pytest.param(60, 4, "60 right and 4 wrong entities on dev, fewer than 5 of a kind", id="hardly one wrong"),
        pytest.param(0, 60, "0 right and 60 wrong entities on dev, fewer than 5 of a kind", id="all wrong"),
    ],
)
def test_little_evidence_fits_nothing(right, wrong, note):
    is_right = np.arange(right + wrong) < right

    def score(temperature):
        assert temperature == 1.0
        return ScoredEntities(np.full(right + wrong, 0.9), is_right, Calibration())

    fitted = fit_temperature(score)
    assert fitted.temperature == 1.0
    assert fitted.note.startswith(note)


@pytest.mark.parametrize("right", [True, False])
def test_certain_scores_leave_a_finite_loss(right):
    assert np.isfinite(ScoredEntities(np.ones(3), np.full(3, right), Calibration()).log_loss)


def test_training_fits_it_on_dev_and_the_model_keeps_it(training_arguments, transformed_examples, monkeypatch):
    monkeypatch.setattr("components.trainer.calibration.LEAST_ENTITIES", 2)
    monkeypatch.setattr("components.trainer.calibration.LEAST_OF_EACH", 0)
    training_arguments.custom_config["serving_warm_up"] = {"lengths": [8], "batch_sizes": [1]}
    run_fn(training_arguments)
    report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
    fitted = report["calibration"]
    # All entities of dev are found: the more certain the better.
    assert fitted["temperature"] < 0.9
    assert fitted["dev"]["expected_calibration_error"] < fitted["dev"]["expected_calibration_error_before"]
    assert fitted["dev"]["entities"] == sum(each["predicted"] for each in fitted["dev"]["bins"])
    compare = tf.saved_model.load(training_arguments.serving_model_dir).signatures["examples"]
    scores = compare(examples=tf.constant(transformed_examples))["predicted_score"].numpy()
    assert np.count_nonzero(scores) == fitted["dev"]["entities"]
    assert 1 - scores[scores > 0].mean() == pytest.approx(fitted["dev"]["expected_calibration_error"], abs=1e-5)


def test_none_leaves_the_scores_alone(training_arguments, tiny_vocabulary, tiny_tags):
    dev = read_texts(training_arguments.eval_files, split="dev")
    config = EncoderConfig(vocab_size=len(tiny_vocabulary), hidden_size=8, num_layers=1, num_heads=2, max_positions=16)
    text_tagger = TextTagger(
        FusionTagger(config, len(tiny_tags), seed=1), cls_id=2, sep_id=3, window=8, overlap=2, continuation=None
    )
    fitted = calibrate(text_tagger, TrainerSettings(calibration="none"), tiny_tags, dev)
    assert (fitted.temperature, fitted.note, text_tagger.temperature) == (1.0, "trainer.calibration is none", 1.0)
