"""Executor of the pusher: publishes the model if everybody who was asked has blessed it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from typing import Any

from absl import logging
from tfx import types
from tfx.components.util import model_utils
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.progress import report
from components.pusher.model_card import ModelCard, iso_time
from components.pusher.publish import publish, published_already
from components.pusher.results import PushOutcome, write_outcome
from components.pusher.rollback import withdrawn_as
from components.pusher.settings import PusherSettings
from components.settings import parse_settings

MODEL_KEY = "model"
MODEL_BLESSING_KEY = "model_blessing"
INFRA_BLESSING_KEY = "infra_blessing"
EXAMPLES_KEY = "examples"
MODEL_RUN_KEY = "model_run"
EVALUATION_KEY = "evaluation"
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
        else:
            settings = parse_settings(PusherSettings, json.loads(exec_properties[CUSTOM_CONFIG_KEY]), "pusher")
            outcome = _push(input_dict, exec_properties[SERVING_DIRECTORY_KEY], settings)
        if outcome.refusals:
            report(f"not pushed: {' '.join(outcome.refusals)}")
        _record(pushed_model, outcome)


def _push(input_dict: dict[str, list[types.Artifact]], serving_directory: str, settings: PusherSettings) -> PushOutcome:
    model = artifact_utils.get_single_instance(input_dict[MODEL_KEY])
    model_path = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
    version = published_already(model_path, serving_directory)
    if version is not None:
        report(f"version {version.version}, the newest, is this model already")
        return PushOutcome(version=version.version, destination=str(version.path))
    withdrawn = withdrawn_as(model_path, serving_directory)
    if withdrawn is not None:
        return PushOutcome(
            refusals=(
                f"the model is version {withdrawn}, which a rollback took back; to serve it all the same: "
                f"fusion-ner rollback {serving_directory} --to {withdrawn}",
            )
        )

    card = _card(input_dict, pathlib.PurePath(serving_directory).name)

    def card_of_version(version: int, digest: str) -> bytes:
        return dataclasses.replace(card, version=version, digest=digest, created=iso_time(time.time())).to_bytes()

    version = publish(model_path, serving_directory, keep_versions=settings.keep_versions, card=card_of_version)
    logging.info("Published %s as %s", model_path, version.path)
    return PushOutcome(version=version.version, destination=str(version.path))


def _card(input_dict: dict[str, list[types.Artifact]], name: str) -> ModelCard:
    # TensorFlow Model Analysis, which reads the scores, is not needed for a model that is refused.
    from components.pusher.card_sources import gather_card

    def folder(key: str) -> str | None:
        return artifact_utils.get_single_uri(input_dict[key]) if input_dict.get(key) else None

    examples = input_dict.get(EXAMPLES_KEY)
    return gather_card(
        name,
        examples=folder(EXAMPLES_KEY),
        input_fingerprint=examples[0].get_string_custom_property("input_fingerprint") if examples else "",
        model_run=folder(MODEL_RUN_KEY),
        evaluation=folder(EVALUATION_KEY),
        infra_blessing=folder(INFRA_BLESSING_KEY),
    )


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
