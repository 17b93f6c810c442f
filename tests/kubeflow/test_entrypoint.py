"""Tests of the parts of the entry point, and of the mapping of object store URIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from kubeflow import entrypoint, object_store
from kubeflow.overrides import OverrideError, merge_overrides, override_name

EXAMPLES = "title: tfx.Examples\n"


def _input(document: dict[str, Any]) -> pipeline_spec_pb2.ExecutorInput:
    return json_format.ParseDict(document, pipeline_spec_pb2.ExecutorInput())


def _specification(document: dict[str, Any]) -> pipeline_spec_pb2.ComponentInputsSpec:
    return json_format.ParseDict(document, pipeline_spec_pb2.ComponentInputsSpec())


@pytest.mark.parametrize(
    ("type_", "completed"),
    [
        pytest.param({"instanceSchema": ""}, EXAMPLES, id="empty"),
        pytest.param({}, EXAMPLES, id="missing"),
        pytest.param({"instanceSchema": "title: tfx.Model\n"}, "title: tfx.Model\n", id="given"),
    ],
)
def test_types_are_completed(type_: dict[str, str], completed: str) -> None:
    executor_input = _input(
        {"inputs": {"artifacts": {"examples": {"artifacts": [{"uri": "s3://b/e", "type": type_}]}}}}
    )
    specification = _specification({"artifacts": {"examples": {"artifactType": {"instanceSchema": EXAMPLES}}}})
    entrypoint.complete_types(executor_input, specification)
    assert executor_input.inputs.artifacts["examples"].artifacts[0].type.instance_schema == completed


def test_outputs_of_the_backend_are_dropped() -> None:
    logs = {"artifacts": [{"type": {"schemaTitle": "system.Artifact"}}]}
    model = {"artifacts": [{"type": {"instanceSchema": "title: tfx.Model\n"}}]}
    executor_input = _input({"outputs": {"artifacts": {"executor-logs": logs, "model": model}}})
    entrypoint.drop_backend_outputs(executor_input)
    assert list(executor_input.outputs.artifacts) == ["model"]


def test_parameters_get_their_types() -> None:
    executor_input = _input(
        {
            "inputs": {
                "parameterValues": {
                    "custom_config": '{"epochs": 1, "learning_rate": 0.1}',
                    "custom_config__epochs": 5,
                    "custom_config__learning_rate": 1,
                    "final_status": {"state": "FAILED"},
                    "flag": 1,
                }
            }
        }
    )
    types = {"custom_config__epochs": "NUMBER_INTEGER", "custom_config__learning_rate": "NUMBER_DOUBLE"}
    specification = _specification({"parameters": {name: {"parameterType": type_} for name, type_ in types.items()}})
    entrypoint.set_parameters(executor_input, specification)
    values = executor_input.inputs.parameter_values
    assert set(values) == {"custom_config", "final_status", "flag"}
    # Text, because 5 and 5.0 are equal but only one of them is a number of epochs.
    assert values["custom_config"].string_value == '{"epochs": 5, "learning_rate": 1.0}'
    assert json.loads(values["final_status"].string_value) == {"state": "FAILED"}
    assert values["flag"].number_value == 1


def test_folders_of_outputs_are_made(tmp_path: Path) -> None:
    def output(name: str, title: str) -> dict[str, Any]:
        return {
            "artifacts": [
                {"uri": f"{tmp_path}/{name}/out", "type": {"instanceSchema": f"title: {title}\ntype: object\n"}}
            ]
        }

    outputs = {"model": output("a", "tfx.Model"), "number": output("b", "tfx.Integer")}
    entrypoint.make_output_folders(_input({"outputs": {"artifacts": outputs}}))
    assert (tmp_path / "a/out").is_dir()
    assert [path.name for path in (tmp_path / "b").iterdir()] == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/a", "/p/minio/bucket/a"),
        ("s3://bucket/a", "/p/s3/bucket/a"),
        ("gs://bucket/a", "/p/gcs/bucket/a"),
        ("/data/a", "/data/a"),
        ("http://host/a", "http://host/a"),
        ("", ""),
    ],
)
def test_local_paths(uri: str, path: str) -> None:
    assert object_store.local_path(uri, "/p/") == path


def test_the_prefix_is_empty_in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(object_store.PREFIX_VARIABLE, raising=False)
    assert object_store.local_path("s3://b/m") == "/s3/b/m"
    monkeypatch.setenv(object_store.PREFIX_VARIABLE, "/here")
    assert object_store.local_path("s3://b/m") == "/here/s3/b/m"


def test_paths_become_uris_and_null_disappears() -> None:
    uris = {"/s3/b/m": "s3://b/m", "/s3/b/m/x": "s3://other/x"}
    value = {"a": ["/s3/b/m", "see /s3/b/m/x/y", None], "b": {"c": None, "d": "/data"}, "e": 1.0}
    assert object_store.to_remote(value, uris) == {
        "a": ["s3://b/m", "see s3://other/x/y", None],
        "b": {"d": "/data"},
        "e": 1.0,
    }


@pytest.mark.parametrize(
    ("parameters", "merged"),
    [
        pytest.param({"a": "x"}, {"a": "x"}, id="nothing to merge"),
        pytest.param(
            {"c": '{"list": [{"n": 1}]}', "c__list__0__n": 2}, {"c": '{"list": [{"n": 2}]}'}, id="inside a list"
        ),
        pytest.param({"range_config__span": -1}, {}, id="newest span"),
        pytest.param(
            {"range_config__span": 7},
            {"range_config": '{"static_range": {"start_span_number": 7, "end_span_number": 7}}'},
            id="given span",
        ),
    ],
)
def test_overrides(parameters: dict[str, Any], merged: dict[str, Any]) -> None:
    assert merge_overrides(parameters) == merged


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param({"c": '{"a": 1}', "c__b": 2}, "no 'b' there; known: \\['a'\\]", id="unknown setting"),
        pytest.param({"c": '{"a": [1]}', "c__a__1": 2}, "no '1' there", id="index beyond the list"),
        pytest.param({"c__a": 2}, "has no parameter 'c'", id="no such settings"),
        pytest.param({"c": "text", "c__a": 2}, "is not JSON", id="no JSON"),
        pytest.param({"range_config__span": -2}, "expected a span number", id="negative span"),
    ],
)
def test_overrides_that_do_not_fit(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(OverrideError, match=message):
        merge_overrides(parameters)


def test_names_of_overrides() -> None:
    assert override_name("input_config", "splits", 0, "pattern") == "input_config__splits__0__pattern"
