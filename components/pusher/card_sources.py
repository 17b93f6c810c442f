"""What a model card says, gathered from the artifacts of a run: examples, training, evaluation, infra validation."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_model_analysis as tfma
from google.protobuf import json_format

from components.evaluator.results import read_calibration, read_report
from components.pusher.model_card import ModelCard

_SPLIT_DIGEST = ",sha256:"
_EVALUATION_CONFIG = "eval_config.json"
_VALIDATION_REPORT = "infra_validation.json"


def gather_card(
    name: str,
    *,
    examples: str | None = None,
    input_fingerprint: str = "",
    model_run: str | None = None,
    evaluation: str | None = None,
    infra_blessing: str | None = None,
) -> ModelCard:
    """Returns the card of a model that is about to be published; version, time and digest are still to be filled in.

    Args:
        name: of the model.
        examples: the folder of the Examples artifact; None leaves its section empty, as with the other folders.
        input_fingerprint: what ExampleGen's driver says of the files that it read; "" if that is unknown.
        model_run: the folder of the ModelRun artifact, with `training.json`.
        evaluation: the folder of the ModelEvaluation artifact.
        infra_blessing: the folder of the InfraBlessing artifact; one of another component has no report to read.

    Raises:
        OSError: a folder lacks its report.
        ValueError: a report is damaged.
        EvaluationError: the folder holds no evaluation.
    """
    training = {} if model_run is None else _read_json(model_run, "training.json")
    return ModelCard(
        name=name,
        version=0,
        created="",
        digest="",
        types=entity_types(training.get("tags", ())),
        model=model_section(training) if training else {},
        tokenizer=training.get("tokenizer", {}),
        data={} if examples is None else data_section(_read_json(examples, "report.json"), input_fingerprint),
        training=training_section(training) if training else {},
        evaluation={} if evaluation is None else evaluation_section(evaluation),
        infra_validation={} if infra_blessing is None else infra_validation_section(infra_blessing),
        code=training.get("code", {}),
        libraries=training.get("libraries", {}),
    )


def entity_types(tags: Sequence[str]) -> tuple[str, ...]:
    """Returns the entity types of BIO tags.

    Example:
        >>> entity_types(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
        ('LOC', 'PER')
    """
    return tuple(tag[2:] for tag in tags if tag.startswith("B-"))


def data_section(report: Mapping[str, Any], input_fingerprint: str) -> dict[str, Any]:
    """Returns fingerprint and numbers of the corpus; the report's notes stay out, for they name files."""
    return {
        "fingerprint": data_fingerprint(input_fingerprint),
        **{key: report[key] for key in ("texts", "entities", "leaks", "contradictions")},
    }


def data_fingerprint(input_fingerprint: str) -> str | None:
    """Returns one SHA-256 for the contents of the corpus: equal files give the same, wherever and whenever they lie.

    ExampleGen's own fingerprint has times of modification as well; only its lines `split:train,sha256:...` count.
    """
    lines = [line for line in input_fingerprint.splitlines() if _SPLIT_DIGEST in line]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def model_section(training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the model is: fusion, encoder and the handling of long texts."""
    return {
        "fusion": training["settings"]["fusion"],
        "encoder": training["encoder"],
        "precision": training["settings"].get("serving_precision", "float32"),
        **{key: training[key] for key in ("window", "window_overlap", "whole_words", "annotated_by_whitespace")},
    }


def training_section(training: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how the model was trained; of a folder, such as that of a pretrained encoder, only its own name stays."""
    settings = {
        key: without_place(value) for key, value in training["settings"].items() if key != "checkpoint_directory"
    }
    best = training["epochs"][training["best_epoch"] - 1]
    return {
        "settings": settings,
        "fingerprint": training["fingerprint"],
        "best_epoch": training["best_epoch"],
        "epochs": len(training["epochs"]),
        "dev": training.get("exported") or {key: best[key] for key in ("precision", "recall", "f1")},
        "layer_weights": best["layer_weights"],
        # Models that were trained before there was one have none.
        "temperature": training.get("calibration", {}).get("temperature"),
        "seconds": training["seconds"],
    }


def infra_validation_section(blessing: str) -> dict[str, Any]:
    """Returns the server on which the model was tried, and its latencies."""
    path = pathlib.Path(blessing) / _VALIDATION_REPORT
    validation = _read_json(blessing, _VALIDATION_REPORT) if path.is_file() else {}
    return {key: value for key, value in validation.items() if key != "refusals"}


def without_place(value: Any) -> Any:
    """Returns a setting; a path or URL is cut down to its last name.

    Example:
        >>> [without_place(value) for value in ("/data/encoders/bert", "gs://bucket/bert", "dynamic", 3, None)]
        ['bert', 'bert', 'dynamic', 3, None]
    """
    is_place = isinstance(value, str) and "/" in value
    return pathlib.PurePosixPath(value).name if is_place else value


def evaluation_section(evaluation: str) -> dict[str, Any]:
    """Returns the strict scores and the gates of an evaluation that blessed the model."""
    config = json_format.Parse(json.dumps(_read_json(evaluation, _EVALUATION_CONFIG)["evalConfig"]), tfma.EvalConfig())
    report, calibration = read_report(evaluation), read_calibration(evaluation)
    return {
        "texts": report.texts,
        **report.to_json(),
        **({} if calibration is None else {"calibration": calibration.to_json()}),
        "gates": gates(config),
        "blessed": True,
    }


def gates(config: tfma.EvalConfig) -> list[dict[str, Any]]:
    """Returns the gates of an evaluation: `{"metric": "f1/LOC", "minimum": 0.5}`, or "maximum_drop"."""
    found = []
    for metric in (metric for spec in config.metrics_specs for metric in spec.metrics):
        name, threshold = json.loads(metric.config)["name"], metric.threshold
        if threshold.HasField("value_threshold"):
            found.append({"metric": name, "minimum": threshold.value_threshold.lower_bound.value})
        if threshold.HasField("change_threshold"):
            found.append({"metric": name, "maximum_drop": -threshold.change_threshold.absolute.value})
    return found


def _read_json(folder: str, name: str) -> dict[str, Any]:
    return json.loads(pathlib.Path(os.path.join(folder, name)).read_text(encoding="utf-8"))
