"""The pusher of the pipeline: model and blessings in, a published version out."""

from __future__ import annotations

import json

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.pusher import executor
from components.pusher.settings import PusherSettings
from components.settings import settings_to_json


class VersionPusherSpec(types.ComponentSpec):
    """What goes in and out of the pusher."""

    PARAMETERS = {  # noqa: RUF012 - TFX reads plain class attributes
        executor.SERVING_DIRECTORY_KEY: ExecutionParameter(type=str),
        executor.CUSTOM_CONFIG_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        executor.MODEL_BLESSING_KEY: ChannelParameter(type=standard_artifacts.ModelBlessing),
        executor.INFRA_BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples, optional=True),
        executor.MODEL_RUN_KEY: ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        executor.EVALUATION_KEY: ChannelParameter(type=standard_artifacts.ModelEvaluation, optional=True),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.PUSHED_MODEL_KEY: ChannelParameter(type=standard_artifacts.PushedModel),
    }


class VersionPusher(base_component.BaseComponent):
    """Publishes a blessed model as `<serving_directory>/<version>/`, by one atomic rename.

    Args:
        model: the exported model.
        model_blessing: the verdict of the evaluation.
        serving_directory: the folder that the server watches, `<serving dir>/<model name>`, on a local or mounted file
            system.
        settings: how versions are kept.
        infra_blessing: the verdict of the infra validation, if there is one.
        examples: what ExampleGen left; what it says of the corpus goes into the model card.
        model_run: what the Trainer left beside the model, for the card.
        evaluation: the scores, for the card.

    Raises:
        ValueError: the serving directory is a URL.

    Outputs: `pushed_model` (PushedModel); `components.pusher.results.read_outcome` reads it.
    """

    SPEC_CLASS = VersionPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        model_blessing: types.BaseChannel,
        serving_directory: str,
        settings: PusherSettings | None = None,
        infra_blessing: types.BaseChannel | None = None,
        examples: types.BaseChannel | None = None,
        model_run: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
    ) -> None:
        if "://" in serving_directory:
            raise ValueError(
                "serving_directory: expected a folder on a local or mounted file system, because publishing needs an "
                f"atomic rename; received {serving_directory!r}"
            )
        super().__init__(
            VersionPusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                examples=examples,
                model_run=model_run,
                evaluation=evaluation,
                serving_directory=serving_directory,
                custom_config=json.dumps(settings_to_json(settings or PusherSettings()), sort_keys=True),
                pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            )
        )
