"""docker/: compose files and Dockerfile, and the health check itself, run against a server that answers by hand."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.deploy.server_flags import flag_problems, flag_values
from serving.environment import TENSORFLOW_ENVIRONMENT
from tests.serving.deploy.manifest_checks import is_pinned
from tests.serving.deploy.test_configuration import queue_capacity

DOCKER = Path(__file__).resolve().parents[3] / "serving/deploy/docker"


def _compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


SERVICES = _compose()["services"]
SERVERS = {"server": "batching_cpu.pbtxt", "server-gpu": "batching_gpu.pbtxt"}


def test_services() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items()} == {
        "server": ["cpu"],
        "server-gpu": ["gpu"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_pinned_and_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert is_pinned(service["image"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Nobody but this machine: the server and Prometheus know no users.
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("name", SERVERS)
def test_tensorflow_is_set_up_as_by_fusion_ner(name: str) -> None:
    assert SERVICES[name]["environment"].items() >= TENSORFLOW_ENVIRONMENT.items()


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    for volume in SERVICES[name]["volumes"]:
        if volume["type"] == "volume":
            assert volume["source"] in _compose()["volumes"]
        elif not volume["source"].startswith("${"):
            assert (DOCKER / volume["source"]).exists()
            assert volume["read_only"]


@pytest.mark.parametrize("name", SERVERS)
def test_model_servers(name: str) -> None:
    service, batching_file = SERVICES[name], SERVERS[name]
    assert service["image"] == "tensorflow/serving:2.16.1" + ("-gpu" if name == "server-gpu" else "")
    assert service["entrypoint"] == ["tensorflow_model_server"]
    assert (service["init"], service["read_only"], service["tmpfs"]) == (True, True, ["/tmp"])
    assert service["user"].split(":")[0] != "0"
    assert flag_problems(service["command"]) == []
    flags = flag_values(service["command"])
    assert flags["batching_parameters_file"] == f"/config/{batching_file}"
    assert int(flags["grpc_max_threads"]) > queue_capacity(batching_file)
    for flag, value in flags.items():
        if flag.endswith("_file"):
            folder, _, file = value.rpartition("/")
            (mount,) = (volume for volume in service["volumes"] if volume["target"] == folder)
            assert (DOCKER / mount["source"] / file).exists()


def test_one_gpu() -> None:
    (device,) = SERVICES["server-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert SERVICES["server-gpu"]["networks"]["default"]["aliases"] == ["server"]


def test_tls_adds_one_flag_and_one_mount() -> None:
    (service,) = _compose("compose.tls.yaml")["services"].values()
    assert service["command"] == [*SERVICES["server"]["command"], "--ssl_config_file=/tls/ssl.pbtxt"]
    assert [volume["target"] for volume in service["volumes"]] == ["/tls"]


def test_dockerfile() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    instructions = [line.partition(" ")[::2] for line in lines if line]
    only = dict(instructions)
    assert only["FROM"] == "tensorflow/serving:${SERVING_TAG}"
    assert ("ARG", "SERVING_TAG=2.16.1") in instructions
    assert only["USER"].split(":")[0] != "0"
    assert json.loads(only["ENTRYPOINT"]) == ["tensorflow_model_server"]
    command = json.loads(only["CMD"])
    assert flag_problems(command) == []
    # The build's context is serving/deploy.
    copied = [words for name, words in instructions if name == "COPY" and not words.startswith("--from")]
    for target in ("cpu", "gpu"):
        files = [word for words in copied for word in words.replace("${TARGET}", target).split()[:-1]]
        assert all((DOCKER.parent / file).is_file() for file in files), files
        assert int(flag_values(command)["grpc_max_threads"]) > queue_capacity(f"batching_{target}.pbtxt")
    for flag, value in flag_values(command).items():
        if flag.endswith("_file"):
            assert value in ("/config/models.pbtxt", "/config/monitoring.pbtxt", "/config/batching.pbtxt")


@contextmanager
def _answering(status_line: str) -> Iterator[tuple[int, list[bytes]]]:
    received: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            received.append(self.rfile.readline())
            while self.rfile.readline().strip():
                pass
            self.wfile.write(f"{status_line}\r\nContent-Type: application/json\r\n\r\n{{}}\n".encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address[1], received
        finally:
            server.shutdown()
            thread.join()


def _health_check(port: int) -> int:
    _, *command = SERVICES["server"]["healthcheck"]["test"]
    # $$ would be compose's way to write $.
    assert "$" not in command[-1]
    command[-1] = command[-1].replace("/8501", f"/{port}")
    return subprocess.run(command, timeout=10, capture_output=True).returncode


@pytest.mark.parametrize(
    ("status_line", "healthy"),
    [("HTTP/1.0 200 OK", True), ("HTTP/1.0 404 Not Found", False), ("HTTP/1.0 500 Internal Server Error", False)],
)
def test_the_health_check_tells_a_server_with_a_version(status_line: str, healthy: bool) -> None:
    with _answering(status_line) as (port, received):
        assert (_health_check(port) == 0) is healthy
    assert received == [b"GET /v1/models/ner/metadata HTTP/1.0\r\n"]


def test_the_health_check_tells_a_server_that_is_not_there() -> None:
    with _answering("") as (port, _):
        pass
    assert _health_check(port) != 0
