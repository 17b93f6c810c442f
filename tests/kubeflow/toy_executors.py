"""Executors of a toy pipeline: one writes a file, one reads it; small enough to run in every test."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

Artifacts = dict[str, list[types.Artifact]]


class WriteModel(base_executor.BaseExecutor):
    """Writes its settings into the output `model`."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Fails when the settings ask for it."""
        settings = json.loads(exec_properties["custom_config"])
        if settings.get("fail"):
            raise RuntimeError("asked to fail")
        model = artifact_utils.get_single_instance(output_dict["model"])
        Path(model.uri, "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        Path(model.uri, "empty").mkdir()
        model.set_string_custom_property("path", f"see {model.uri}/settings.json")
        model.set_int_custom_property("epochs", settings["epochs"])


class PushModel(base_executor.BaseExecutor):
    """Copies `model` to the folder `serving_directory` and says so."""

    def Do(self, input_dict: Artifacts, output_dict: Artifacts, exec_properties: dict[str, Any]) -> None:  # noqa: N802
        """Reads what the first task wrote, through the object store alone."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        assert not Path(model.uri, "empty").exists(), "object stores know no empty folders"
        text = Path(model.uri, "settings.json").read_text(encoding="utf-8")
        destination = Path(exec_properties["serving_directory"])
        destination.mkdir(parents=True)
        (destination / "settings.json").write_text(text, encoding="utf-8")
        (destination / "environment.json").write_text(json.dumps(dict(os.environ)), encoding="utf-8")
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(destination))
