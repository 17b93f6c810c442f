"""The deployment's own command lines and files, on TensorFlow Serving itself where it is found."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2

from serving.client import Client
from serving.connection import Tls
from serving.deploy.tls import main as tls_main
from serving.protocol import fusion_ner_protocol_pb2 as protocol
from tests.serving.deploy.kustomize import render
from tests.serving.deploy.manifest_checks import of_kind, server_of
from tests.serving.deploy.test_monitoring import EXPORTED, known_labels

pytestmark = pytest.mark.tfserving

OVERLAYS = Path(__file__).resolve().parents[3] / "serving/deploy/kubernetes/overlays"
# Loading the model takes seconds on a busy machine.
START_SECONDS = 120


@dataclass
class Running:
    """A server with the command line of an overlay, in a folder in place of the pod's file system."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int
    rest_port: int

    def get(self, path: str) -> tuple[int, str]:
        """Returns status and body of a GET on the REST port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self) -> str:
        """Returns what the server has written."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")


@pytest.fixture
def program() -> str:
    found = shutil.which(os.environ.get("TENSORFLOW_MODEL_SERVER") or "tensorflow_model_server")
    if found is None:
        pytest.skip("tensorflow_model_server is neither at $TENSORFLOW_MODEL_SERVER nor on the PATH")
    return found


@contextmanager
def _start(program: str, overlay: str, folder: Path, model: Path) -> Iterator[Running]:
    manifests = render(OVERLAYS / overlay)
    server = server_of(manifests)
    (config,) = (item for item in of_kind(manifests, "ConfigMap") if item["metadata"]["name"] == "fusion-ner-config")
    (folder / "config").mkdir()
    for name, text in config["data"].items():
        (folder / "config" / name).write_text(text.replace('"/models/', f'"{folder}/models/'), encoding="utf-8")
    shutil.copytree(model, folder / "models/ner/1")
    port, rest_port = _free_ports()
    arguments = [
        argument.replace("=/config/", f"={folder}/config/")
        .replace("=/tls/", f"={folder}/tls/")
        .replace("--port=8500", f"--port={port}")
        .replace("--rest_api_port=8501", f"--rest_api_port={rest_port}")
        for argument in server["args"]
    ]
    with (folder / "log").open("wb") as log:
        # What it logs explains a failure; the variable of whoever runs the tests may hide it.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment)
    running = Running(process, folder, port, rest_port)
    try:
        _wait_until(lambda: _answers(running, server["startupProbe"]["httpGet"]["path"]), running)
        yield running
    finally:
        process.kill()
        process.wait()


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def _answers(running: Running, path: str) -> bool:
    try:
        return running.get(path)[0] == 200
    except OSError:
        return False


def _wait_until(condition: Callable[[], object], running: Running) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert running.process.poll() is None, running.log()
        assert time.monotonic() < deadline, running.log()
        time.sleep(0.2)


def _empty_batch() -> protocol.PredictRequest:
    request = protocol.PredictRequest()
    request.model_spec.name = "ner"
    text = request.inputs["text"]
    text.dtype = 7  # DT_STRING
    text.tensor_shape.dim.add(size=0)
    return request


def test_the_pod_of_the_cpu_overlay(program: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    models: Path = request.getfixturevalue("models")
    server = server_of(render(OVERLAYS / "cpu"))
    with (
        _start(program, "cpu", tmp_path, models / "ner_w1") as running,
        Client(f"127.0.0.1:{running.port}") as client,
    ):
        assert "unknown argument" not in running.log()
        for probe in ("readinessProbe", "livenessProbe"):
            assert running.get(server[probe]["httpGet"]["path"])[0] == 200
        assert [status.state for status in client.status()] == ["AVAILABLE"]
        # A batch that is empty must not end the server, which batching with allowed sizes would.
        client.predict(_empty_batch())
        assert len(client.tag(["Alice", "no one"])) == 2
        assert running.process.poll() is None

        # The only version is withdrawn: nothing is left to serve, and readiness says so although the server runs.
        (tmp_path / "models/ner/1").rename(tmp_path / "models/ner/.withdrawn-1")
        _wait_until(lambda: running.get(server["readinessProbe"]["httpGet"]["path"])[0] == 404, running)
        assert running.get(server["livenessProbe"]["httpGet"]["path"])[0] == 200

        running.process.send_signal(signal.SIGTERM)
        running.process.wait(5)


def test_clients_choose_versions_and_labels(program: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    models: Path = request.getfixturevalue("models")
    reload = model_management_pb2.ReloadConfigRequest()
    config = reload.config.model_config_list.config.add(
        name="ner", base_path=str(tmp_path / "models/ner"), model_platform="tensorflow"
    )
    config.model_version_policy.all.SetInParent()
    with (
        _start(program, "cpu", tmp_path, models / "ner_w1") as running,
        Client(f"127.0.0.1:{running.port}") as client,
        grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel,
    ):
        shutil.copytree(models / "ner_w1", tmp_path / "models/ner/.incoming-2")
        (tmp_path / "models/ner/.incoming-2").rename(tmp_path / "models/ner/2")
        ask = channel.unary_unary(
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            model_management_pb2.ReloadConfigRequest.SerializeToString,
            model_management_pb2.ReloadConfigResponse.FromString,
        )
        ask(reload, timeout=60)
        _wait_until(lambda: [status.state for status in client.status()] == ["AVAILABLE"] * 2, running)
        # A label can only be given to a version that is available.
        config.version_labels["stable"] = 1
        ask(reload, timeout=60)

        for selection, version in (({}, 2), ({"version": 1}, 1), ({"version_label": "stable"}, 1)):
            with Client(f"127.0.0.1:{running.port}", **selection) as selecting:
                assert selecting.tag(["Alice"])[0].model_version == version


def test_metrics_are_those_that_alerts_ask_for(program: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    models: Path = request.getfixturevalue("models")
    server = server_of(render(OVERLAYS / "cpu"))
    with (
        _start(program, "cpu", tmp_path, models / "ner_w1") as running,
        Client(f"127.0.0.1:{running.port}") as client,
    ):
        client.tag(["Alice"])
        status, metrics = running.get("/monitoring/prometheus/metrics")
        assert status == 200
        assert set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE)) >= set(EXPORTED)
        for name, labels in re.findall(r"^(:tensorflow:\S+?)\{([^}]*)\}", metrics, re.MULTILINE):
            known = known_labels(name)
            assert known is None or set(re.findall(r'(\w+)="', labels)) <= known, name

        # A version that cannot be read: the one before still serves, and the alert's metric says so.
        shutil.copytree(models / "ner_garbage_pb", tmp_path / "models/ner/.incoming-2")
        (tmp_path / "models/ner/.incoming-2").rename(tmp_path / "models/ner/2")
        failed = re.compile(r'^:tensorflow:cc:saved_model:load_attempt_count\{[^}]*status="(?!success)', re.MULTILINE)
        _wait_until(lambda: failed.search(running.get("/monitoring/prometheus/metrics")[1]), running)
        assert running.get(server["readinessProbe"]["httpGet"]["path"])[0] == 200


def test_the_pod_of_the_tls_overlay(program: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    models: Path = request.getfixturevalue("models")
    tls = tmp_path / "tls"
    assert tls_main(["test-authority", str(tls), "--host", "localhost"]) == 0
    arguments = ["--key", str(tls / "server.key"), "--certificate", str(tls / "server.crt")]
    arguments += ["--client-authority", str(tls / "authority.crt"), "--output", str(tls / "ssl.pbtxt")]
    assert tls_main(["ssl-config", *arguments]) == 0
    with _start(program, "cpu-tls", tmp_path, models / "ner_w1") as running:
        mine = Tls(tls / "authority.crt", tls / "client.key", tls / "client.crt")
        with Client(f"localhost:{running.port}", tls=mine) as client:
            assert [status.state for status in client.status()] == ["AVAILABLE"]
