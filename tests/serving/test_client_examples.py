"""The example clients, run as their README says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_answers import RunningServer
from server_processes import Launcher

from serving.client import Client

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENTS = ROOT / "examples" / "clients"

SETUP = {
    "tree": {"ner/1": "ner_w1"},
    "flags": ["--port={GRPC_PORT}", "--rest_api_port={REST_PORT}", "--model_name=ner", "--model_base_path={ROOT}/ner"],
    "ready": [["ner", 1]],
}
TEXTS = ["去 WHO 2 次", "", "BB"]
ENTITIES = "2\t5\tCAP\tWHO\t0.750\n6\t7\tNUM\t2\t0.500\n0\t2\tCAP\tBB\t0.667\n"


@pytest.fixture(scope="module")
def server(launcher: Launcher, models: Path) -> Iterator[RunningServer]:
    with RunningServer(launcher, SETUP, models) as running:
        running.wait_until_ready()
        yield running


def _run(command: list[str], folder: Path = ROOT, **environment: str) -> str:
    process = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=240
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_python_client(server: RunningServer) -> None:
    target = f"localhost:{server.grpc_port}"
    output = _run([sys.executable, str(CLIENTS / "python_client.py"), target, "ner", *TEXTS], PYTHONPATH=str(ROOT))

    assert output == ENTITIES


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: RunningServer, models: Path) -> None:
    # A version that failed, or still loads, is listed before the one that serves.
    shutil.copytree(models / "ner_garbage_pb", server.root / "ner" / ".incoming-2")
    (server.root / "ner" / ".incoming-2").rename(server.root / "ner" / "2")
    with Client(f"localhost:{server.grpc_port}") as client:
        deadline = time.monotonic() + 60
        while [status.version for status in client.status()] != [2, 1]:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    output = _run(["sh", str(CLIENTS / "curl.sh"), f"localhost:{server.rest_port}", "ner"])

    assert '"state": "AVAILABLE"' in output
    assert '"entity_text": ["WHO", "12"]' in output
    assert '"outputs": {' in output


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_go_client(server: RunningServer, tmp_path: Path) -> None:
    # Modules that were downloaded before, nothing from the network.
    offline = {"GOPROXY": "off", "GOFLAGS": "-mod=readonly -buildvcs=false"}
    build = subprocess.run(
        ["go", "build", "-o", str(tmp_path / "client"), "."],
        cwd=CLIENTS / "go",
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=240,
    )
    if "module lookup disabled by GOPROXY=off" in build.stderr:
        pytest.skip("the Go modules are not downloaded: cd examples/clients/go && go mod download")
    assert build.returncode == 0, build.stderr

    target = f"localhost:{server.grpc_port}"
    assert _run([str(tmp_path / "client"), "-target", target, "-model", "ner", *TEXTS]) == ENTITIES
