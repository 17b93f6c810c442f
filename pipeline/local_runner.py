"""Runs the pipeline on this machine: TFX's local runner, with a line of progress and the time of each component."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Collection
from typing import Literal

from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.proto.orchestration import pipeline_pb2

State = Literal["done", "cached"]


@dataclasses.dataclass(frozen=True)
class ComponentRun:
    """What became of one component: its node id, whether it ran or was cached, and the seconds it took."""

    component: str
    state: State
    seconds: float
    execution_id: int


class ComponentError(RuntimeError):
    """Raised when a component fails; `component` names it and `__cause__` is what it raised, if anything."""

    def __init__(self, component: str, message: str) -> None:
        super().__init__(message)
        self.component = component


class ProgressRunner(local_dag_runner.LocalDagRunner):
    """LocalDagRunner that tells what it does and fails where the stock runner goes on silently.

    The stock runner returns without an error when the inputs of a component cannot be resolved: the component, and all
    that follow it, are just not run. Here every node must end as COMPLETE or CACHED in the metadata store.

    Args:
        on_start: called with the node id before a component starts.
        on_end: called with its ComponentRun afterwards.
        uncached: node ids that run even when nothing changed.
    """

    def __init__(
        self,
        *,
        on_start: Callable[[str], None],
        on_end: Callable[[ComponentRun], None],
        uncached: Collection[str] = (),
    ) -> None:
        super().__init__()
        self._on_start = on_start
        self._on_end = on_end
        self._uncached = frozenset(uncached)
        self.component_runs: list[ComponentRun] = []

    def run_with_ir(self, pipeline: pipeline_pb2.Pipeline, run_options: pipeline_pb2.RunOptions | None = None) -> None:
        """Runs the compiled pipeline node by node, in the topological order in which it lists them.

        Raises:
            ComponentError: a component raised, or ended in another state than COMPLETE or CACHED.
        """
        if run_options is not None:
            raise NotImplementedError("partial runs are not supported; caching skips what has not changed")
        run_id = datetime.datetime.now().isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
        )
        deployment_config = runner_utils.extract_local_deployment_config(pipeline)
        connection = deployment_config.metadata_connection_config
        connection_config = getattr(connection, connection.WhichOneof("connection_config"))
        for node in pipeline.nodes:
            pipeline_node = node.pipeline_node
            component = pipeline_node.node_info.id
            if component in self._uncached:
                pipeline_node.execution_options.caching_options.enable_cache = False
            self._on_start(component)
            start = time.monotonic()
            try:
                execution = launcher.Launcher(
                    pipeline_node=pipeline_node,
                    mlmd_connection=metadata.Metadata(connection_config),
                    pipeline_info=pipeline.pipeline_info,
                    pipeline_runtime_spec=pipeline.runtime_spec,
                    executor_spec=runner_utils.extract_executor_spec(deployment_config, component),
                    custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment_config, component),
                ).launch()
            except Exception as error:
                raise ComponentError(component, f"{component} failed: {error}") from error
            if execution is None or execution.execution_id is None:
                raise ComponentError(component, f"{component} was not run: its inputs are missing")
            component_run = ComponentRun(
                component=component,
                state=_state(connection_config, component, execution.execution_id),
                seconds=time.monotonic() - start,
                execution_id=execution.execution_id,
            )
            self.component_runs.append(component_run)
            self._on_end(component_run)


def _state(connection_config: metadata_store_pb2.ConnectionConfig, component: str, execution_id: int) -> State:
    with metadata.Metadata(connection_config) as handle:
        (execution,) = handle.store.get_executions_by_id([execution_id])
    if execution.last_known_state == metadata_store_pb2.Execution.COMPLETE:
        return "done"
    if execution.last_known_state == metadata_store_pb2.Execution.CACHED:
        return "cached"
    state = metadata_store_pb2.Execution.State.Name(execution.last_known_state)
    raise ComponentError(component, f"{component} ended in the state {state}: its inputs could not be resolved")


def output_uris(pipeline: tfx_pipeline.Pipeline, run: ComponentRun) -> dict[str, str]:
    """Returns the URI of each output of an execution, by output key, as the metadata store of `pipeline` knows it."""
    with metadata.Metadata(pipeline.metadata_connection_config) as handle:
        events = handle.store.get_events_by_execution_ids([run.execution_id])
        output_keys = {
            event.artifact_id: event.path.steps[0].key
            for event in events
            if event.type == metadata_store_pb2.Event.OUTPUT
        }
        artifacts = handle.store.get_artifacts_by_id(list(output_keys))
    return {output_keys[artifact.id]: artifact.uri for artifact in artifacts}
