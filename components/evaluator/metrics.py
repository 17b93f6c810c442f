"""Strict entity scores as TFMA metrics, computed by Beam from what the model's `examples` signature returns.

Beam adds up the counts of `entity_scores.StrictReport`; every number is derived from their sum. `EntityScore` is one
number that may carry a threshold, `EntityCounts` reports all counts, so that the exact report can be read back.

A metric key names what it holds: `f1`, `precision`, `recall` are micro scores, `f1/LOC` is the score of the type LOC.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types

from components.annotated_text import Entity
from components.evaluator.calibration import BIN_COUNT, Calibration, count_scores
from components.evaluator.entity_scores import Counts, StrictReport, count_entities
from components.features import GOLD_ENTITIES, PREDICTED_ENTITIES, PREDICTED_SCORE

STATISTICS = ("precision", "recall", "f1")
COUNTS = ("true_positive", "predicted", "gold")
TEXTS = "texts"
CALIBRATION_ERROR = "expected_calibration_error"
# What each bin of the scores holds, as `score_bin_predicted/03`.
BIN_SUMS = ("predicted", "true_positive", "score_sum")

# TFMA drops metrics whose names begin with one underscore once the derived metrics are computed.
_REPORT = "_strict_report"
_CALIBRATION = "_calibration"


def metric_name(statistic: str, entity_type: str | None = None) -> str:
    """Returns the name of a number in TFMA's results.

    Example:
        >>> metric_name("f1", "LOC")
        'f1/LOC'
    """
    return statistic if entity_type is None else f"{statistic}/{entity_type}"


def bin_name(value: str, index: int) -> str:
    """Returns the name of a number of one bin in TFMA's results.

    Example:
        >>> bin_name("predicted", 3)
        'score_bin_predicted/03'
    """
    return f"score_bin_{value}/{index:02d}"


def parse_entity(cell: bytes | str) -> Entity:
    """Reads one cell of the `examples` signature, "start<TAB>end<TAB>type".

    Raises:
        AnnotationError: the span is empty or negative, or the type is empty.
        ValueError: the cell does not have that form.

    Example:
        >>> parse_entity(b"0\\t2\\tLOC")
        Entity(start=0, end=2, type='LOC')
    """
    text = cell.decode("utf-8") if isinstance(cell, bytes) else cell
    parts = text.split("\t", 2)
    if len(parts) != 3:
        raise ValueError(f"expected an entity as start<TAB>end<TAB>type; received {text!r}")
    return Entity(int(parts[0]), int(parts[1]), parts[2])


def parse_entities(cells: Iterable[bytes | str]) -> tuple[Entity, ...]:
    """Reads one row of the `examples` signature; empty cells are padding."""
    return tuple(parse_entity(cell) for cell in cells if cell)


class EntityScore(tfma.metrics.Metric):
    """One strict entity score: micro over all types, or that of one type.

    Args:
        statistic: "precision", "recall" or "f1".
        entity_type: the type, or None for the micro score. A type that does not occur scores 0.
        name: set by TFMA when it rebuilds the metric; it follows from the other arguments.

    Raises:
        ValueError: the statistic is unknown.
    """

    def __init__(self, statistic: str, entity_type: str | None = None, name: str | None = None) -> None:
        if statistic not in STATISTICS:
            raise ValueError(f"statistic: expected one of {', '.join(STATISTICS)}; received {statistic!r}")
        super().__init__(
            _score_computations,
            name=name or metric_name(statistic, entity_type),
            statistic=statistic,
            entity_type=entity_type,
        )


class EntityCounts(tfma.metrics.Metric):
    """The number of texts, and for every type that occurs its counts and scores; reported, never gated."""

    def __init__(self, name: str = TEXTS) -> None:
        super().__init__(functools.partial(_computations, _report_computation, _derive_counts), name=name)


class EntityCalibration(tfma.metrics.Metric):
    """The expected calibration error of the scores, and what each of their bins holds; reported, never gated.

    A model whose `examples` signature returns no scores has neither.
    """

    def __init__(self, name: str = CALIBRATION_ERROR) -> None:
        super().__init__(functools.partial(_computations, _calibration_computation, _derive_calibration), name=name)


def _score_computations(
    name: str,
    statistic: str,
    entity_type: str | None,
    eval_config: tfma.EvalConfig | None = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> list[Any]:
    derive = functools.partial(_derive_score, statistic=statistic, entity_type=entity_type)
    return _computations(
        _report_computation, derive, name, eval_config, model_names, output_names, example_weighted=example_weighted
    )


def _computations(
    sum_computation: Callable[[str], Any],
    derive: Callable[[str, str, dict[Any, Any]], dict[Any, float]],
    name: str,
    eval_config: tfma.EvalConfig | None = None,
    model_names: list[str] | None = None,
    output_names: list[str] | None = None,
    example_weighted: bool = False,
) -> list[Any]:
    """Returns, for each model, the sum over all texts and what `derive` makes of it; TFMA gives the rest by name."""
    del eval_config, output_names, example_weighted  # Each text counts once, whatever weight it carries.
    return [
        computation
        for model_name in model_names or [""]
        for computation in (
            sum_computation(model_name),
            metric_types.DerivedMetricComputation(
                keys=[_key(name, model_name)], result=functools.partial(derive, name, model_name)
            ),
        )
    ]


def _calibration_computation(model_name: str) -> Any:
    return metric_types.MetricComputation(
        keys=[_key(_CALIBRATION, model_name)], preprocessors=None, combiner=_CalibrationCombiner(model_name)
    )


def _derive_calibration(name: str, model_name: str, metrics: dict[Any, Any]) -> dict[Any, float]:
    calibration: Calibration | None = metrics[_key(_CALIBRATION, model_name)]
    if calibration is None:
        return {}
    numbers = {name: calibration.expected_calibration_error}
    for index in range(BIN_COUNT):
        numbers |= {
            bin_name(value, index): float(getattr(calibration.bins[index], value))
            for value in BIN_SUMS
            if calibration.bins[index].predicted
        }
    return {_key(each, model_name): value for each, value in numbers.items()}


def _derive_score(
    name: str, model_name: str, metrics: dict[Any, Any], *, statistic: str, entity_type: str | None
) -> dict[Any, float]:
    report: StrictReport = metrics[_key(_REPORT, model_name)]
    counts = report.micro if entity_type is None else report.per_type.get(entity_type, Counts())
    return {_key(name, model_name): getattr(counts.scores(), statistic)}


def _derive_counts(name: str, model_name: str, metrics: dict[Any, Any]) -> dict[Any, float]:
    report: StrictReport = metrics[_key(_REPORT, model_name)]
    numbers = {name: float(report.texts)}
    for entity_type, counts in report.per_type.items():
        scores = counts.scores()
        numbers |= {metric_name(each, entity_type): float(getattr(counts, each)) for each in COUNTS}
        numbers |= {metric_name(each, entity_type): getattr(scores, each) for each in STATISTICS}
    return {_key(each, model_name): value for each, value in numbers.items()}


def _report_computation(model_name: str) -> Any:
    # TFMA computes equal computations once, so every score may ask for the counts it needs.
    return metric_types.MetricComputation(
        keys=[_key(_REPORT, model_name)], preprocessors=None, combiner=_ReportCombiner(model_name)
    )


def _key(name: str, model_name: str) -> Any:
    return metric_types.MetricKey(name=name, model_name=model_name)


class _ReportCombiner(beam.CombineFn):
    """Adds up the strict report of one model."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name

    def create_accumulator(self) -> StrictReport:
        return StrictReport()

    def add_input(self, accumulator: StrictReport, element: Any) -> StrictReport:
        # With one model its outputs stand alone, with two they are keyed by the name of the model.
        outputs = element.get_predictions(self._model_name or None)
        gold, predicted = (
            parse_entities(np.ravel(outputs[feature]).tolist()) for feature in (GOLD_ENTITIES, PREDICTED_ENTITIES)
        )
        return accumulator + count_entities(gold, predicted)

    def merge_accumulators(self, accumulators: Iterable[StrictReport]) -> StrictReport:
        return sum(accumulators, StrictReport())

    def extract_output(self, accumulator: StrictReport) -> dict[Any, StrictReport]:
        return {_key(_REPORT, self._model_name): accumulator}


class _CalibrationCombiner(beam.CombineFn):
    """Adds up the calibration of one model; None stands for scores that it does not return."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name

    def create_accumulator(self) -> Calibration | None:
        return Calibration()

    def add_input(self, accumulator: Calibration | None, element: Any) -> Calibration | None:
        outputs = element.get_predictions(self._model_name or None)
        if accumulator is None or PREDICTED_SCORE not in outputs:
            return None
        gold = parse_entities(np.ravel(outputs[GOLD_ENTITIES]).tolist())
        cells, scores = (np.ravel(outputs[feature]).tolist() for feature in (PREDICTED_ENTITIES, PREDICTED_SCORE))
        count = len([cell for cell in cells if cell])  # padding stands behind them
        return accumulator + count_scores(gold, parse_entities(cells[:count]), scores[:count])

    def merge_accumulators(self, accumulators: Iterable[Calibration | None]) -> Calibration | None:
        total = Calibration()
        for accumulator in accumulators:
            if accumulator is None:
                return None
            total += accumulator
        return total

    def extract_output(self, accumulator: Calibration | None) -> dict[Any, Calibration | None]:
        return {_key(_CALIBRATION, self._model_name): accumulator}
