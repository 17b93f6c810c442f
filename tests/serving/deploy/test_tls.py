"""TLS files: parsed as TensorFlow Serving parses them, and used by a gRPC server that our client talks to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.client import Client, ServerUnavailable
from serving.connection import ConnectionSettings, Tls
from serving.deploy.tls import main, make_test_authority
from tests.serving.deploy.serving_protos import parse_text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    assert main(["test-authority", str(folder), "--host", "localhost", "--host", "127.0.0.1"]) == 0
    return folder


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stranger")
    make_test_authority(folder, ["localhost"])
    return folder


def _ssl_config(folder: Path, output: Path, *more: str) -> Any:
    arguments = ["--key", f"{folder / 'server.key'}", "--certificate", f"{folder / 'server.crt'}", *more]
    assert main(["ssl-config", *arguments, "--output", str(output)]) == 0
    return parse_text(output.read_text(encoding="ascii"), "SSLConfig")


def test_the_file_holds_the_pem_texts(authority: Path, tmp_path: Path) -> None:
    config = _ssl_config(authority, tmp_path / "ssl.pbtxt")
    assert config.server_key == (authority / "server.key").read_text(encoding="ascii")
    assert config.server_cert == (authority / "server.crt").read_text(encoding="ascii")
    assert (config.custom_ca, config.client_verify) == ("", False)


def test_with_an_authority_clients_are_verified(authority: Path, tmp_path: Path) -> None:
    config = _ssl_config(authority, tmp_path / "ssl.pbtxt", "--client-authority", str(authority / "authority.crt"))
    assert config.custom_ca == (authority / "authority.crt").read_text(encoding="ascii")
    assert config.client_verify


def test_windows_line_ends_are_no_hindrance(authority: Path, tmp_path: Path) -> None:
    for name in ("server.key", "server.crt"):
        (tmp_path / name).write_bytes((authority / name).read_bytes().replace(b"\n", b"\r\n"))
    config = _ssl_config(tmp_path, tmp_path / "ssl.pbtxt")
    assert config.server_key == (authority / "server.key").read_text(encoding="ascii")


def test_keys_are_for_their_owner_only(authority: Path, tmp_path: Path) -> None:
    _ssl_config(authority, tmp_path / "ssl.pbtxt")
    for path in (tmp_path / "ssl.pbtxt", authority / "server.key", authority / "client.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # A second time replaces the file.
    _ssl_config(authority, tmp_path / "ssl.pbtxt")
    assert os.listdir(tmp_path) == ["ssl.pbtxt"]


@pytest.mark.parametrize(
    ("key", "certificate", "client_authority", "expected"),
    [
        pytest.param(
            "nothing.key", "server.crt", None, "nothing.key: expected a PEM file; it cannot be read", id="missing"
        ),
        pytest.param("client.key", "server.crt", None, "the certificate that belongs to it", id="of-another-pair"),
        pytest.param("server.crt", "server.key", None, "the certificate that belongs to it", id="swapped"),
        pytest.param("text", "server.crt", None, "text: expected a PEM file, with a line", id="no-pem"),
        pytest.param("der", "server.crt", None, "der: expected a PEM file; received bytes", id="der"),
        pytest.param("locked.key", "server.crt", None, "without a passphrase", id="passphrase"),
        pytest.param(
            "server.key", "server.crt", "half.crt", "half.crt: expected certificates in PEM form", id="cut-off"
        ),
    ],
)
def test_unusable_files_are_refused(
    key: str,
    certificate: str,
    client_authority: str | None,
    expected: str,
    authority: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from cryptography.hazmat.primitives import serialization

    for name in ("server.key", "server.crt", "client.key"):
        (tmp_path / name).write_bytes((authority / name).read_bytes())
    private_key = serialization.load_pem_private_key((authority / "server.key").read_bytes(), None)
    (tmp_path / "locked.key").write_bytes(
        private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    (tmp_path / "text").write_text("no key\n", encoding="ascii")
    (tmp_path / "der").write_bytes(b"\x30\x82\xff\xfe")
    (tmp_path / "half.crt").write_text(
        (authority / "authority.crt").read_text(encoding="ascii")[:120], encoding="ascii"
    )
    arguments = ["ssl-config", "--key", str(tmp_path / key), "--certificate", str(tmp_path / certificate)]
    if client_authority:
        arguments += ["--client-authority", str(tmp_path / client_authority)]
    assert main([*arguments, "--output", str(tmp_path / "ssl.pbtxt")]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "ssl.pbtxt").exists()


@contextmanager
def _server(config: Any) -> Iterator[str]:
    """Serves GetModelStatus with the credentials that TensorFlow Serving makes of an SSLConfig."""
    from serving.protocol import fusion_ner_protocol_pb2 as protocol

    def status(request: Any, context: Any) -> Any:
        answer = protocol.GetModelStatusResponse()
        answer.model_version_status.add(version=7, state=30)
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        status,
        request_deserializer=protocol.GetModelStatusRequest.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.ModelService", {"GetModelStatus": method}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def _status(target: str, tls: Tls | None, timeout: float = 5.0) -> list[int]:
    with Client(target, settings=ConnectionSettings(timeout=timeout), tls=tls) as client:
        return [status.version for status in client.status()]


def test_the_client_talks_tls(authority: Path, stranger: Path, tmp_path: Path) -> None:
    with _server(_ssl_config(authority, tmp_path / "ssl.pbtxt")) as target:
        assert _status(target, Tls(root_certificates=authority / "authority.crt")) == [7]
        for wrong in (None, Tls(root_certificates=stranger / "authority.crt")):
            with pytest.raises(ServerUnavailable):
                _status(target, wrong, timeout=1.0)


def test_the_client_talks_mutual_tls(authority: Path, stranger: Path, tmp_path: Path) -> None:
    config = _ssl_config(authority, tmp_path / "ssl.pbtxt", "--client-authority", str(authority / "authority.crt"))
    root = authority / "authority.crt"
    with _server(config) as target:
        assert _status(target, Tls(root, authority / "client.key", authority / "client.crt")) == [7]
        for wrong in (Tls(root), Tls(root, stranger / "client.key", stranger / "client.crt")):
            with pytest.raises(ServerUnavailable):
                _status(target, wrong, timeout=1.0)
