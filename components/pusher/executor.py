"""Executor of the pusher: publishes the model if everybody who was asked has blessed it."""

from __future__ import annotations

import json
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.progress import report
from components.pusher.publish import publish, published_already
from components.pusher.results import PushOutcome, write_outcome
from components.pusher.settings import PusherSettings
from components.settings import parse_settings

MODEL_KEY = "model"
MODEL_BLESSING_KEY = "model_blessing"
INFRA_BLESSING_KEY = "infra_blessing"
PUSHED_MODEL_KEY = "pushed_model"
SERVING_DIRECTORY_KEY = "serving_directory"
CUSTOM_CONFIG_KEY = "custom_config"


class Executor(base_executor.BaseExecutor):
    """Publishes a blessed model and records where, or records why it was not published."""

    def Do(  # noqa: N802 - TFX calls it so
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the push; a refused model is an outcome, not an error.

        Raises:
            PushError: the model is blessed and cannot be published.
            VersionError: no version number can be given.
        """
        pushed_model = artifact_utils.get_single_instance(output_dict[PUSHED_MODEL_KEY])
        refusals = refusals_of(input_dict)
        if refusals:
            outcome = PushOutcome(refusals=refusals)
            report(f"not pushed: {' '.join(refusals)}")
        else:
            settings = parse_settings(PusherSettings, json.loads(exec_properties[CUSTOM_CONFIG_KEY]), "pusher")
            model = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
            model_path = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
            serving_directory = exec_properties[SERVING_DIRECTORY_KEY]
            version = published_already(model_path, serving_directory)
            if version is not None:
                report(f"version {version.version}, the newest, is this model already")
            else:
                version = publish(model_path, serving_directory, keep_versions=settings.keep_versions)
            outcome = PushOutcome(version=version.version, destination=str(version.path))
            logging.info("Published %s as %s", model_path, version.path)
        _record(pushed_model, outcome)


def refusals_of(input_dict: dict[str, list[types.Artifact]]) -> tuple[str, ...]:
    """Returns why the model must not be published; empty if every blessing that was asked for is there."""
    refusals = []
    for key, who, is_blessed in (
        (MODEL_BLESSING_KEY, "the evaluation", model_utils.is_model_blessed),
        (INFRA_BLESSING_KEY, "the infra validation", model_utils.is_infra_validated),
    ):
        for blessing in input_dict.get(key) or ():
            if not is_blessed(blessing):
                reason = blessing.get_string_custom_property("blessing_message") or f"see {blessing.uri}"
                refusals.append(f"{who} did not bless the model: {reason}")
    return tuple(refusals)


def _record(pushed_model: types.Artifact, outcome: PushOutcome) -> None:
    write_outcome(pushed_model.uri, outcome)
    pushed_model.set_int_custom_property("pushed", int(outcome.pushed))
    if outcome.pushed:
        pushed_model.set_string_custom_property("pushed_destination", outcome.destination)
        pushed_model.set_string_custom_property("pushed_version", str(outcome.version))
    else:
        pushed_model.set_string_custom_property("refusals", "\n".join(outcome.refusals))
