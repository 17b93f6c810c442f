"""The infra validation of the pipeline: model and sentences in, a blessing out.

TFX's own InfraValidator starts its servers in docker or Kubernetes only, and Kubeflow refuses to compile it, subclasses
included; so this is a component of its own with the same output.
"""

from __future__ import annotations

import json

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from components.infra_validator import executor
from components.infra_validator.settings import InfraValidatorSettings
from components.settings import settings_to_json


class ServingInfraValidatorSpec(types.ComponentSpec):
    """What goes in and out of the infra validation."""

    PARAMETERS = {  # noqa: RUF012 - TFX reads plain class attributes
        executor.MODEL_NAME_KEY: ExecutionParameter(type=str),
        executor.CUSTOM_CONFIG_KEY: ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        executor.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model),
        executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {  # noqa: RUF012
        executor.BLESSING_KEY: ChannelParameter(type=standard_artifacts.InfraBlessing),
    }


class ServingInfraValidator(base_component.BaseComponent):
    """Blesses a model if a model server, in a process of its own, answers real requests exactly as the model does.

    Args:
        model: the exported model.
        examples: what ExampleGen left; the sentences of one split are sent.
        model_name: the name under which the model is served.
        settings: the server, the requests and the bounds.

    Outputs: `blessing` (InfraBlessing), with the verdict and the latencies in `infra_validation.json`.
    """

    SPEC_CLASS = ServingInfraValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        *,
        model: types.BaseChannel,
        examples: types.BaseChannel,
        model_name: str,
        settings: InfraValidatorSettings | None = None,
    ) -> None:
        super().__init__(
            ServingInfraValidatorSpec(
                model=model,
                examples=examples,
                model_name=model_name,
                custom_config=json.dumps(settings_to_json(settings or InfraValidatorSettings()), sort_keys=True),
                blessing=types.Channel(type=standard_artifacts.InfraBlessing),
            )
        )
