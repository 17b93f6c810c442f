from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.command_line import main

ROOT = Path(__file__).resolve().parent.parent.parent

# Stands for tensorflow_model_server: tells its flags, then waits to be stopped.
SERVER = """#!{python}
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("stopped", flush=True), sys.exit(0)))
print("flags", *sys.argv[1:], flush=True)
time.sleep({seconds})
sys.exit(3)
"""


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    return tmp_path / "ner"


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _serve(base_path: Path, *options: str, seconds: float) -> subprocess.Popen[str]:
    server = base_path.parent / "tensorflow_model_server"
    server.write_text(SERVER.format(python=sys.executable, seconds=seconds))
    server.chmod(0o755)
    environment = {**os.environ, "TENSORFLOW_MODEL_SERVER": str(server), "PYTHONUNBUFFERED": "1"}
    code = "import sys; from pipeline.command_line import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", f"--model-base-path={base_path}", *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_runs_the_server_until_it_is_stopped(base_path: Path, number: signal.Signals) -> None:
    port, rest_port = _port(), _port()
    process = _serve(base_path, f"--port={port}", f"--rest-api-port={rest_port}", seconds=60)
    assert process.stdout is not None
    lines = sorted(process.stdout.readline() for _ in range(2))
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    told = f"serves 'ner' from {base_path}: gRPC on port {port}, REST on port {rest_port}\n"
    assert lines[0].startswith("TensorFlow Serving (")
    assert lines[0].endswith(told)
    flags = lines[1].split()
    assert {f"--port={port}", f"--rest_api_port={rest_port}", f"--model_base_path={base_path}"} < set(flags)
    assert {"--model_name=ner", "--max_num_load_retries=0"} < set(flags)
    assert "stopped" in output


def test_further_flags_go_to_the_server(base_path: Path) -> None:
    flag = "--file_system_poll_wait_seconds=5"
    process = _serve(base_path, f"--port={_port()}", "--model-name=news", f"--server-flag={flag}", seconds=0)
    output, errors = process.communicate(timeout=120)

    assert flag in output
    assert "--model_name=news" in output
    assert process.returncode == 1
    assert "TensorFlow Serving ended by itself with status 3" in errors


def _refused(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert main(["serve", *map(str, options)]) == 2
    return capsys.readouterr().err


def test_refuses_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = _refused(capsys, "--model-base-path", tmp_path / "nowhere", "--port", _port())

    assert "nowhere: expected a folder with version folders in it; there is no such folder" in error


def test_refuses_a_folder_without_versions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = _refused(capsys, "--model-base-path", tmp_path, "--port", _port())

    assert "expected version folders, named by a number" in error


def test_refuses_a_port_in_use(base_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        error = _refused(capsys, "--model-base-path", base_path, "--port", port)

    assert f"port {port}: expected a free port" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--port", "0"], "--port: expected a port number up to 65535; received 0", id="port 0"),
        pytest.param(["--port", "70000"], "--port: expected a port number", id="port too large"),
        pytest.param(["--port=8500", "--rest-api-port=8500"], "expected another port than --port", id="equal ports"),
    ],
)
def test_refuses_ports(base_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in _refused(capsys, "--model-base-path", base_path, *options)


def test_tensorflow_serving_gets_the_flags_of_the_deployment(base_path: Path) -> None:
    from serving.deploy.production import production_flags

    process = _serve(base_path, f"--port={_port()}", f"--rest-api-port={_port()}", "--gpu", seconds=0)
    output, errors = process.communicate(timeout=120)
    assert set(production_flags("gpu", rest=True)) < set(output.split()), errors


def test_batching_can_be_switched_off(base_path: Path) -> None:
    process = _serve(base_path, f"--port={_port()}", "--no-batching", seconds=0)
    output, errors = process.communicate(timeout=120)
    flags = output.split()
    assert "--grpc_max_threads=320" in flags, errors
    assert not [flag for flag in flags if flag.startswith(("--enable_batching", "--batching"))]


def test_a_flag_that_tensorflow_serving_would_ignore_is_refused(base_path: Path) -> None:
    process = _serve(base_path, f"--port={_port()}", "--server-flag=--enable_baching=true", seconds=0)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--enable_baching=true: no flag of tensorflow_model_server 2.16.1" in errors


@pytest.mark.parametrize("option", ["--gpu", "--no-batching"])
def test_the_embedded_server_has_no_batching_to_choose(
    base_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _refused(capsys, "--embedded", option, "--model-base-path", base_path, "--port", _port())

    assert f"{option} chooses how TensorFlow Serving merges requests, and the embedded server was to be" in error
