"""One number, fitted on the dev set, that turns scores into probabilities of being right: the temperature."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from components.evaluator.calibration import Calibration

# Fewer predictions, or fewer right or wrong ones, fit noise.
LEAST_ENTITIES = 50
LEAST_OF_EACH = 5
RANGE = (0.25, 10.0)
# Relative precision of the temperature.
TOLERANCE = 0.01


@dataclasses.dataclass(frozen=True)
class ScoredEntities:
    """Predicted entities of the dev set.

    Args:
        scores: float64 [E].
        is_right: bool [E], whether it is a gold entity.
        calibration: the same by bins.
    """

    scores: np.ndarray
    is_right: np.ndarray
    calibration: Calibration

    @property
    def log_loss(self) -> float:
        """The mean negative log-likelihood of being right or wrong, the score being the probability of being right."""
        scores = np.clip(self.scores, 1e-7, 1.0 - 1e-7)
        return float(-np.mean(np.log(np.where(self.is_right, scores, 1.0 - scores))))


@dataclasses.dataclass(frozen=True)
class FittedTemperature:
    """The result of `fit_temperature`.

    Args:
        temperature: 1 where nothing was fitted.
        note: why nothing was fitted; "" if it was.
        before: the dev set at the temperature 1.
        after: the dev set at `temperature`.
    """

    temperature: float
    note: str
    before: Calibration
    after: Calibration

    def to_json(self) -> dict[str, Any]:
        """Returns what `training.json` says of it."""
        return {
            "temperature": self.temperature,
            "note": self.note,
            "dev": {
                "entities": self.before.predicted,
                "expected_calibration_error_before": self.before.expected_calibration_error,
                "expected_calibration_error": self.after.expected_calibration_error,
                "bins": self.after.to_json()["bins"],
            },
        }


def fit_temperature(score: Callable[[float], ScoredEntities]) -> FittedTemperature:
    """Finds the temperature at which the scores of the predicted entities say best whether they are right.

    Args:
        score: returns the predicted entities of the dev set with their scores at a temperature. Which entities these
            are does not depend on it.
    """
    before = score(1.0)
    right, wrong = int(np.sum(before.is_right)), int(np.sum(~before.is_right))
    note = ""
    if right + wrong < LEAST_ENTITIES:
        note = f"{right + wrong} predicted entities on dev, fewer than {LEAST_ENTITIES}: nothing to fit"
    elif min(right, wrong) < LEAST_OF_EACH:
        note = f"{right} right and {wrong} wrong entities on dev, fewer than {LEAST_OF_EACH} of a kind: nothing to fit"
    if note:
        return FittedTemperature(1.0, note, before.calibration, before.calibration)
    bounds = tuple(math.log(value) for value in RANGE)
    found = minimize_scalar(
        lambda value: score(math.exp(value)).log_loss, bounds=bounds, method="bounded", options={"xatol": TOLERANCE}
    )
    temperature = math.exp(found.x)
    return FittedTemperature(temperature, "", before.calibration, score(temperature).calibration)
