"""The Evaluator of the pipeline: TFX's, over the raw examples, with the gates of `EvaluatorSettings`."""

from __future__ import annotations

import json
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import wrappers_pb2
from tfx import types
from tfx.components.evaluator.component import Evaluator as TfxEvaluator
from tfx.dsl.components.base import executor_spec

from components.evaluator.executor import Executor
from components.evaluator.metrics import EntityCalibration, EntityCounts, EntityScore
from components.evaluator.results import CANDIDATE
from components.evaluator.settings import EvaluatorSettings
from components.features import EXAMPLES_SIGNATURE

BASELINE = "baseline"


class Evaluator(TfxEvaluator):
    """Scores a model strictly by entity and blesses it when it passes every gate.

    The model is called through its `examples` signature with the raw examples, so tokenization and alignment are part
    of what is measured: an entity that tokenization cannot represent counts as missed.

    Args:
        examples: what ExampleGen left (not Transform: gold entities are those of the corpus).
        model: the exported model.
        settings: the split and the gates.
        baseline_model: the model to compare with when `settings.maximum_f1_drop` is set; its `examples` signature has
            to be the same. The channel may be empty.

    Raises:
        ValueError: only one of `baseline_model` and `settings.maximum_f1_drop` is given.

    Outputs: `evaluation` (ModelEvaluation) and `blessing` (ModelBlessing); `components.evaluator.results` reads both.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: types.BaseChannel,
        model: types.BaseChannel,
        settings: EvaluatorSettings,
        baseline_model: types.BaseChannel | None = None,
    ) -> None:
        if (baseline_model is None) != (settings.maximum_f1_drop is None):
            raise ValueError(
                "a comparison needs both a baseline model and maximum_f1_drop; received "
                f"baseline_model={baseline_model!r}, maximum_f1_drop={settings.maximum_f1_drop!r}"
            )
        super().__init__(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            eval_config=evaluation_config(settings),
            example_splits=[settings.split],
        )


def evaluation_config(settings: EvaluatorSettings) -> tfma.EvalConfig:
    """Returns TFMA's configuration: the metrics, each with its gate."""
    # TFMA asks for a name for each of two models, and for none where one stands alone.
    if settings.maximum_f1_drop is None:
        model_specs = [tfma.ModelSpec(signature_name=EXAMPLES_SIGNATURE)]
    else:
        model_specs = [
            tfma.ModelSpec(name=CANDIDATE, signature_name=EXAMPLES_SIGNATURE),
            tfma.ModelSpec(name=BASELINE, signature_name=EXAMPLES_SIGNATURE, is_baseline=True),
        ]
    metrics = [
        _metric(EntityCounts()),
        _metric(EntityCalibration()),
        _metric(EntityScore("f1"), _threshold(minimum=settings.minimum_f1, maximum_drop=settings.maximum_f1_drop)),
        _metric(EntityScore("precision"), _threshold(minimum=settings.minimum_precision)),
        _metric(EntityScore("recall"), _threshold(minimum=settings.minimum_recall)),
    ]
    metrics += [
        _metric(EntityScore("f1", entity_type), _threshold(minimum=minimum))
        for entity_type, minimum in sorted(settings.minimum_f1_per_type.items())
    ]
    return tfma.EvalConfig(
        model_specs=model_specs, slicing_specs=[tfma.SlicingSpec()], metrics_specs=[tfma.MetricsSpec(metrics=metrics)]
    )


def _metric(metric: Any, threshold: tfma.MetricThreshold | None = None) -> tfma.MetricConfig:
    # The threshold stands in the metric's own entry: `metrics_specs.thresholds` knows only metrics inside the model.
    return tfma.MetricConfig(
        class_name=type(metric).__name__,
        module=type(metric).__module__,
        config=json.dumps(metric.get_config(), sort_keys=True),
        threshold=threshold,
    )


def _threshold(minimum: float | None, maximum_drop: float | None = None) -> tfma.MetricThreshold | None:
    threshold = tfma.MetricThreshold()
    if minimum is not None:
        threshold.value_threshold.lower_bound.CopyFrom(wrappers_pb2.DoubleValue(value=minimum))
    if maximum_drop is not None:
        threshold.change_threshold.direction = tfma.MetricDirection.HIGHER_IS_BETTER
        threshold.change_threshold.absolute.CopyFrom(wrappers_pb2.DoubleValue(value=-maximum_drop))
    return threshold if threshold.ByteSize() else None
