"""ModelService: GetModelStatus and HandleReloadConfigRequest."""

from __future__ import annotations

from typing import Any

from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from serving.embedded.manager import ModelManager, VersionState
from serving.embedded.model_config import models_from_config
from serving.embedded.status import CODES, StatusError


def model_status(manager: ModelManager, request: Any) -> Any:
    """Returns the GetModelStatusResponse: all versions that this process has seen, or the one asked for.

    Raises:
        StatusError: no ModelSpec, or no such model or version. A label is ignored, as in TensorFlow Serving.
    """
    if not request.HasField("model_spec"):
        raise StatusError("INVALID_ARGUMENT", "Missing ModelSpec")
    spec = request.model_spec
    version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state in selected_states(manager, spec.name, version).items():
        item = response.model_version_status.add(
            version=number, state=get_model_status_pb2.ModelVersionStatus.State.Value(state.state)
        )
        item.status.SetInParent()
        if state.error is not None:
            item.status.error_code = CODES.index(state.error.code)
            item.status.error_message = state.error.message
    return response


def selected_states(manager: ModelManager, name: str, version: int | None) -> dict[int, VersionState]:
    """Returns the states of a model's versions, or of one; raises StatusError NOT_FOUND where there are none."""
    states = manager.states(name)
    if not states:
        raise StatusError("NOT_FOUND", f"Could not find any versions of model {name}")
    if version is None:
        return states
    if version not in states:
        raise StatusError("NOT_FOUND", f"Could not find version {version} of model {name}")
    return {version: states[version]}


def reload_models(manager: ModelManager, request: Any) -> Any:
    """Replaces the list of models and waits until the new ones are available; returns the ReloadConfigResponse.

    Raises:
        StatusError: the list is refused as a whole, or a new model did not load (the others then serve all the same).
    """
    serving = manager.models()
    models = models_from_config(request.config, serving)
    manager.set_models(models)
    manager.wait_until_loaded((model.name for model in models if model.name not in serving), "model")
    response = model_management_pb2.ReloadConfigResponse()
    response.status.SetInParent()
    return response
