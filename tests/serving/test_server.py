"""A server and our client together: the embedded server always, TensorFlow Serving where it is found."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_answers import RunningServer, state_of, two_models
from server_processes import Launcher

from serving.client import Client, ConnectionSettings, Entity, InvalidRequest, ModelNotFound, TaggedText
from serving.errors import ServerOverloaded
from serving.protocol import fusion_ner_protocol_pb2 as protocol

SETUP = two_models("--max_num_load_retries=0", "--grpc_max_threads=32")


@pytest.fixture
def server(launcher: Launcher, models: Path) -> Iterator[RunningServer]:
    with RunningServer(launcher, SETUP, models) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def steady_server(launcher: Launcher, models: Path) -> Iterator[RunningServer]:
    """A server whose models no test changes."""
    with RunningServer(launcher, SETUP, models) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture
def client(steady_server: RunningServer) -> Iterator[Client]:
    with Client(f"localhost:{steady_server.grpc_port}") as connected:
        yield connected


def test_tags_text(client: Client) -> None:
    assert client.tag(["小明 in 北京 AB", "", "ä 12"]) == [
        TaggedText("小明 in 北京 AB", (Entity(9, 11, "CAP", "AB", pytest.approx(2 / 3)),)),
        TaggedText("", ()),
        TaggedText("ä 12", (Entity(2, 4, "NUM", "12", pytest.approx(2 / 3)),)),
    ]


def test_lone_surrogate_keeps_the_offsets(client: Client) -> None:
    (tagged,) = client.tag(["\ud800 AB"])

    assert tagged.entities == (Entity(2, 4, "CAP", "AB", pytest.approx(2 / 3)),)


def test_text_of_100000_characters(client: Client) -> None:
    text = "甲 AB " * 20_000

    (tagged,) = client.tag([text])

    assert len(tagged.entities) == 20_000
    assert tagged.entities[-1].start == 99_997


def test_metadata_names_the_signatures(client: Client) -> None:
    metadata = client.metadata()

    assert metadata.version == 1
    assert set(metadata.signatures) == {"serving_default", "tokens", "examples"}
    assert metadata.signatures["serving_default"].inputs["text"].shape == (None,)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        pytest.param({"model_name": "nobody"}, "Servable not found for request: Latest", id="model"),
        pytest.param({"version": 9}, "Servable not found for request: Specific", id="version"),
        pytest.param({"version_label": "stable"}, "Unrecognized servable version label: stable", id="label"),
    ],
)
def test_what_is_not_served(steady_server: RunningServer, selection: dict[str, Any], message: str) -> None:
    target = f"localhost:{steady_server.grpc_port}"
    with Client(target, **selection) as client, pytest.raises(ModelNotFound, match=message):
        client.tag(["A"])


def test_request_that_does_not_fit_the_signature(client: Client) -> None:
    request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name="ner"))

    with pytest.raises(InvalidRequest, match="input size does not match signature: 0!=1"):
        client.predict(request)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.binary(max_size=30), max_size=4))
def test_no_bytes_make_the_server_fail(client: Client, texts: list[bytes]) -> None:
    request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name="ner"))
    request.inputs["text"].CopyFrom(protocol.TensorProto(dtype=protocol.DT_STRING, string_val=texts))
    request.inputs["text"].tensor_shape.dim.add(size=len(texts))

    response = client.predict(request)

    assert [dim.size for dim in response.outputs["entity_count"].tensor_shape.dim] == [len(texts)]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_no_message_makes_the_server_fail(steady_server: RunningServer, data: bytes) -> None:
    call = steady_server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

    with pytest.raises(grpc.RpcError) as raised:
        call(data, timeout=10)

    assert raised.value.code().name in {"INTERNAL", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert state_of(steady_server, "ner", 1) == "AVAILABLE"


def test_slow_request_holds_up_no_other(steady_server: RunningServer, client: Client) -> None:
    slow = threading.Thread(target=_run_slow, args=(steady_server, 1500, []))
    slow.start()
    time.sleep(0.2)
    started = time.monotonic()
    client.tag(["A"])
    elapsed = time.monotonic() - started
    still_running = slow.is_alive()
    slow.join()

    assert still_running
    assert elapsed < 1


def test_request_finishes_on_the_version_that_it_began_on(server: RunningServer) -> None:
    versions: list[int] = []
    slow = threading.Thread(target=_run_slow, args=(server, 6000, versions))
    slow.start()
    time.sleep(0.3)

    _push(server, "aux", "aux", 2)
    _wait_for(server, "aux", 2, "AVAILABLE")
    while_swapped = slow.is_alive() and state_of(server, "aux", 1)
    slow.join()

    assert versions == [1]
    assert while_swapped in (False, "UNLOADING", "AVAILABLE"), "version 1 must not end before its last request"
    _wait_for(server, "aux", 1, "END")


def test_swaps_under_load_fail_no_request(server: RunningServer) -> None:
    stop = threading.Event()
    seen: list[set[int | None]] = [set() for _ in range(4)]
    failures: list[Exception] = []

    def load(versions: set[int | None]) -> None:
        with Client(f"localhost:{server.grpc_port}", settings=ConnectionSettings(timeout=30)) as client:
            while not stop.is_set():
                try:
                    versions.update(tagged.model_version for tagged in client.tag(["AB 12 小明"]))
                except ServerOverloaded:
                    continue  # TensorFlow Serving refuses beyond its number of threads
                except Exception as error:
                    failures.append(error)

    threads = [threading.Thread(target=load, args=(versions,)) for versions in seen]
    for thread in threads:
        thread.start()
    for version in (2, 3, 4, 5):
        _push(server, "ner", "ner_w3" if version % 2 else "ner_w5", version)
        _wait_for(server, "ner", version, "AVAILABLE")
        _wait_for(server, "ner", version - 1, "END")
    stop.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert set().union(*seen) >= {1, 2, 3, 4, 5}


def test_broken_version_leaves_the_good_one_serving(server: RunningServer) -> None:
    _push(server, "ner", "ner_garbage_pb", 2)
    _wait_for(server, "ner", 2, "END")

    with Client(f"localhost:{server.grpc_port}") as client:
        assert client.tag(["A"])[0].model_version == 1
        assert [(status.version, status.state) for status in client.status()] == [(2, "END"), (1, "AVAILABLE")]
        assert "Can't parse" in client.status()[0].error_message


def _run_slow(server: RunningServer, steps: int, versions: list[int]) -> None:
    with Client(f"localhost:{server.grpc_port}", model_name="aux") as client:
        request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name="aux", signature_name="slow"))
        request.inputs["steps"].CopyFrom(protocol.TensorProto(dtype=protocol.DT_INT32, int_val=[steps]))
        request.inputs["steps"].tensor_shape.dim.add(size=1)
        versions.append(client.predict(request, timeout=60).model_spec.version.value)


def _push(server: RunningServer, name: str, source: str, version: int) -> None:
    """Publishes a version as the Pusher does: by renaming a whole folder."""
    new = server.top / f"{name}-{version}"
    shutil.copytree(server.models / source, new)
    new.rename(server.root / name / str(version))


def _wait_for(server: RunningServer, name: str, version: int, state: str) -> None:
    deadline = time.monotonic() + 30
    while state_of(server, name, version) != state:
        assert time.monotonic() < deadline, f"{name} {version} is not {state}: {server.log_text()[-2000:]}"
        time.sleep(0.02)
