"""Runs one component in the image, and closes the gaps between TFX and the open-source Kubeflow Pipelines backend.

The cluster and `fusion-ner kubeflow verify` call the same function. What it does, and why:

- Runtime parameters are merged into the settings that components receive as JSON (`kubeflow.overrides`).
- The backend sends input artifacts without their type; it is filled in from the component's own specification.
- The backend adds an output `executor-logs` of a type that TFX cannot import; it is dropped.
- URIs are those of an object store, but the launcher copies to and from local paths; they are mapped both ways.
- The launcher makes the parents of the outputs' folders, TFX's own runners the folders; so they are made here.
- The backend never calls ExampleGen's driver, which resolves spans and fingerprints the files; it is called here.
- The metadata store refuses null values and must not record paths of a pod; the output file is rewritten.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import object_store
from kubeflow.overrides import merge_overrides

# Types of artifacts that the backend adds for itself.
_BACKEND_TYPES = "system."
_EXAMPLES = "examples"
# Artifacts whose URI is a file.
_VALUE_TYPES = ("tfx.String", "tfx.Integer", "tfx.Float", "tfx.Boolean", "tfx.Bytes", "tfx.JsonValue")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the component that the arguments name, as the compiled pipeline gives them.

    Args:
        argv: `--executor_class_path`, `--json_serialized_invocation_args`, `--json_serialized_inputs_spec_args`, then
            options of Apache Beam; None takes those of the process.
    """
    arguments, beam_arguments = _parser().parse_known_args(sys.argv[1:] if argv is None else list(argv))
    executor_input = json_format.Parse(
        arguments.json_serialized_invocation_args, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True
    )
    specification = pipeline_spec_pb2.ComponentInputsSpec()
    json_format.Parse(arguments.json_serialized_inputs_spec_args, specification, ignore_unknown_fields=True)

    drop_backend_outputs(executor_input)
    complete_types(executor_input, specification)
    set_parameters(executor_input, specification)
    uris = to_local_paths(executor_input)
    make_output_folders(executor_input)
    output_file = executor_input.outputs.output_file
    # An executor takes a file that lies there for the output of its driver, and would merge the last attempt's values.
    if os.path.exists(output_file):
        os.remove(output_file)

    if _is_example_gen(executor_input):
        _run_driver(executor_input, arguments)
    _run_executor(executor_input, arguments, beam_arguments)

    with open(output_file, encoding="utf-8") as file:
        text = object_store.rewrite_json(file.read(), uris)
    with open(output_file, "w", encoding="utf-8") as file:
        file.write(text)


def drop_backend_outputs(executor_input: pipeline_spec_pb2.ExecutorInput) -> None:
    """Removes the outputs that the backend adds to every task, such as `executor-logs`."""
    outputs = executor_input.outputs.artifacts
    for key in [key for key, artifacts in outputs.items() if _is_backend_type(artifacts)]:
        del outputs[key]


def complete_types(
    executor_input: pipeline_spec_pb2.ExecutorInput, specification: pipeline_spec_pb2.ComponentInputsSpec
) -> None:
    """Fills in the types of input artifacts that arrive without one."""
    for key, artifacts in executor_input.inputs.artifacts.items():
        if key not in specification.artifacts:
            continue
        for artifact in artifacts.artifacts:
            kind = artifact.type.WhichOneof("kind")
            if kind is None or not getattr(artifact.type, kind):
                artifact.type.CopyFrom(specification.artifacts[key].artifact_type)


def set_parameters(
    executor_input: pipeline_spec_pb2.ExecutorInput, specification: pipeline_spec_pb2.ComponentInputsSpec
) -> None:
    """Merges runtime parameters into the component's settings; whole numbers become whole, structures JSON text."""
    values = executor_input.inputs.parameter_values
    merged = merge_overrides({name: _plain(name, value, specification) for name, value in values.items()})
    values.clear()
    for name, value in merged.items():
        values[name].CopyFrom(json_format.ParseDict(value, struct_pb2.Value()))


def to_local_paths(executor_input: pipeline_spec_pb2.ExecutorInput) -> dict[str, str]:
    """Replaces object store URIs by the paths of the launcher's copies; returns local path -> URI."""
    uris = {}
    for artifacts in (executor_input.inputs.artifacts, executor_input.outputs.artifacts):
        for artifact_list in artifacts.values():
            for artifact in artifact_list.artifacts:
                path = object_store.local_path(artifact.uri)
                if path != artifact.uri:
                    uris[path] = artifact.uri
                    artifact.uri = path
    return uris


def make_output_folders(executor_input: pipeline_spec_pb2.ExecutorInput) -> None:
    """Makes the folders of outputs whose paths are local; outputs that are one value are files and get a parent."""
    for artifacts in executor_input.outputs.artifacts.values():
        for artifact in artifacts.artifacts:
            if "://" not in artifact.uri:
                is_value = any(f"title: {title}\n" in artifact.type.instance_schema for title in _VALUE_TYPES)
                os.makedirs(os.path.dirname(artifact.uri) if is_value else artifact.uri, exist_ok=True)


def _parser() -> argparse.ArgumentParser:
    # No abbreviations: an option of Beam must not be taken for one of these.
    parser = argparse.ArgumentParser(prog="python -m kubeflow.entrypoint", allow_abbrev=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True)
    parser.add_argument("--json_serialized_inputs_spec_args", default="{}")
    return parser


def _is_backend_type(artifacts: pipeline_spec_pb2.ArtifactList) -> bool:
    return any(artifact.type.schema_title.startswith(_BACKEND_TYPES) for artifact in artifacts.artifacts)


def _plain(name: str, value: struct_pb2.Value, specification: pipeline_spec_pb2.ComponentInputsSpec) -> Any:
    plain = json_format.MessageToDict(value)
    definition = specification.parameters.get(name)
    integer = pipeline_spec_pb2.ParameterType.NUMBER_INTEGER
    if definition is not None and definition.parameter_type == integer and isinstance(plain, float):
        return int(plain)
    # TFX has no structured parameters; the final status of a run arrives as one.
    return json.dumps(plain, sort_keys=True) if isinstance(plain, (dict, list)) else plain


def _is_example_gen(executor_input: pipeline_spec_pb2.ExecutorInput) -> bool:
    # By the interface, not by the class: readers of other formats bear other names.
    parameters = executor_input.inputs.parameter_values
    return {"input_base", "input_config"} <= set(parameters) and _EXAMPLES in executor_input.outputs.artifacts


def _namespace(executor_input: pipeline_spec_pb2.ExecutorInput, arguments: argparse.Namespace) -> argparse.Namespace:
    return argparse.Namespace(
        executor_class_path=arguments.executor_class_path,
        json_serialized_invocation_args=json_format.MessageToJson(executor_input),
        json_serialized_inputs_spec_args=arguments.json_serialized_inputs_spec_args,
    )


def _run_driver(executor_input: pipeline_spec_pb2.ExecutorInput, arguments: argparse.Namespace) -> None:
    from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver

    from components.example_gen.driver import ContentInputProcessor

    # The driver offers no other place for the processor of the local run, whose fingerprint covers the contents.
    driver.input_processor.FileBasedInputProcessor = ContentInputProcessor
    driver.main(_namespace(executor_input, arguments))
    with open(executor_input.outputs.output_file, encoding="utf-8") as file:
        output = json_format.Parse(file.read(), pipeline_spec_pb2.ExecutorOutput(), ignore_unknown_fields=True)
    # The executor merges the driver's parameters by itself, but not the span and fingerprint of the artifact.
    for key, artifacts in output.artifacts.items():
        _merge_metadata(artifacts.artifacts[0].metadata, executor_input.outputs.artifacts[key].artifacts[0].metadata)


def _merge_metadata(source: Mapping[str, Any], target: struct_pb2.Struct) -> None:
    for key, value in source.items():
        # Unset properties come as null.
        if value is not None:
            target[key] = value


def _run_executor(
    executor_input: pipeline_spec_pb2.ExecutorInput, arguments: argparse.Namespace, beam_arguments: Sequence[str]
) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    kubeflow_v2_run_executor.main((_namespace(executor_input, arguments), list(beam_arguments)))


if __name__ == "__main__":
    main()
