"""The configuration files, read with TensorFlow Serving's own messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format

from serving.connection import ConnectionSettings
from serving.deploy.production import max_batch_size
from serving.deploy.server_flags import flag_values
from tests.serving.deploy.kustomize import render
from tests.serving.deploy.manifest_checks import server_of
from tests.serving.deploy.serving_protos import parse_text

DEPLOY = Path(__file__).resolve().parents[3] / "serving/deploy"
CONFIG = DEPLOY / "config"


def _parsed(name: str, message_name: str) -> Any:
    return parse_text((CONFIG / name).read_text(encoding="utf-8"), message_name)


def test_models() -> None:
    (model,) = _parsed("models.pbtxt", "ModelServerConfig").model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("ner", "/models/ner", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1
    # A label in the file of a start ends the server.
    assert not model.version_labels


def test_the_policy_that_holds_a_version_is_valid() -> None:
    text = (CONFIG / "models.pbtxt").read_text(encoding="utf-8")
    (offered,) = (line[1:].strip() for line in text.splitlines() if line.startswith("#") and "specific" in line)
    held = text.replace("model_version_policy { latest { num_versions: 1 } }", offered)
    (model,) = parse_text(held, "ModelServerConfig").model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1764000000]


def test_monitoring_serves_metrics_where_prometheus_looks() -> None:
    prometheus = _parsed("monitoring.pbtxt", "MonitoringConfig").prometheus_config
    assert prometheus.enable
    for name in ("prometheus.yaml", "prometheus-kubernetes.yaml"):
        scrape = yaml.safe_load((DEPLOY / "monitoring" / name).read_text(encoding="utf-8"))
        assert [job["metrics_path"] for job in scrape["scrape_configs"]] == [prometheus.path]


@pytest.mark.parametrize("name", ["batching_cpu.pbtxt", "batching_gpu.pbtxt"])
def test_batching_is_safe(name: str) -> None:
    batching = _parsed(name, "BatchingParameters")
    # With allowed sizes an empty batch ends the server; padding fills with the first value of the tensor.
    assert not batching.allowed_batch_sizes
    assert not batching.pad_variable_length_inputs
    # Larger requests of our own client would be refused.
    assert batching.max_batch_size.value >= ConnectionSettings().max_texts
    assert batching.max_batch_size.value == max_batch_size(name.removeprefix("batching_").removesuffix(".pbtxt"))
    assert batching.num_batch_threads.value >= 1
    assert batching.max_enqueued_batches.value >= 1
    # Without the field, TensorFlow's default would apply: presence matters, also of a 0.
    assert batching.HasField("batch_timeout_micros")


@pytest.mark.parametrize(
    ("overlay", "batching_file"),
    [("cpu", "batching_cpu.pbtxt"), ("gpu", "batching_gpu.pbtxt"), ("cpu-object-store", "batching_cpu.pbtxt")],
)
def test_threads_suffice_for_a_full_queue(overlay: str, batching_file: str) -> None:
    flags = flag_values(server_of(render(DEPLOY / "kubernetes/overlays" / overlay))["args"])
    assert flags["batching_parameters_file"] == f"/config/{batching_file}"
    assert int(flags["grpc_max_threads"]) > queue_capacity(batching_file)
    assert flags["tensorflow_inter_op_parallelism"] == str(
        _parsed(batching_file, "BatchingParameters").num_batch_threads.value
    )


def queue_capacity(batching_file: str) -> int:
    """Returns how many single sentences are in the server when its queue is full."""
    batching = _parsed(batching_file, "BatchingParameters")
    batches = batching.num_batch_threads.value + batching.max_enqueued_batches.value
    return batches * batching.max_batch_size.value


@pytest.mark.parametrize(
    ("text", "message_name"),
    [
        pytest.param("max_batch_size: 64", "BatchingParameters", id="a-number-without-its-wrapper"),
        pytest.param("max_batchsize { value: 64 }", "BatchingParameters", id="unknown-field"),
        pytest.param("prometheus_config { enabled: true }", "MonitoringConfig", id="unknown-field-below"),
        pytest.param('model_config_list { config { nme: "ner" } }', "ModelServerConfig", id="unknown-field-of-a-model"),
        pytest.param("server_key: server.key", "SSLConfig", id="text-without-quotes"),
    ],
)
def test_what_the_server_would_refuse_is_refused_here(text: str, message_name: str) -> None:
    with pytest.raises(text_format.ParseError):
        parse_text(text, message_name)
