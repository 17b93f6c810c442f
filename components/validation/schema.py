"""The schema of the examples, as a component that publishes the package's own file."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.components.schema_gen.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts, standard_component_specs

SCHEMA_FILE = "annotated_text.pbtxt"


def read_schema_text() -> str:
    """Returns the schema of the examples as text format, out of the installed package."""
    return importlib.resources.files("schemas").joinpath(SCHEMA_FILE).read_text(encoding="utf-8")


def hash_schema(text: str) -> str:
    """Returns the SHA-256 of the schema's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_schema() -> schema_pb2.Schema:
    """Returns the schema of the examples."""
    return text_format.Parse(read_schema_text(), schema_pb2.Schema())


class PackagedSchemaSpec(component_spec.ComponentSpec):
    """Interface of `PackagedSchema`."""

    PARAMETERS = {"schema_hash": component_spec.ExecutionParameter(type=str)}  # noqa: RUF012
    INPUTS: dict[str, Any] = {}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        standard_component_specs.SCHEMA_KEY: component_spec.ChannelParameter(type=standard_artifacts.Schema)
    }


class Executor(base_executor.BaseExecutor):
    """Writes the schema of the package into the artifact."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes `schema.pbtxt`.

        Raises:
            RuntimeError: the pipeline was built with another schema than the installed package has.
        """
        text = read_schema_text()
        if hash_schema(text) != exec_properties["schema_hash"]:
            raise RuntimeError(
                f"the pipeline was built with another {SCHEMA_FILE} than the package has that runs it; build the "
                f"pipeline and the image it runs in from the same version"
            )
        uri = artifact_utils.get_single_uri(output_dict[standard_component_specs.SCHEMA_KEY])
        with fileio.open(os.path.join(uri, DEFAULT_FILE_NAME), "w") as file:
            file.write(text)


class PackagedSchema(base_component.BaseComponent):
    """Publishes the schema of the examples.

    Stands in for Importer and ImportSchemaGen, which take a path of the compiling machine. The parameter is a hash of
    the schema, so that with another schema the cache is not used.

    Outputs:
        schema: the schema, as `schema.pbtxt`.
    """

    SPEC_CLASS = PackagedSchemaSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self) -> None:
        schema_hash = hash_schema(read_schema_text())
        super().__init__(
            PackagedSchemaSpec(schema_hash=schema_hash, schema=types.Channel(type=standard_artifacts.Schema))
        )
