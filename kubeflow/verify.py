"""Executes a compiled pipeline without a cluster, as the Kubeflow Pipelines backend would.

The drivers' part is done here: order, parameters, inputs and outputs of each task, with what the backend is known to do
to TFX: input artifacts without types, object store URIs, the added `executor-logs` output, ExampleGen's driver never
called. What is not implemented is refused and never skipped.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow.acceptance import CompiledPipeline
from kubeflow.pods import TaskError, UnsupportedError, run_container, stored_metadata

_PUSHED_MODEL = "tfx.PushedModel"
RUN_NAME = "verify"
# What the driver puts in the place of such constants.
_RUN_PLACEHOLDERS = {
    "{{$.pipeline_job_name}}": RUN_NAME,
    "{{$.pipeline_job_resource_name}}": RUN_NAME,
    "{{$.pipeline_job_uuid}}": "00000000-0000-0000-0000-000000000000",
}
Artifacts = dict[tuple[str, str], pipeline_spec_pb2.RuntimeArtifact]
Values = dict[str, struct_pb2.Value]


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """What became of a task.

    Attributes:
        name: of the task.
        seconds: how long it took.
        error: why it failed; "" if it did not.
        skipped: whether it did not run, because a task before it failed.
    """

    name: str
    seconds: float
    error: str = ""
    skipped: bool = False


@dataclasses.dataclass(frozen=True)
class Verification:
    """What a run of the compiled file came to.

    Attributes:
        tasks: in the order in which they ran.
        pushed: folders of the pushed versions.
        refusals: why a model was not pushed.
    """

    tasks: tuple[TaskRun, ...]
    pushed: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether any task failed."""
        return any(task.error for task in self.tasks)


def verify(
    compiled: CompiledPipeline,
    *,
    parameters: Mapping[str, Any],
    pipeline_root: str,
    work: pathlib.Path,
    mounts: Mapping[str, str] | None = None,
    fork: bool = True,
    report: Callable[[TaskRun], None] = lambda task: None,
) -> Verification:
    """Runs every task of `compiled`.

    Args:
        compiled: the pipeline, which the acceptance rules have passed.
        parameters: runtime parameters; the others take the defaults of the file.
        pipeline_root: an object store URI, as each run gives it to the backend.
        work: folder for the object store, the tasks' folders and the logs.
        mounts: mount path of a volume -> local folder that stands for it, wherever it occurs in a parameter.
        fork: whether tasks are forks of this process, which imports once, or processes of their own.
        report: called after each task.

    Raises:
        UnsupportedError: the file has something that cannot be executed here, or a parameter has no value.
    """
    check_supported(compiled)
    run = _Run(compiled, pipeline_root, work, mounts or {}, fork, report)
    if fork:
        _import_executors(compiled)
    values = _root_parameters(compiled, parameters)
    run.run_dag(compiled.specification.root, values)
    return Verification(tuple(run.tasks), tuple(run.pushed), tuple(run.refusals))


def check_supported(compiled: CompiledPipeline) -> None:
    """Refuses what the execution here would have to skip.

    Raises:
        UnsupportedError: naming the task and the feature.
    """
    dags = [compiled.specification.root, *compiled.specification.components.values()]
    for name, task in itertools.chain.from_iterable(dag.dag.tasks.items() for dag in dags):
        if task.trigger_policy.condition:
            raise UnsupportedError(f"task {name!r}: conditions are not evaluated here")
        if task.WhichOneof("iterator"):
            raise UnsupportedError(f"task {name!r}: loops are not executed here")
        for key, artifact in task.inputs.artifacts.items():
            if artifact.WhichOneof("kind") != "task_output_artifact":
                raise UnsupportedError(f"task {name!r}: input {key!r} does not come from a task beside it")
        for key, parameter in task.inputs.parameters.items():
            kind = parameter.WhichOneof("kind")
            if kind not in ("runtime_value", "component_input_parameter", "task_final_status"):
                raise UnsupportedError(f"task {name!r}: parameter {key!r}: {kind} is not resolved here")
            if parameter.parameter_expression_selector:
                raise UnsupportedError(f"task {name!r}: parameter {key!r}: selectors are not evaluated here")


def topological_order(tasks: Mapping[str, pipeline_spec_pb2.PipelineTaskSpec]) -> Iterator[str]:
    """Yields the names of tasks, each after those that it depends on; equals in alphabetical order."""
    done: set[str] = set()
    while len(done) < len(tasks):
        waiting = sorted(set(tasks) - done)
        ready = [name for name in waiting if done.issuperset(tasks[name].dependent_tasks)]
        if not ready:
            raise UnsupportedError(f"tasks depend on each other in a circle: {waiting}")
        yield ready[0]
        done.add(ready[0])


class _Run:
    """The state of one run: what tasks left, and what they did."""

    def __init__(
        self,
        compiled: CompiledPipeline,
        pipeline_root: str,
        work: pathlib.Path,
        mounts: Mapping[str, str],
        fork: bool,
        report: Callable[[TaskRun], None],
    ) -> None:
        self._compiled, self._work, self._mounts, self._fork, self._report = compiled, work, mounts, fork, report
        self._root = f"{pipeline_root.rstrip('/')}/{compiled.name}/{RUN_NAME}"
        self._artifact_ids = itertools.count(1)
        self.tasks: list[TaskRun] = []
        self.pushed: list[str] = []
        self.refusals: list[str] = []

    def run_dag(self, dag: pipeline_spec_pb2.ComponentSpec, values: Values) -> bool:
        """Runs the tasks of a DAG and returns whether all of them succeeded."""
        artifacts: Artifacts = {}
        succeeded: dict[str, bool] = {}
        tasks = dag.dag.tasks
        strategies = pipeline_spec_pb2.PipelineTaskSpec.TriggerPolicy
        for name in topological_order(tasks):
            task = tasks[name]
            always = task.trigger_policy.strategy == strategies.ALL_UPSTREAM_TASKS_COMPLETED
            if not always and not all(succeeded.get(dependency) for dependency in task.dependent_tasks):
                succeeded[name] = False
                self._finish(TaskRun(name, 0.0, skipped=True))
                continue
            component = self._compiled.specification.components[task.component_ref.name]
            inputs = self._parameters(task, component, values, succeeded)
            if component.WhichOneof("implementation") == "dag":
                succeeded[name] = self.run_dag(component, inputs)
            else:
                succeeded[name] = self._run_task(name, task, component, inputs, artifacts)
        return all(succeeded.values())

    def _parameters(
        self,
        task: pipeline_spec_pb2.PipelineTaskSpec,
        component: pipeline_spec_pb2.ComponentSpec,
        values: Values,
        succeeded: Mapping[str, bool],
    ) -> Values:
        resolved = {}
        for key, parameter in task.inputs.parameters.items():
            kind = parameter.WhichOneof("kind")
            if kind == "runtime_value":
                value = self._constant(parameter.runtime_value.constant)
            elif kind == "component_input_parameter":
                value = values[parameter.component_input_parameter]
            else:
                value = _final_status(parameter.task_final_status.producer_task, succeeded)
            resolved[key] = _converted(task.task_info.name, key, value, component)
        for key, definition in component.input_definitions.parameters.items():
            if key not in resolved and definition.HasField("default_value"):
                resolved[key] = definition.default_value
        return resolved

    def _constant(self, value: struct_pb2.Value) -> struct_pb2.Value:
        text = value.string_value
        if not text.startswith("{{$."):
            return value
        if text not in _RUN_PLACEHOLDERS:
            raise UnsupportedError(f"the placeholder {text} is not known here")
        return struct_pb2.Value(string_value=_RUN_PLACEHOLDERS[text])

    def _run_task(
        self,
        name: str,
        task: pipeline_spec_pb2.PipelineTaskSpec,
        component: pipeline_spec_pb2.ComponentSpec,
        parameters: Values,
        artifacts: Artifacts,
    ) -> bool:
        start = time.monotonic()
        executor = self._compiled.deployment.executors[component.executor_label]
        try:
            if executor.WhichOneof("spec") == "importer":
                (key,) = component.output_definitions.artifacts
                outputs = {key: _imported(executor.importer, component)}
            else:
                outputs = self._run_container(name, task, component, parameters, executor.container, artifacts)
        except TaskError as error:
            self._finish(TaskRun(name, time.monotonic() - start, str(error)))
            return False
        for key, artifact in outputs.items():
            artifact.name = str(next(self._artifact_ids))
            artifacts[name, key] = artifact
            self._note_push(artifact)
        self._finish(TaskRun(name, time.monotonic() - start))
        return True

    def _run_container(
        self,
        name: str,
        task: pipeline_spec_pb2.PipelineTaskSpec,
        component: pipeline_spec_pb2.ComponentSpec,
        parameters: Values,
        container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
        artifacts: Artifacts,
    ) -> dict[str, pipeline_spec_pb2.RuntimeArtifact]:
        executor_input = pipeline_spec_pb2.ExecutorInput()
        for key, value in parameters.items():
            executor_input.inputs.parameter_values[key].CopyFrom(_on_mounts(value, self._mounts))
        for key, source in task.inputs.artifacts.items():
            producer = (source.task_output_artifact.producer_task, source.task_output_artifact.output_artifact_key)
            if producer in artifacts:
                executor_input.inputs.artifacts[key].artifacts.add().CopyFrom(_as_input(artifacts[producer]))
        for key, definition in component.output_definitions.artifacts.items():
            output = executor_input.outputs.artifacts[key].artifacts.add()
            output.uri = f"{self._root}/{name}/{key}"
            output.type.CopyFrom(definition.artifact_type)
            output.metadata.CopyFrom(definition.metadata)
        log = executor_input.outputs.artifacts["executor-logs"].artifacts.add()
        log.uri = f"{self._root}/{name}/executor-logs"
        log.type.schema_title = "system.Artifact"
        pod = self._work / "pods" / name
        executor_input.outputs.output_file = str(pod / "tmp" / "kfp_outputs" / "output_metadata.json")
        logs = self._work / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        run_container(
            container,
            executor_input,
            store=self._work / "object_store",
            pod=pod,
            log=logs / f"{name}.log",
            fork=self._fork,
        )
        return {
            key: executor_input.outputs.artifacts[key].artifacts[0] for key in component.output_definitions.artifacts
        }

    def _finish(self, task: TaskRun) -> None:
        self.tasks.append(task)
        self._report(task)

    def _note_push(self, artifact: pipeline_spec_pb2.RuntimeArtifact) -> None:
        if _PUSHED_MODEL not in artifact.type.instance_schema:
            return
        metadata = json_format.MessageToDict(artifact.metadata)
        if metadata.get("pushed"):
            self.pushed.append(metadata["pushed_destination"])
        else:
            self.refusals.append(metadata.get("refusals", "the pusher said nothing"))


def replace_mounts(text: str, mounts: Mapping[str, str]) -> str:
    """Replaces mount paths at the beginning of paths in `text`, which may be a path or JSON.

    Example:
        >>> replace_mounts('{"file": "/data/a", "other": "/database/a"}', {"/data": "/here"})
        '{"file": "/here/a", "other": "/database/a"}'
    """
    # The longest first, because a volume may be mounted inside another.
    for mount in sorted(mounts, key=len, reverse=True):
        folder = mounts[mount].replace("\\", "\\\\")
        text = re.sub(rf"(?<![\w./-]){re.escape(mount)}(?=[/\"']|$)", folder, text)
    return text


def _on_mounts(value: struct_pb2.Value, mounts: Mapping[str, str]) -> struct_pb2.Value:
    if value.WhichOneof("kind") != "string_value":
        return value
    return struct_pb2.Value(string_value=replace_mounts(value.string_value, mounts))


def _root_parameters(compiled: CompiledPipeline, parameters: Mapping[str, Any]) -> Values:
    definitions = compiled.specification.root.input_definitions.parameters
    for name in parameters:
        if name not in definitions:
            raise UnsupportedError(f"no runtime parameter {name!r}; known: {', '.join(sorted(definitions)) or 'none'}")
    values = {}
    for name, definition in definitions.items():
        if name in parameters:
            values[name] = json_format.ParseDict(parameters[name], struct_pb2.Value())
        elif definition.HasField("default_value"):
            values[name] = definition.default_value
        else:
            raise UnsupportedError(f"the runtime parameter {name!r} has no default and is not given")
    return values


def _final_status(task: str, succeeded: Mapping[str, bool]) -> struct_pb2.Value:
    status: dict[str, Any] = {
        "state": "COMPLETE" if succeeded[task] else "FAILED",
        "pipelineJobResourceName": RUN_NAME,
        "pipelineTaskName": task,
        "error": {},
    }
    return json_format.ParseDict(status, struct_pb2.Value())


def _converted(
    task: str, key: str, value: struct_pb2.Value, component: pipeline_spec_pb2.ComponentSpec
) -> struct_pb2.Value:
    """Checks a value against the type of the component's parameter, as the driver does; strings take anything."""
    types = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    type_name = types.Name(component.input_definitions.parameters[key].parameter_type)
    kind = value.WhichOneof("kind")
    expected = {
        "NUMBER_INTEGER": "number_value",
        "NUMBER_DOUBLE": "number_value",
        "BOOLEAN": "bool_value",
        "LIST": "list_value",
        "STRUCT": "struct_value",
        "TASK_FINAL_STATUS": "struct_value",
    }.get(type_name)
    if type_name == "STRING" and kind != "string_value":
        return struct_pb2.Value(string_value=json.dumps(json_format.MessageToDict(value)))
    if expected not in (None, kind):
        raise UnsupportedError(f"task {task!r}: parameter {key!r}: type mismatch: expect {type_name}, got {kind}")
    return value


def _imported(
    importer: pipeline_spec_pb2.PipelineDeploymentConfig.ImporterSpec, component: pipeline_spec_pb2.ComponentSpec
) -> pipeline_spec_pb2.RuntimeArtifact:
    if importer.artifact_uri.WhichOneof("value") != "constant":
        raise UnsupportedError("importers with a URI from a parameter are not executed here")
    artifact = pipeline_spec_pb2.RuntimeArtifact(uri=importer.artifact_uri.constant.string_value)
    (definition,) = component.output_definitions.artifacts.values()
    artifact.type.CopyFrom(definition.artifact_type)
    artifact.metadata.CopyFrom(importer.metadata)
    return artifact


def _as_input(artifact: pipeline_spec_pb2.RuntimeArtifact) -> pipeline_spec_pb2.RuntimeArtifact:
    """An artifact as it comes back out of the backend's metadata store: without its type."""
    copy = pipeline_spec_pb2.RuntimeArtifact(name=artifact.name, uri=artifact.uri)
    copy.type.instance_schema = ""
    copy.metadata.CopyFrom(stored_metadata(artifact.metadata))
    return copy


def _import_executors(compiled: CompiledPipeline) -> None:
    """Imports what the tasks need, once, before they are forked off."""
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor  # noqa: F401
    from tfx.orchestration.kubeflow.v2.file_based_example_gen import driver  # noqa: F401
    from tfx.utils import import_utils

    for executor in compiled.deployment.executors.values():
        arguments = list(executor.container.args)
        if "--executor_class_path" in arguments:
            import_utils.import_class_by_path(arguments[arguments.index("--executor_class_path") + 1])
