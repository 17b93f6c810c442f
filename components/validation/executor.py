"""The work of ExampleValidator, which stops the run at an anomaly."""

from __future__ import annotations

import os
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx import types
from tfx.components.example_validator import executor, labels
from tfx.proto.orchestration import execution_result_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, writer_utils

from components.annotated_text import AnnotationError
from components.validation.anomalies import add_entity_anomalies, describe_anomalies


class Executor(executor.Executor):
    """Validates as the stock executor does and as `anomalies` adds, writes the artifact, and raises at an anomaly."""

    def Do(  # noqa: N802
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> execution_result_pb2.ExecutorOutput:
        """Writes `SchemaDiff.pb` for each split.

        Raises:
            AnnotationError: there are anomalies; the message has each with split, feature and description.
        """
        output = super().Do(input_dict, output_dict, exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.ANOMALIES_KEY])
        splits = artifact_utils.decode_split_names(artifact.split_names)
        sentences = describe_anomalies({split: _read_anomalies(artifact, split) for split in splits})
        if sentences:
            raise AnnotationError(
                f"the examples break the schema in {len(sentences)} ways:\n"
                + "\n".join(sentences)
                + f"\nmend the data, or the schema if it is out of date; the anomalies are in {artifact.uri}"
            )
        return output

    def _Validate(  # noqa: N802
        self, inputs: dict[str, Any], outputs: dict[str, Any]
    ) -> anomalies_pb2.Anomalies:
        anomalies = super()._Validate(inputs, outputs)
        add_entity_anomalies(inputs[standard_component_specs.STATISTICS_KEY], anomalies)
        path = os.path.join(outputs[labels.SCHEMA_DIFF_PATH], executor.DEFAULT_FILE_NAME)
        writer_utils.write_anomalies(path, anomalies)
        return anomalies


def _read_anomalies(artifact: types.Artifact, split: str) -> anomalies_pb2.Anomalies:
    path = os.path.join(artifact_utils.get_split_uri([artifact], split), executor.DEFAULT_FILE_NAME)
    return anomalies_pb2.Anomalies.FromString(io_utils.read_bytes_file(path))
