"""The temperature: found where there is evidence, left alone where there is none, and it changes no entity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.evaluator.calibration import Calibration
from components.trainer.calibration import ScoredEntities, fit_temperature
from components.trainer.run import run_fn


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


def test_training_fits_it_on_dev_and_the_model_keeps_it(training_arguments, monkeypatch):
    monkeypatch.setattr("components.trainer.calibration.LEAST_ENTITIES", 2)
    monkeypatch.setattr("components.trainer.calibration.LEAST_OF_EACH", 0)
    answers = {}
    for calibration in ("none", "temperature"):
        training_arguments.custom_config["calibration"] = calibration
        training_arguments.model_run_dir += calibration
        training_arguments.serving_model_dir += calibration
        run_fn(training_arguments)
        report = json.loads((Path(training_arguments.model_run_dir) / "training.json").read_text(encoding="utf-8"))
        tag = tf.saved_model.load(training_arguments.serving_model_dir).signatures["serving_default"]
        answers[calibration] = (report["calibration"], tag(text=tf.constant(["张三在北京工作。"])))
    (unfitted, before), (fitted, after) = answers["none"], answers["temperature"]
    assert (unfitted["temperature"], unfitted["note"]) == (1.0, "trainer.calibration is none")
    assert unfitted["dev"]["expected_calibration_error"] == unfitted["dev"]["expected_calibration_error_before"]
    assert fitted["dev"]["expected_calibration_error_before"] == unfitted["dev"]["expected_calibration_error"]
    # All entities of dev are found: the more certain the better.
    assert fitted["temperature"] < 0.9
    assert fitted["dev"]["expected_calibration_error"] < fitted["dev"]["expected_calibration_error_before"]
    assert fitted["dev"]["entities"] == sum(each["predicted"] for each in fitted["dev"]["bins"])
    assert before["entity_start"].numpy().tolist() == after["entity_start"].numpy().tolist()
    assert np.all(before["entity_score"].numpy() < after["entity_score"].numpy())
