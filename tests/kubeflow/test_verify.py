"""Tests of the execution without a cluster, on a toy pipeline, and of what only the project's entry point survives."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

from kubeflow.acceptance import parse_pipeline
from kubeflow.pods import UnsupportedError, resolve_placeholders, stored_metadata
from kubeflow.verify import TaskRun, Verification, check_supported, replace_mounts, topological_order, verify

Document = dict[str, Any]
MODEL = "title: tfx.Model\ntype: object\n"
PUSHED = "title: tfx.PushedModel\ntype: object\n"
STRING, INTEGER = {"parameterType": "STRING"}, {"parameterType": "NUMBER_INTEGER"}


def _executor(name: str, inputs: Document) -> Document:
    return {
        "container": {
            "image": "registry.example/toy:1",
            "command": ["python", "-m", "kubeflow.entrypoint"],
            "args": [
                "--executor_class_path",
                name,
                "--json_serialized_invocation_args",
                "{{$}}",
                "--json_serialized_inputs_spec_args",
                json.dumps(inputs),
            ],
            "env": [{"name": "TOY", "value": "1"}],
        }
    }


def _task(name: str, *, after: list[str] | None = None, **inputs: Document) -> Document:
    return {
        "taskInfo": {"name": name},
        "componentRef": {"name": name},
        "dependentTasks": after or [],
        "inputs": inputs,
    }


@pytest.fixture
def toy() -> Document:
    """Trainer -> Pusher in the DAG of an exit handler, with a runtime parameter for each."""
    train = {"parameters": {"custom_config": STRING, "custom_config__epochs": INTEGER}}
    push = {
        "artifacts": {"model": {"artifactType": {"instanceSchema": MODEL}}},
        "parameters": {"serving_directory": STRING},
    }
    report = {"parameters": dict.fromkeys(("final_status", "run_name", "run_id", "notify_url"), STRING)}
    run_inputs = {"serving_directory": STRING, "epochs": INTEGER}
    return {
        "pipelineInfo": {"name": "toy"},
        "schemaVersion": "2.1.0",
        "root": {
            "inputDefinitions": {
                "parameters": {"serving_directory": STRING, "epochs": {**INTEGER, "defaultValue": 3}},
            },
            "dag": {
                "tasks": {
                    "tfx-dag": _task(
                        "tfx-dag", parameters={name: {"componentInputParameter": name} for name in run_inputs}
                    ),
                    "report-end": {
                        **_task(
                            "report-end",
                            after=["tfx-dag"],
                            parameters={
                                "final_status": {"taskFinalStatus": {"producerTask": "tfx-dag"}},
                                "run_name": {"runtimeValue": {"constant": "{{$.pipeline_job_name}}"}},
                                "run_id": {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}},
                                "notify_url": {"runtimeValue": {"constant": ""}},
                            },
                        ),
                        "triggerPolicy": {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"},
                    },
                }
            },
        },
        "components": {
            "tfx-dag": {
                "inputDefinitions": {"parameters": run_inputs},
                "dag": {
                    "tasks": {
                        "Trainer": _task(
                            "Trainer",
                            parameters={
                                "custom_config": {"runtimeValue": {"constant": '{"epochs": 1, "fail": false}'}},
                                "custom_config__epochs": {"componentInputParameter": "epochs"},
                            },
                        ),
                        "Pusher": _task(
                            "Pusher",
                            after=["Trainer"],
                            artifacts={
                                "model": {
                                    "taskOutputArtifact": {"producerTask": "Trainer", "outputArtifactKey": "model"}
                                }
                            },
                            parameters={"serving_directory": {"componentInputParameter": "serving_directory"}},
                        ),
                    }
                },
            },
            "Trainer": {
                "executorLabel": "Trainer_executor",
                "inputDefinitions": train,
                "outputDefinitions": {"artifacts": {"model": {"artifactType": {"instanceSchema": MODEL}}}},
            },
            "Pusher": {
                "executorLabel": "Pusher_executor",
                "inputDefinitions": push,
                "outputDefinitions": {"artifacts": {"pushed_model": {"artifactType": {"instanceSchema": PUSHED}}}},
            },
            "report-end": {"executorLabel": "report-end_executor", "inputDefinitions": report},
        },
        "deploymentSpec": {
            "executors": {
                "Trainer_executor": _executor("tests.kubeflow.toy_executors.WriteModel", train),
                "Pusher_executor": _executor("tests.kubeflow.toy_executors.PushModel", push),
                "report-end_executor": _executor("kubeflow.exit_handler.report_end_Executor", report),
            }
        },
    }


def _verify(document: Document, tmp_path: Path, **parameters: Any) -> Verification:
    compiled = parse_pipeline(yaml.safe_dump(document))
    given = {"serving_directory": str(tmp_path / "serving"), **parameters}
    return verify(compiled, parameters=given, pipeline_root="s3://bucket/root/", work=tmp_path / "work")


def test_every_task_runs_to_the_pushed_model(toy: Document, tmp_path: Path) -> None:
    result = _verify(toy, tmp_path, epochs=5)
    assert [task.error for task in result.tasks] == ["", "", ""]
    assert [task.name for task in result.tasks] == ["Trainer", "Pusher", "report-end"]
    assert result.pushed == (str(tmp_path / "serving"),)
    assert json.loads((tmp_path / "serving/settings.json").read_text(encoding="utf-8")) == {"epochs": 5, "fail": False}
    environment = json.loads((tmp_path / "serving/environment.json").read_text(encoding="utf-8"))
    assert environment["TOY"] == "1"
    assert '"succeeded": true' in (tmp_path / "work/logs/report-end.log").read_text(encoding="utf-8")
    assert (tmp_path / "work/object_store/s3/bucket/root/toy/verify/Trainer/model/settings.json").is_file()


def test_metadata_hold_uris_and_no_paths_of_the_pod(toy: Document, tmp_path: Path) -> None:
    _verify(toy, tmp_path)
    text = (tmp_path / "work/pods/Trainer/tmp/kfp_outputs/output_metadata.json").read_text(encoding="utf-8")
    artifact = json.loads(text)["artifacts"]["model"]["artifacts"][0]
    assert artifact["uri"] == "s3://bucket/root/toy/verify/Trainer/model"
    assert artifact["metadata"]["path"] == "see s3://bucket/root/toy/verify/Trainer/model/settings.json"
    assert artifact["metadata"]["epochs"] == 3
    assert "null" not in text
    assert str(tmp_path) not in text


def test_a_failure_stops_what_follows_and_is_reported_at_the_end(toy: Document, tmp_path: Path) -> None:
    trainer = toy["components"]["tfx-dag"]["dag"]["tasks"]["Trainer"]["inputs"]["parameters"]
    trainer["custom_config"]["runtimeValue"]["constant"] = '{"epochs": 1, "fail": true}'
    result = _verify(toy, tmp_path)
    assert result.failed
    assert result.pushed == ()
    failed, skipped, reported = result.tasks
    assert "RuntimeError: asked to fail" in failed.error
    assert skipped == TaskRun("Pusher", 0.0, skipped=True)
    assert (reported.name, reported.error) == ("report-end", "")
    assert '"state": "FAILED"' in (tmp_path / "work/logs/report-end.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param({"serving_directory": None}, "has no default and is not given", id="no value"),
        pytest.param({"epoch": 3}, "no runtime parameter 'epoch'; known: epochs, serving_directory", id="unknown"),
        pytest.param({"epochs": "many"}, "type mismatch: expect NUMBER_INTEGER", id="wrong type"),
    ],
)
def test_parameters_that_do_not_fit(toy: Document, tmp_path: Path, parameters: Document, message: str) -> None:
    given = {"serving_directory": "/serving", **parameters}
    given = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(UnsupportedError, match=message):
        verify(parse_pipeline(yaml.safe_dump(toy)), parameters=given, pipeline_root="s3://b", work=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"triggerPolicy": {"condition": "inputs.artifacts['model'].artifacts[0].uri != ''"}},
            "conditions are not evaluated", id="condition",
        ),
        pytest.param(
            {"parameterIterator": {"items": {"raw": "[1]"}, "itemInput": "x"}}, "loops are not executed", id="loop"
        ),
        pytest.param(
            {"inputs": {"parameters": {"serving_directory": {
                "taskOutputParameter": {"producerTask": "Trainer", "outputParameterKey": "x"}}}}},
            "task_output_parameter is not resolved", id="output parameter",
        ),
    ],
)  # fmt: skip
def test_what_is_not_implemented_is_refused(toy: Document, change: Document, message: str) -> None:
    toy["components"]["tfx-dag"]["dag"]["tasks"]["Pusher"].update(change)
    with pytest.raises(UnsupportedError, match=message):
        check_supported(parse_pipeline(yaml.safe_dump(toy)))


def test_another_command_is_refused(toy: Document, tmp_path: Path) -> None:
    toy["deploymentSpec"]["executors"]["Trainer_executor"]["container"]["command"] = ["sh", "-c", "true"]
    with pytest.raises(UnsupportedError, match="the command"):
        _verify(toy, tmp_path)


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("/data", "/here"),
        ("/data/{SPAN}/a", "/here/{SPAN}/a"),
        ('{"vocabulary": "/data/vocab.txt"}', '{"vocabulary": "/here/vocab.txt"}'),
        ("/data/models/ner", "/there/ner"),
        ("/database", "/database"),
        ("/my/data", "/my/data"),
        ("s3://bucket/data", "s3://bucket/data"),
    ],
)
def test_local_folders_stand_for_volumes(text: str, replaced: str) -> None:
    assert replace_mounts(text, {"/data": "/here", "/data/models": "/there"}) == replaced


def test_a_volume_is_written_in_its_folder(toy: Document, tmp_path: Path) -> None:
    given = {"serving_directory": "/models/ner"}
    compiled = parse_pipeline(yaml.safe_dump(toy))
    mounts = {"/models": str(tmp_path / "volume")}
    result = verify(compiled, parameters=given, pipeline_root="s3://b", work=tmp_path / "work", mounts=mounts)
    assert result.pushed == (str(tmp_path / "volume/ner"),)


def test_order() -> None:
    tasks = {name: pipeline_spec_pb2.PipelineTaskSpec() for name in "dcba"}
    tasks["a"].dependent_tasks.extend(["c", "d"])
    assert list(topological_order(tasks)) == ["b", "c", "d", "a"]


def _executor_input() -> pipeline_spec_pb2.ExecutorInput:
    text = {
        "inputs": {
            "parameterValues": {"epochs": 3, "name": "x"},
            "artifacts": {"model": {"artifacts": [{"uri": "gs://b/model", "type": {"instanceSchema": ""}}]}},
        },
        "outputs": {"outputFile": "/nowhere/output.json"},
    }
    return json_format.ParseDict(text, pipeline_spec_pb2.ExecutorInput())


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        pytest.param("--epochs={{$.inputs.parameters['epochs']}}", "--epochs=3", id="number"),
        pytest.param("{{$.inputs.parameters['name']}}", "x", id="text"),
        pytest.param("{{$.inputs.artifacts['model'].uri}}", "gs://b/model", id="URI"),
        pytest.param("{{$.inputs.artifacts['model'].path}}", "/gcs/b/model", id="path"),
        pytest.param("plain", "plain", id="none"),
    ],
)
def test_placeholders(text: str, resolved: str) -> None:
    assert resolve_placeholders(text, _executor_input()) == resolved


def test_the_whole_input_is_a_placeholder() -> None:
    parsed = json_format.Parse(resolve_placeholders("{{$}}", _executor_input()), pipeline_spec_pb2.ExecutorInput())
    assert parsed == _executor_input()


@pytest.mark.parametrize(
    "text", ["{{$.inputs.parameters['x']}}", "{{$.workspace_path}}", "{{$.outputs.artifacts['m'].uri}}"]
)
def test_unknown_placeholders(text: str) -> None:
    with pytest.raises(UnsupportedError, match="is not known here"):
        resolve_placeholders(text, _executor_input())


def test_structures_come_back_wrapped() -> None:
    artifact = pipeline_spec_pb2.RuntimeArtifact()
    artifact.metadata.update({"report": {"texts": 3}, "span": 1})
    assert json_format.MessageToDict(stored_metadata(artifact.metadata)) == {
        "report": {"struct": {"texts": 3.0}},
        "span": 1.0,
    }


@pytest.mark.parametrize(
    ("artifacts", "error"),
    [
        pytest.param({"inputs": {"artifacts": {"model": {"artifacts": [{"type": {"instanceSchema": ""}}]}}}},
                     AttributeError, id="input without a type"),
        pytest.param({"outputs": {"artifacts": {"executor-logs": {"artifacts": [
            {"type": {"schemaTitle": "system.Artifact"}}]}}}}, (ImportError, ValueError), id="executor-logs"),
    ],
)  # fmt: skip
def test_the_stock_entry_point_fails(artifacts: Document, error: Any, tmp_path: Path) -> None:
    document = {"outputs": {}, **artifacts}
    document["outputs"]["outputFile"] = str(tmp_path / "output.json")
    arguments = argparse.Namespace(
        executor_class_path="tests.kubeflow.toy_executors.WriteModel",
        json_serialized_invocation_args=json.dumps(document),
        json_serialized_inputs_spec_args="{}",
    )
    with pytest.raises(error):
        kubeflow_v2_run_executor.main((arguments, []))
