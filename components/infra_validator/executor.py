"""Executor of the infra validation: tries the candidate on a model server and records the verdict."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.infra_validator.probes import read_examples
from components.infra_validator.settings import InfraValidatorSettings
from components.infra_validator.validation import Validation, validate
from components.progress import report
from components.settings import parse_settings

MODEL_KEY = "model"
EXAMPLES_KEY = "examples"
BLESSING_KEY = "blessing"
MODEL_NAME_KEY = "model_name"
CUSTOM_CONFIG_KEY = "custom_config"

BLESSED_FILE = "INFRA_BLESSED"
NOT_BLESSED_FILE = "INFRA_NOT_BLESSED"
REPORT_FILE = "infra_validation.json"


class InfraValidationError(RuntimeError):
    """Raised when a model cannot be tried at all."""


class Executor(base_executor.BaseExecutor):
    """Blesses the candidate if a model server answers as it does; a refused model is an outcome, not an error."""

    def Do(  # noqa: N802 - TFX calls it so
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the trial.

        Raises:
            InfraValidationError: the split has no sentence to send.
        """
        values = json.loads(exec_properties[CUSTOM_CONFIG_KEY])
        settings = parse_settings(InfraValidatorSettings, values, "infra_validator")
        model = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
        model_path = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
        folders = artifact_utils.get_split_uris(input_dict[EXAMPLES_KEY], settings.split)
        examples = [each for folder in folders for each in read_examples(folder, settings.texts)][: settings.texts]
        if not examples:
            raise InfraValidationError(f"the split {settings.split} has no sentence to try the model with")
        validation = validate(model_path, examples, settings, exec_properties[MODEL_NAME_KEY])
        _record(artifact_utils.get_single_instance(output_dict[BLESSING_KEY]), validation)


def _record(blessing: types.Artifact, validation: Validation) -> None:
    folder = pathlib.Path(blessing.uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (BLESSED_FILE if validation.blessed else NOT_BLESSED_FILE)).touch()
    text = json.dumps(dataclasses.asdict(validation), indent=2, ensure_ascii=False)
    (folder / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
    answered = f"{validation.server} answered {validation.requests} requests as the model does"
    message = answered if validation.blessed else "; ".join(validation.refusals)
    blessing.set_int_custom_property("blessed", int(validation.blessed))
    blessing.set_string_custom_property("blessing_message", message)
    logging.info("Infra validation: %s", text)
    report(message if validation.blessed else f"refused: {message}")
