"""What an evaluation found, read back from its artifacts: the exact report, and the blessing with its reasons."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma

from components.evaluator.calibration import BIN_COUNT, Bin, Calibration
from components.evaluator.entity_scores import Counts, StrictReport
from components.evaluator.metrics import CALIBRATION_ERROR, COUNTS, TEXTS, bin_name

BLESSED_FILE = "BLESSED"
NOT_BLESSED_FILE = "NOT_BLESSED"

# The name of the model in the results where it was compared with a baseline; a model that stood alone has none.
CANDIDATE = "candidate"


class EvaluationError(RuntimeError):
    """Raised when the results of an evaluation are missing or incomplete."""


@dataclasses.dataclass(frozen=True)
class GateFailure:
    """A gate that the model did not pass.

    Args:
        metric: the metric, as `f1` or `f1/LOC`.
        value: what the model reached, or what it gained on the baseline where `is_change`; None if nothing
            was measured.
        bound: the least value that passes.
        is_change: whether value and bound are differences to the baseline model.
    """

    metric: str
    value: float | None
    bound: float
    is_change: bool = False

    def __str__(self) -> str:
        value = "nothing" if self.value is None else f"{self.value:.4f}"
        name = f"the change of {self.metric} against the baseline" if self.is_change else self.metric
        return f"{name} is {value}, the gate asks for {self.bound:.4f} at least"


@dataclasses.dataclass(frozen=True)
class Blessing:
    """Whether a model passed its gates, and which ones it failed."""

    blessed: bool
    failures: tuple[GateFailure, ...] = ()


def read_report(evaluation_uri: str, expected_texts: int | None = None) -> StrictReport:
    """Reads the strict report of the candidate from a ModelEvaluation artifact, exactly: whole counts, not ratios.

    Args:
        evaluation_uri: the folder of the artifact.
        expected_texts: how many texts must have been evaluated, if known.

    Raises:
        EvaluationError: there is no result, or the number of evaluated texts differs from `expected_texts`.
    """
    values = _candidate_values(evaluation_uri)
    if TEXTS not in values:
        raise EvaluationError(
            f"{evaluation_uri} holds no strict entity counts; was the evaluated split empty, or the evaluation made "
            "by another program?"
        )
    counts: dict[str, dict[str, int]] = collections.defaultdict(dict)
    for name, value in values.items():
        statistic, separator, entity_type = name.partition("/")
        if separator and statistic in COUNTS:
            counts[entity_type][statistic] = round(value)
    report = StrictReport(
        texts=round(values[TEXTS]),
        per_type={entity_type: Counts(**each) for entity_type, each in sorted(counts.items())},
    )
    if expected_texts is not None and report.texts != expected_texts:
        raise EvaluationError(
            f"{report.texts} texts were evaluated, the split has {expected_texts}; the scores do not describe the split"
        )
    return report


def read_calibration(evaluation_uri: str) -> Calibration | None:
    """Reads the calibration of the candidate's scores; None if it was not measured.

    Raises:
        EvaluationError: there is no result.
    """
    values = _candidate_values(evaluation_uri)
    if CALIBRATION_ERROR not in values:
        return None

    def value(name: str, index: int) -> float:
        return values.get(bin_name(name, index), 0.0)

    return Calibration(
        tuple(
            Bin(round(value("predicted", i)), round(value("true_positive", i)), value("score_sum", i))
            for i in range(BIN_COUNT)
        )
    )


def read_blessing(blessing_uri: str, evaluation_uri: str) -> Blessing:
    """Reads from the artifacts of an evaluation whether the model was blessed, and if not, why.

    Raises:
        EvaluationError: no decision was made.
    """
    if tf.io.gfile.exists(os.path.join(blessing_uri, BLESSED_FILE)):
        return Blessing(blessed=True)
    if not tf.io.gfile.exists(os.path.join(blessing_uri, NOT_BLESSED_FILE)):
        raise EvaluationError(f"{blessing_uri} holds no decision; the evaluation did not finish or had no gate")
    validation = tfma.load_validation_result(evaluation_uri)
    failures = tuple(
        _gate_failure(failure) for each in validation.metric_validations_per_slice for failure in each.failures
    )
    return Blessing(blessed=False, failures=tuple(dict.fromkeys(failures)))


def count_examples(split_folder: str, split: str = "") -> int:
    """Counts the records of the TFRecord files of a split.

    Raises:
        EvaluationError: the split has no example.
    """
    files = sorted(tf.io.gfile.glob(os.path.join(split_folder, "*")))
    counted = sum(1 for _ in tf.data.TFRecordDataset(files, compression_type=_compression(files))) if files else 0
    if not counted:
        raise EvaluationError(f"the split {split or split_folder} has no example; there is nothing to evaluate")
    return counted


def _compression(files: list[str]) -> str:
    return "GZIP" if all(pathlib.PurePath(file).suffix == ".gz" for file in files) else ""


def _candidate_values(evaluation_uri: str) -> dict[str, float]:
    try:
        slices = list(tfma.load_metrics(evaluation_uri))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise EvaluationError(f"{evaluation_uri} holds no results of an evaluation: {error}") from error
    return {
        entry.key.name: entry.value.double_value.value
        for metrics in slices
        if not metrics.slice_key.single_slice_keys
        for entry in metrics.metric_keys_and_values
        if entry.key.model_name in (CANDIDATE, "") and not entry.key.is_diff
    }


def _gate_failure(failure: Any) -> GateFailure:
    threshold = failure.metric_threshold
    is_change = threshold.HasField("change_threshold")
    bound = threshold.change_threshold.absolute.value if is_change else threshold.value_threshold.lower_bound.value
    value = failure.metric_value.double_value.value if failure.HasField("metric_value") else None
    return GateFailure(failure.metric_key.name, value, bound, is_change)
