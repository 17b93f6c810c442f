"""Settings of the evaluation are refused before anything runs."""

from __future__ import annotations

import pytest

from components.evaluator.settings import EvaluatorSettings
from components.settings import SettingsError, parse_settings, settings_to_json


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"minimum_f1": 55}, "minimum_f1: expected a number from 0 to 1; received 55", id="percent"),
        pytest.param({"maximum_f1_drop": -0.1}, "maximum_f1_drop", id="negative drop"),
        pytest.param({"minimum_f1_per_type": {"LOC": 2.0}}, "minimum_f1_per_type.LOC", id="type out of range"),
        pytest.param({"split": ""}, "split", id="no split"),
        pytest.param({"minimum_f2": 0.5}, "Did you mean 'minimum_f1'", id="unknown"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")):
        parse_settings(EvaluatorSettings, values, "evaluator")


def test_settings_survive_json():
    settings = EvaluatorSettings(minimum_f1=0.5, minimum_recall=0.25, minimum_f1_per_type={"LOC": 0.5})

    assert parse_settings(EvaluatorSettings, settings_to_json(settings)) == settings
