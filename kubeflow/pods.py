"""One task as a pod of the backend would run it, without a cluster: launcher and container, in a process of its own.

The launcher's part is done for real: inputs are copied from a folder that stands for the object store into the task's
own folder, outputs are copied back, and the output file is merged strictly. So a component that reads what it did not
declare, or writes beside its outputs, fails here as it would in a pod.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Mapping

from google.protobuf import json_format, struct_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import entrypoint, object_store

ENTRYPOINT_COMMAND = ["python", "-m", "kubeflow.entrypoint"]
_PLACEHOLDER = re.compile(r"\{\{\$(.*?)\}\}")
_ARTIFACT = re.compile(r"\.(inputs|outputs)\.artifacts\['([^']+)'\]\.(uri|path)")
_PARAMETER = re.compile(r"\.inputs\.parameters\['([^']+)'\]")


class TaskError(RuntimeError):
    """Raised when a task fails; the message ends with the last lines of its log."""


class UnsupportedError(ValueError):
    """Raised for a part of the compiled file that cannot be executed here."""


def run_container(
    container: pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec,
    executor_input: pipeline_spec_pb2.ExecutorInput,
    *,
    store: pathlib.Path,
    pod: pathlib.Path,
    log: pathlib.Path,
    fork: bool,
) -> pipeline_spec_pb2.ExecutorOutput:
    """Runs a container of the compiled file and returns what it put into its output file.

    Args:
        container: command and arguments; the command must be the project's entry point.
        executor_input: what the driver would send.
        store: folder that stands for the object stores.
        pod: the task's own folder, in place of the pod's file system.
        log: receives what the task prints.
        fork: whether to fork this process, which has the imports done, instead of starting a new one.

    Raises:
        TaskError: the task failed, or left an output file that the launcher would not take.
        UnsupportedError: another command, or an unknown placeholder.
    """
    if list(container.command) != ENTRYPOINT_COMMAND:
        raise UnsupportedError(f"the command {list(container.command)} is not {ENTRYPOINT_COMMAND}")
    arguments = [resolve_placeholders(argument, executor_input) for argument in container.args]
    environment = {item.name: item.value for item in container.env}
    _download(executor_input, store, pod)
    environment[object_store.PREFIX_VARIABLE] = str(pod)
    pathlib.Path(executor_input.outputs.output_file).parent.mkdir(parents=True, exist_ok=True)
    run = _fork if fork else _start
    status = run(arguments, environment, log)
    if status != 0:
        raise TaskError(f"exit status {status}; the end of {log}:\n{_tail(log)}")
    output = _read_output(pathlib.Path(executor_input.outputs.output_file))
    for key, artifacts in executor_input.outputs.artifacts.items():
        merge_output(artifacts.artifacts[0], output.artifacts.get(key))
    _upload(executor_input, store, pod)
    return output


def resolve_placeholders(text: str, executor_input: pipeline_spec_pb2.ExecutorInput) -> str:
    """Replaces the placeholders of an argument as the launcher does.

    Raises:
        UnsupportedError: for a placeholder that is not known here.
    """

    def resolve(match: re.Match[str]) -> str:
        if not match[1]:
            return json_format.MessageToJson(executor_input, indent=None)
        artifact = _ARTIFACT.fullmatch(match[1])
        if artifact:
            artifacts = getattr(executor_input, artifact[1]).artifacts
            if artifact[2] in artifacts:
                uri = artifacts[artifact[2]].artifacts[0].uri
                return uri if artifact[3] == "uri" else object_store.local_path(uri, prefix="")
        parameter = _PARAMETER.fullmatch(match[1])
        if parameter and parameter[1] in executor_input.inputs.parameter_values:
            value = json_format.MessageToDict(executor_input.inputs.parameter_values[parameter[1]])
            return value if isinstance(value, str) else f"{value:g}"
        raise UnsupportedError(f"the placeholder {match[0]} is not known here")

    return _PLACEHOLDER.sub(resolve, text)


def merge_output(artifact: pipeline_spec_pb2.RuntimeArtifact, written: pipeline_spec_pb2.ArtifactList | None) -> None:
    """Merges what the task wrote about an output into what the driver provided, as the launcher does.

    Raises:
        TaskError: for metadata that the store of the backend cannot hold.
    """
    if written is None or not written.artifacts:
        return
    if written.artifacts[0].uri:
        artifact.uri = written.artifacts[0].uri
    for key, value in written.artifacts[0].metadata.fields.items():
        if value.WhichOneof("kind") == "null_value":
            raise TaskError(f"the metadata {key!r} of {artifact.uri} is null, which the backend's store cannot hold")
        artifact.metadata.fields[key].CopyFrom(value)


def stored_metadata(metadata: struct_pb2.Struct) -> struct_pb2.Struct:
    """Returns metadata as it comes back from the backend's store: structures are wrapped once more."""
    stored = struct_pb2.Struct()
    for key, value in metadata.fields.items():
        if value.WhichOneof("kind") == "struct_value":
            stored.fields[key].struct_value.fields["struct"].CopyFrom(value)
        else:
            stored.fields[key].CopyFrom(value)
    return stored


def _download(executor_input: pipeline_spec_pb2.ExecutorInput, store: pathlib.Path, pod: pathlib.Path) -> None:
    for artifacts in executor_input.inputs.artifacts.values():
        uri = artifacts.artifacts[0].uri
        if object_store.is_object_store(uri):
            _copy(object_store.local_path(uri, str(store)), object_store.local_path(uri, str(pod)))
    for artifacts in executor_input.outputs.artifacts.values():
        path = pathlib.Path(object_store.local_path(artifacts.artifacts[0].uri, str(pod)))
        path.parent.mkdir(parents=True, exist_ok=True)


def _upload(executor_input: pipeline_spec_pb2.ExecutorInput, store: pathlib.Path, pod: pathlib.Path) -> None:
    for artifacts in executor_input.outputs.artifacts.values():
        uri = artifacts.artifacts[0].uri
        if object_store.is_object_store(uri):
            _copy(object_store.local_path(uri, str(pod)), object_store.local_path(uri, str(store)))


def _copy(source: str, destination: str) -> None:
    """Copies files, not empty folders, which object stores do not know; a missing source is no error."""
    if os.path.isfile(source):
        os.makedirs(os.path.dirname(destination), exist_ok=True)
        shutil.copyfile(source, destination)
    for folder, _, names in os.walk(source):
        for name in names:
            target = os.path.join(destination, os.path.relpath(folder, source), name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), target)


def _read_output(path: pathlib.Path) -> pipeline_spec_pb2.ExecutorOutput:
    output = pipeline_spec_pb2.ExecutorOutput()
    if path.exists():
        try:
            json_format.Parse(path.read_text(encoding="utf-8"), output)
        except json_format.ParseError as error:
            raise TaskError(f"the launcher would not take the output file {path}: {error}") from error
    return output


def _start(arguments: list[str], environment: Mapping[str, str], log: pathlib.Path) -> int:
    with log.open("wb") as output:
        command = [sys.executable, *ENTRYPOINT_COMMAND[1:], *arguments]
        return subprocess.run(
            command, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT, check=False
        ).returncode


def _fork(arguments: list[str], environment: Mapping[str, str], log: pathlib.Path) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with log.open("wb") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
            # Whoever replaced the streams of this process, as test runners do, keeps the replacement for itself.
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            os.environ.update(environment)
            entrypoint.main(arguments)
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: what the parent registered for its own end must not run here.
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _tail(log: pathlib.Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
