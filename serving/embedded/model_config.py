"""The list of models to serve, from flags, a file or a reload request, checked as TensorFlow Serving checks it."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.embedded.status import StatusError
from serving.embedded.versions import ServedModel, served_model

logger = logging.getLogger(__name__)

_PLATFORM = "tensorflow"


def models_from_text(text: str, path: str) -> list[ServedModel]:
    """Returns the models of a `--model_config_file`; `path` is named in errors.

    Raises:
        StatusError: the text is no ModelServerConfig, or a model in it is refused.
    """
    config = model_server_config_pb2.ModelServerConfig()
    if not text:
        raise StatusError("INVALID_ARGUMENT", f"{path}; Invalid argument")
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        logger.error("Error parsing text-format tensorflow.serving.ModelServerConfig: %s", error)
        raise StatusError("INVALID_ARGUMENT", f"Invalid protobuf file: '{path}'") from error
    return models_from_config(config, {})


def models_from_file(path: str) -> list[ServedModel]:
    """Returns the models of the file `path`; raises StatusError if it is not there or not right."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise StatusError("NOT_FOUND", f"{path}; {error.strerror}") from error
    return models_from_text(text, path)


def single_model(name: str, base_path: str) -> list[ServedModel]:
    """Returns the one model that `--model_name` and `--model_base_path` describe."""
    if not base_path:
        raise StatusError(
            "INVALID_ARGUMENT", "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=_PLATFORM)
    return models_from_config(config, {})


def models_from_config(config: Any, serving: Mapping[str, ServedModel]) -> list[ServedModel]:
    """Returns the models of a tensorflow.serving.ModelServerConfig.

    Args:
        config: the message.
        serving: the models served now; their platform must not change.

    Raises:
        StatusError: in TensorFlow Serving's words; UNIMPLEMENTED for version labels.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise StatusError(
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. "
            "Only ModelConfigList is currently supported",
        )
    names: set[str] = set()
    for model in config.model_config_list.config:
        if model.name in names:
            raise StatusError("INVALID_ARGUMENT", f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        # A URI such as gs://bucket/model is absolute to TensorFlow Serving; the embedded server reads folders only.
        if not model.base_path.startswith("/"):
            if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", model.base_path):
                raise StatusError(
                    "UNIMPLEMENTED",
                    f"model {model.name}: the embedded server reads local folders; {model.base_path} needs TensorFlow "
                    "Serving itself",
                )
            raise StatusError(
                "INVALID_ARGUMENT",
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}",
            )
        _check_platform(model, serving)
        if model.version_labels:
            raise StatusError(
                "UNIMPLEMENTED",
                f"model {model.name}: version labels belong to TensorFlow Serving; the embedded server has none",
            )
    return [served_model(model) for model in config.model_config_list.config]


def _check_platform(model: Any, serving: Mapping[str, ServedModel]) -> None:
    if model.name in serving and model.model_platform != _PLATFORM:
        raise StatusError(
            "INVALID_ARGUMENT",
            f"Illegal to change a model's platform. For model {model.name} platform was {_PLATFORM} and new platform "
            f"requested is {model.model_platform}",
        )
    if not model.model_platform:
        raise StatusError(
            "INVALID_ARGUMENT",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            f"model name is {model.name}",
        )
    if model.model_platform != _PLATFORM:
        raise StatusError(
            "INVALID_ARGUMENT", f"Model {model.name} requests unsupported platform {model.model_platform}"
        )
