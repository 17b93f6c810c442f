from __future__ import annotations

import socket
import sys
import textwrap
from pathlib import Path

import pytest

from serving.client import Client
from serving.model_server import (
    ModelServerError,
    ServerProgram,
    check_port_is_free,
    embedded_server,
    find_model_server,
    free_port,
    start_model_server,
    version_numbers,
)


@pytest.fixture
def program_folder(tmp_path: Path) -> Path:
    program = tmp_path / "tensorflow_model_server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


def test_tensorflow_serving_is_found_on_the_path(program_folder: Path) -> None:
    program = find_model_server({"PATH": str(program_folder)})

    assert program == ServerProgram("TensorFlow Serving", (str(program_folder / "tensorflow_model_server"),))
    assert not program.is_embedded


def test_variable_comes_before_the_path(program_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "my_server"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)

    program = find_model_server({"PATH": str(program_folder), "TENSORFLOW_MODEL_SERVER": str(other)})

    assert program.command == (str(other),)


def test_embedded_server_where_none_is_found(tmp_path: Path) -> None:
    assert find_model_server({"PATH": str(tmp_path)}) == embedded_server()
    assert embedded_server().is_embedded


def test_variable_that_names_no_program(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "TENSORFLOW_MODEL_SERVER": "/nowhere/server"}
    with pytest.raises(ModelServerError, match=r"TENSORFLOW_MODEL_SERVER: expected the path of a program; .*nowhere"):
        find_model_server(environment)


def test_version_numbers(tmp_path: Path) -> None:
    for name in ("10", "9", "9.tmp", "name"):
        (tmp_path / name).mkdir()

    assert version_numbers(tmp_path) == [9, 10]


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ModelServerError, match="nowhere: expected a folder with version folders in it"):
        version_numbers(tmp_path / "nowhere")


def test_folder_one_level_too_high(tmp_path: Path) -> None:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    (tmp_path / "ner" / "1" / "saved_model.pb").touch()

    with pytest.raises(ModelServerError, match=rf"found none. Did you mean {tmp_path}/ner\?"):
        version_numbers(tmp_path)


def test_port_in_use() -> None:
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        with pytest.raises(ModelServerError, match=f"port {port}: expected a free port.*name another port"):
            check_port_is_free(port)
    check_port_is_free(free_port())


def test_serves_until_the_context_ends(models: Path, tmp_path: Path) -> None:
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner" / "1").symlink_to(models / "ner_w1", target_is_directory=True)

    with start_model_server(tmp_path / "ner", "ner", program=embedded_server()) as server:
        assert server.wait_until_available(timeout=120).version == 1
        with Client(server.target) as client:
            assert client.tag(["AB"])[0].entities
        assert "Running gRPC ModelServer" in server.log_text()

    assert server.process.returncode == 0, "it ends cleanly on SIGTERM"


def _program(folder: Path, code: str) -> ServerProgram:
    script = folder / "server.py"
    script.write_text(textwrap.dedent(code))
    return ServerProgram("a server", (sys.executable, str(script)))


def test_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    program = _program(tmp_path, "import sys; print('the model is broken'); sys.exit(255)")

    told = r"ended with status 255 before it served 'ner'.*\nthe model is broken"
    with (
        start_model_server(tmp_path / "ner", "ner", program=program) as server,
        pytest.raises(ModelServerError, match=told),
    ):
        server.wait_until_available(timeout=30)


def test_tensorflow_is_set_up_unless_the_user_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.delenv("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", raising=False)
    program = _program(tmp_path, "import os, sys; print({k: v for k, v in os.environ.items() if 'ONEDNN' in k})")

    told = "{'TF_ENABLE_ONEDNN_OPTS': '0', 'TF_ONEDNN_USE_SYSTEM_ALLOCATOR': '1'}"
    with (
        start_model_server(tmp_path / "ner", "ner", program=program) as server,
        pytest.raises(ModelServerError, match=told),
    ):
        server.wait_until_available(timeout=30)


def test_server_that_never_serves(tmp_path: Path) -> None:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    program = _program(tmp_path, "import time; print('loading', flush=True); time.sleep(60)")

    with (
        start_model_server(tmp_path / "ner", "ner", program=program) as server,
        pytest.raises(ModelServerError, match=r"does not serve 'ner' after 2 s.*\nloading"),
    ):
        server.wait_until_available(timeout=2)

    assert server.process.returncode is not None


def test_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    (tmp_path / "ner" / "1").mkdir(parents=True)
    program = _program(
        tmp_path,
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("ready", flush=True)
        time.sleep(60)
        """,
    )

    with start_model_server(tmp_path / "ner", "ner", program=program) as server:
        while "ready" not in server.log_text():
            pass
        assert server.stop(timeout=0.2) == -9
