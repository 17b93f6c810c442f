"""What the Kubeflow Pipelines backend accepts of a compiled pipeline, and what it accepts and then fails on.

Observed on version 2.17.0. Some faults are refused at the upload, some when a run is created; the worst are accepted
and never mentioned, until a scheduled run fails at night. `findings` reports all of them, each with its moment.
"""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import cel, platform_document

SCHEMA_VERSION = "2.1.0"
_PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
ROOT = "root"
# Both spellings of the field that tells a pipeline from a platform document.
_PIPELINE_INFO = {"pipelineInfo", "pipeline_info"}


class Moment(enum.Enum):
    """When the backend reacts to a fault."""

    UPLOAD = "the upload is refused"
    RUN = "the upload is accepted, every run is refused"
    FIRING = "upload and schedule are accepted, runs that fire fail"
    SILENT = "accepted without a word, wrong at run time"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault of a compiled pipeline."""

    moment: Moment
    message: str

    def __str__(self) -> str:
        return f"{self.message} ({self.moment.value})"


class AcceptanceError(ValueError):
    """Raised for a pipeline that the backend would not run; the message lists every finding."""

    def __init__(self, source: str, findings: list[Finding]) -> None:
        self.findings = findings
        lines = "\n".join(f"  - {finding}" for finding in findings)
        super().__init__(f"{source}: the backend would not run this pipeline:\n{lines}")


@dataclasses.dataclass(frozen=True)
class CompiledPipeline:
    """A compiled pipeline, parsed strictly.

    Attributes:
        specification: the PipelineSpec.
        deployment: its deployment_spec, parsed on its own: executors by label.
        platform: the platform document, or None.
    """

    specification: pipeline_spec_pb2.PipelineSpec
    deployment: pipeline_spec_pb2.PipelineDeploymentConfig
    platform: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The name inside the file, under which the backend keeps artifacts."""
        return self.specification.pipeline_info.name


def read_pipeline(path: pathlib.Path) -> CompiledPipeline:
    """Reads a compiled pipeline and checks it against the acceptance rules.

    Raises:
        AcceptanceError: listing every finding.
        OSError: if the file cannot be read.
    """
    return parse_pipeline(path.read_text(encoding="utf-8"), str(path))


def parse_pipeline(text: str, source: str = "the pipeline") -> CompiledPipeline:
    """Parses the text of a compiled pipeline; see `read_pipeline`."""
    found = findings(text)
    if found:
        raise AcceptanceError(source, found)
    pipeline, platform = _documents(text)
    return _parse(pipeline, platform)


def findings(text: str) -> list[Finding]:
    """Returns every fault of the compiled pipeline `text`, in the order in which the backend would meet them."""
    try:
        pipeline, platform = _documents(text)
        compiled = _parse(pipeline, platform)
    except _UploadError as error:
        return [Finding(Moment.UPLOAD, str(error))]
    found = [
        *_header_findings(compiled),
        *_graph_findings(compiled),
        *_executor_findings(compiled),
        *_platform_findings(compiled),
    ]
    return sorted(found, key=lambda finding: list(Moment).index(finding.moment))


class _UploadError(ValueError):
    """A fault after which nothing else can be checked."""


def _documents(text: str) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise _UploadError(f"not YAML: {error}") from error
    if not all(isinstance(document, Mapping) for document in documents):
        raise _UploadError("unknown template format: a document is not a mapping")
    if any("pipelineSpec" in document for document in documents):
        raise _UploadError(
            "unknown template format: this is a PipelineJob, which the open-source backend does not take; "
            "compile to a .yaml file with schema 2.1.0"
        )
    pipelines = [document for document in documents if not _PIPELINE_INFO.isdisjoint(document)]
    platforms = [document for document in documents if _PIPELINE_INFO.isdisjoint(document)]
    if not pipelines:
        raise _UploadError("unknown template format: no pipelineInfo")
    if len(pipelines) > 1 or len(platforms) > 1:
        raise _UploadError(
            f"expected one pipeline document and at most one platform document; found {len(pipelines)} and "
            f"{len(platforms)}"
        )
    return pipelines[0], platforms[0] if platforms else None


def _parse(pipeline: Mapping[str, Any], platform: Mapping[str, Any] | None) -> CompiledPipeline:
    try:
        specification = json_format.ParseDict(dict(pipeline), pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise _UploadError(f"not a PipelineSpec: {error}") from error
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    try:
        json_format.ParseDict(json_format.MessageToDict(specification.deployment_spec), deployment)
    except json_format.ParseError:
        # Accepted by the backend; `_executor_findings` names the field.
        json_format.ParseDict(
            json_format.MessageToDict(specification.deployment_spec), deployment, ignore_unknown_fields=True
        )
    return CompiledPipeline(specification, deployment, platform)


def _header_findings(compiled: CompiledPipeline) -> Iterator[Finding]:
    specification = compiled.specification
    if specification.schema_version != SCHEMA_VERSION:
        yield Finding(
            Moment.UPLOAD,
            f"schema version {specification.schema_version or 'missing'!r}: only {SCHEMA_VERSION} is supported",
        )
    if not _PIPELINE_NAME.fullmatch(compiled.name):
        yield Finding(
            Moment.UPLOAD,
            f"pipelineInfo.name {compiled.name!r}: lower-case letters, digits and '-' only, starting with no '-'",
        )
    if not specification.root.dag.tasks:
        yield Finding(Moment.UPLOAD, "the pipeline has no tasks")


def _dags(compiled: CompiledPipeline) -> Iterator[tuple[str, pipeline_spec_pb2.ComponentSpec]]:
    yield ROOT, compiled.specification.root
    for name, component in sorted(compiled.specification.components.items()):
        if component.WhichOneof("implementation") == "dag":
            yield name, component


def _graph_findings(compiled: CompiledPipeline) -> Iterator[Finding]:
    components = compiled.specification.components
    for dag_name, dag in _dags(compiled):
        tasks = dag.dag.tasks
        for name, task in sorted(tasks.items()):
            where = f"task {name!r}"
            if "_" in name:
                yield Finding(
                    Moment.FIRING,
                    f"{where}: an underscore in a task id is an 'invalid dependency schema'; use '-'",
                )
            if name != task.task_info.name:
                yield Finding(Moment.SILENT, f"{where}: taskInfo.name is {task.task_info.name!r}")
            if task.component_ref.name not in components:
                yield Finding(Moment.RUN, f"{where}: unknown component {task.component_ref.name!r}")
                continue
            for dependency in task.dependent_tasks:
                if dependency not in tasks:
                    yield Finding(Moment.RUN, f"{where}: unknown dependency {dependency!r}")
            if task.HasField("artifact_iterator"):
                yield Finding(Moment.RUN, f"{where}: artifact iterators are not implemented")
            yield from _input_findings(where, task, dag, dag_name, components[task.component_ref.name])
            yield from _condition_findings(where, task, components[task.component_ref.name], compiled)
        if _cycle(tasks):
            yield Finding(Moment.RUN, f"the tasks of {dag_name!r} depend on each other in a circle: {_cycle(tasks)}")


def _input_findings(
    where: str,
    task: pipeline_spec_pb2.PipelineTaskSpec,
    dag: pipeline_spec_pb2.ComponentSpec,
    dag_name: str,
    component: pipeline_spec_pb2.ComponentSpec,
) -> Iterator[Finding]:
    for key, artifact in sorted(task.inputs.artifacts.items()):
        producer = artifact.task_output_artifact.producer_task
        if artifact.WhichOneof("kind") == "task_output_artifact" and producer not in dag.dag.tasks:
            yield Finding(Moment.SILENT, f"{where}: input {key!r} comes from the unknown task {producer!r}")
    for key, parameter in sorted(task.inputs.parameters.items()):
        name = parameter.component_input_parameter
        if name and name not in dag.input_definitions.parameters:
            yield Finding(
                Moment.SILENT,
                f"{where}: parameter {key!r} takes {name!r}, which {dag_name!r} does not receive",
            )
        if key not in component.input_definitions.parameters:
            yield Finding(Moment.SILENT, f"{where}: parameter {key!r} is not defined by its component")
    for key, definition in sorted(component.input_definitions.parameters.items()):
        has_default = definition.HasField("default_value") or definition.is_optional
        if key not in task.inputs.parameters and not has_default:
            yield Finding(Moment.SILENT, f"{where}: parameter {key!r} has neither a value nor a default")


def _condition_findings(
    where: str,
    task: pipeline_spec_pb2.PipelineTaskSpec,
    component: pipeline_spec_pb2.ComponentSpec,
    compiled: CompiledPipeline,
) -> Iterator[Finding]:
    condition = task.trigger_policy.condition
    if not condition:
        return
    executor = compiled.deployment.executors.get(component.executor_label)
    if executor is not None and executor.WhichOneof("spec") == "importer":
        yield Finding(Moment.RUN, f"{where}: a condition on an importer is not supported")
    try:
        names = cel.input_names(condition)
    except cel.CelError as error:
        yield Finding(Moment.SILENT, f"{where}: condition: {error}")
        return
    known = {*component.input_definitions.artifacts, *component.input_definitions.parameters}
    for name in sorted(names - known):
        yield Finding(Moment.SILENT, f"{where}: the condition names {name!r}, which is no input of the task")


def _cycle(tasks: Mapping[str, pipeline_spec_pb2.PipelineTaskSpec]) -> str:
    done: set[str] = set()
    while True:
        ready = {
            name
            for name, task in tasks.items()
            if name not in done and done.issuperset({*task.dependent_tasks} & {*tasks})
        }
        if not ready:
            return ", ".join(sorted(set(tasks) - done))
        done |= ready


def _executor_findings(compiled: CompiledPipeline) -> Iterator[Finding]:
    executors = compiled.deployment.executors
    try:
        json_format.ParseDict(
            json_format.MessageToDict(compiled.specification.deployment_spec),
            pipeline_spec_pb2.PipelineDeploymentConfig(),
        )
    except json_format.ParseError as error:
        yield Finding(Moment.SILENT, f"deploymentSpec: {error}")
    for name, component in sorted(compiled.specification.components.items()):
        kind = component.WhichOneof("implementation")
        if kind == "executor_label" and component.executor_label not in executors:
            yield Finding(Moment.RUN, f"component {name!r}: no executor {component.executor_label!r}")
        elif kind is None:
            yield Finding(Moment.RUN, f"component {name!r} has no implementation")
    for label, executor in sorted(executors.items()):
        kind = executor.WhichOneof("spec")
        if kind == "resolver":
            yield Finding(Moment.RUN, f"executor {label!r}: resolvers are not implemented")
        elif kind not in ("container", "importer"):
            yield Finding(Moment.RUN, f"executor {label!r}: expected a container or an importer; received {kind}")
        elif kind == "container" and not executor.container.image:
            yield Finding(Moment.SILENT, f"executor {label!r}: no image")
        elif kind == "container" and not executor.container.command:
            yield Finding(Moment.SILENT, f"executor {label!r}: no command; the launcher cannot start the image's own")
        elif kind == "importer":
            uri = executor.importer.artifact_uri.constant.string_value
            if uri and not uri.startswith(("gs://", "s3://", "minio://")):
                yield Finding(
                    Moment.SILENT, f"executor {label!r}: importers take gs://, s3:// or minio://, not {uri!r}"
                )


def _platform_findings(compiled: CompiledPipeline) -> Iterator[Finding]:
    if compiled.platform is None:
        return
    faults = platform_document.top_level_faults(compiled.platform)
    for fault in faults:
        yield Finding(Moment.SILENT, f"{fault}; the whole document is dropped")
    if faults:
        return
    for label, settings in sorted(platform_document.executor_settings(compiled.platform).items()):
        if label not in compiled.deployment.executors:
            yield Finding(Moment.SILENT, f"the platform document names the executor {label!r}, which does not exist")
        for fault in platform_document.executor_faults(label, settings):
            yield Finding(Moment.RUN, f"platform document: {fault}")
