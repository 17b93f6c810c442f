"""Both clients, sync and asyncio, against a fake server: what they send, bound, retry and raise."""

from __future__ import annotations

import asyncio
import datetime
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_server import FakeServer, run_fake_server

from components.settings import SettingsError
from serving.client import (
    AsyncClient,
    Client,
    ConnectionSettings,
    DeadlineExceeded,
    Entity,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
    ServingError,
    TaggedText,
    Tls,
)

Tag = Callable[..., list[TaggedText]]


def tag_sync(target: str, texts: Any, **options: Any) -> list[TaggedText]:
    with Client(target, **options) as client:
        return client.tag(texts)


def tag_async(target: str, texts: Any, **options: Any) -> list[TaggedText]:
    async def work() -> list[TaggedText]:
        async with AsyncClient(target, **options) as client:
            return await client.tag(texts)

    return asyncio.run(work())


@pytest.fixture(params=[pytest.param(tag_sync, id="sync"), pytest.param(tag_async, id="asyncio")])
def tag(request: pytest.FixtureRequest) -> Tag:
    return request.param


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with run_fake_server() as server:
        yield server


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_tags(tag: Tag, fake: FakeServer) -> None:
    assert tag(fake.target, ["去 WHO 2 次", ""]) == [
        TaggedText("去 WHO 2 次", (Entity(2, 5, "CAP", "WHO", 0.5), Entity(6, 7, "NUM", "2", 0.5))),
        TaggedText("", ()),
    ]


def test_result_names_the_version_that_answered(tag: Tag, fake: FakeServer) -> None:
    assert [tagged.model_version for tagged in tag(fake.target, ["A"])] == [7]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, (None, None), id="the newest version"),
        pytest.param({"version": 0}, (0, None), id="version 0"),
        pytest.param({"version": 3}, (3, None), id="a version"),
        pytest.param({"version_label": "stable"}, (None, "stable"), id="a label"),
    ],
)
def test_selection_of_the_model(tag: Tag, fake: FakeServer, options: dict[str, Any], expected: tuple[Any, Any]) -> None:
    tag(fake.target, ["A"], model_name="other", **options)

    spec = fake.requests[0].model_spec
    version = spec.version.value if spec.HasField("version") else None
    label = spec.version_label if spec.WhichOneof("version_choice") == "version_label" else None
    assert (spec.name, version, label) == ("other", *expected)


def test_many_texts_go_in_bounded_requests_and_come_back_in_order(tag: Tag, fake: FakeServer) -> None:
    texts = [f"text {number}" + "x" * (number % 7) for number in range(100)]
    settings = ConnectionSettings(max_texts=8, max_characters=60, concurrency=3)

    results = tag(fake.target, texts, settings=settings)

    assert [result.text for result in results] == texts
    assert [result.entities[0].text for result in results] == [str(number) for number in range(100)]
    sizes = [[len(text.decode()) for text in request.inputs["text"].string_val] for request in fake.requests]
    assert all(len(lengths) <= 8 and sum(lengths) <= 60 for lengths in sizes)


def test_no_texts_make_no_request(tag: Tag, fake: FakeServer) -> None:
    assert tag(fake.target, []) == []
    assert fake.requests == []


def test_long_text_and_long_answer(tag: Tag, fake: FakeServer) -> None:
    text = ("A" * 999 + " ") * 5_000  # the answer is larger than gRPC's default limit of 4 MiB

    (tagged,) = tag(fake.target, [text])

    assert len(tagged.entities) == 5_000
    assert tagged.entities[-1] == Entity(4_999_000, 4_999_999, "CAP", "A" * 999, 0.5)


def test_stream_reads_only_as_far_as_it_must(fake: FakeServer) -> None:
    read = []

    def texts() -> Iterator[str]:
        for number in range(10_000):
            read.append(number)
            yield f"text {number}"

    settings = ConnectionSettings(max_texts=2, concurrency=2)
    with Client(fake.target, settings=settings) as client:
        stream = client.tag_stream(texts())
        assert [next(stream).text for _ in range(3)] == ["text 0", "text 1", "text 2"]
        stream.close()

    assert len(read) < 20


def test_concurrent_requests_are_bounded(tag: Tag, fake: FakeServer) -> None:
    fake.delay = 0.1
    texts = ["A"] * 8
    started = time.monotonic()
    tag(fake.target, texts, settings=ConnectionSettings(max_texts=1, concurrency=4))
    elapsed = time.monotonic() - started

    assert 0.2 <= elapsed < 0.7, "eight requests of 0.1 s, four at a time"


def test_unavailable_is_tried_again(tag: Tag, fake: FakeServer) -> None:
    fake.failures = [(grpc.StatusCode.UNAVAILABLE, "the queue is full")] * 3

    assert tag(fake.target, ["A"])[0].entities
    assert len(fake.requests) == 4


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        pytest.param("NOT_FOUND", "Servable not found for request: Latest(ner)", ModelNotFound, id="no model"),
        pytest.param("INVALID_ARGUMENT", "Unrecognized servable version label: x", ModelNotFound, id="no label"),
        pytest.param("NOT_FOUND", "Op type not registered 'X'", ServerFailed, id="no op is no missing model"),
        pytest.param("INVALID_ARGUMENT", "input size does not match signature", InvalidRequest, id="invalid"),
        pytest.param("FAILED_PRECONDITION", "Serving signature key", InvalidRequest, id="no signature"),
        pytest.param("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", ServerOverloaded, id="overloaded"),
        pytest.param("INTERNAL", "", ServerFailed, id="internal"),
    ],
)
def test_other_errors_are_raised_at_once(
    tag: Tag, fake: FakeServer, code: str, details: str, error: type[ServingError]
) -> None:
    fake.failures = [(getattr(grpc.StatusCode, code), details)] * 2

    with pytest.raises(error, match="localhost") as raised:
        tag(fake.target, ["A"])

    assert type(raised.value) is error
    assert (raised.value.code, raised.value.details) == (code, details)
    assert len(fake.requests) == 1


def test_server_that_is_not_there(tag: Tag, closed_port: int) -> None:
    started = time.monotonic()
    with pytest.raises(ServerUnavailable, match=f"no model server answers at localhost:{closed_port}"):
        tag(f"localhost:{closed_port}", ["A"], settings=ConnectionSettings(timeout=1))

    assert time.monotonic() - started < 2


def test_port_that_accepts_but_never_answers(tag: Tag) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ServerUnavailable, match="no model server answers"):
            tag(target, ["A"], settings=ConnectionSettings(timeout=1))

    assert time.monotonic() - started < 3


def test_server_that_is_too_slow(tag: Tag, fake: FakeServer) -> None:
    fake.delay = 2
    with pytest.raises(DeadlineExceeded, match="within the deadline"):
        tag(fake.target, ["A"], settings=ConnectionSettings(timeout=0.5))


def test_client_finishes_once_the_server_is_back(tag: Tag, closed_port: int) -> None:
    import threading

    stop = threading.Event()

    def serve_later() -> None:
        time.sleep(1)
        with run_fake_server(port=closed_port):
            stop.wait(20)

    thread = threading.Thread(target=serve_later)
    thread.start()
    try:
        assert tag(f"localhost:{closed_port}", ["A"], settings=ConnectionSettings(timeout=20))[0].entities
    finally:
        stop.set()
        thread.join()


def test_answer_of_another_model(tag: Tag, fake: FakeServer) -> None:
    fake.change = lambda response: response.outputs["entity_count"].CopyFrom(response.outputs["entity_score"])

    with pytest.raises(MalformedResponse, match="entity_count: expected int32"):
        tag(fake.target, ["A"])


@pytest.mark.parametrize("name", ["timeout", "max_texts", "max_characters", "concurrency"])
def test_settings_are_checked(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name}: expected a positive number.*received 0"):
        ConnectionSettings(**{name: 0})


def _certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """Writes NAME.key and NAME.pem; signed by `issuer`, or by itself."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[1].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[0] if issuer else key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    return key, certificate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = _certificate(folder, "authority", None)
    for name in ("server", "client"):
        _certificate(folder, name, authority)
    return folder


@pytest.mark.parametrize("mutual", [pytest.param(False, id="TLS"), pytest.param(True, id="mutual TLS")])
def test_tls(tag: Tag, certificates: Path, mutual: bool) -> None:
    pair = ((certificates / "server.key").read_bytes(), (certificates / "server.pem").read_bytes())
    authority = certificates / "authority.pem"
    credentials = grpc.ssl_server_credentials(
        [pair], authority.read_bytes() if mutual else None, require_client_auth=mutual
    )
    own = {"client_key": certificates / "client.key", "client_certificate": certificates / "client.pem"}
    with run_fake_server(credentials) as fake:
        assert tag(fake.target, ["A"], tls=Tls(authority, **(own if mutual else {})))[0].entities
        if mutual:
            with pytest.raises(ServerUnavailable):
                tag(fake.target, ["A"], tls=Tls(authority), settings=ConnectionSettings(timeout=1))
        with pytest.raises(ServerUnavailable):
            tag(fake.target, ["A"], settings=ConnectionSettings(timeout=1))


def test_half_a_client_certificate_is_refused() -> None:
    with pytest.raises(SettingsError, match="client_key and client_certificate together, or neither"):
        Tls(client_key=Path("client.key"))


def test_status(fake: FakeServer) -> None:
    with Client(fake.target) as client:
        assert [(status.version, status.state) for status in client.status()] == [(7, "AVAILABLE")]
        assert client.wait_until_available(timeout=1).version == 7


def test_status_of_a_version_whose_error_is_no_utf8(fake: FakeServer) -> None:
    # TensorFlow Serving puts the warm-up record that it could not parse into the message, byte by byte.
    fake.version_errors = {8: b"Failed to parse warmup record: \xff"}
    with Client(fake.target) as client:
        failed, available = client.status()
        assert (failed.version, failed.state) == (8, "END")
        assert failed.error_message == "Failed to parse warmup record: \N{REPLACEMENT CHARACTER}"
        assert client.wait_until_available(timeout=1) == available


def test_wait_for_a_model_that_is_not_there(fake: FakeServer) -> None:
    fake.failures = [(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model ner")] * 1000
    with Client(fake.target) as client, pytest.raises(ModelNotFound, match="Could not find any versions of model ner"):
        client.wait_until_available(timeout=0.5)
