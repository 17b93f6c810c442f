"""A server that watches the serving directory while versions are pushed, taken back, retired, or cannot be loaded."""

from __future__ import annotations

import collections
import shutil
import threading
import time
from collections.abc import Callable

import pytest
import tensorflow as tf

from components.pusher.publish import publish, retire
from components.pusher.rollback import rollback
from components.pusher.versions import list_versions
from components.trainer.warm_up import WARM_UP_FILE
from pipeline.commands.models import list_model, server_states
from serving.client import Client
from serving.model_server import ServerProgram, embedded_server, find_model_server, start_model_server
from tests.infra_validator.fake_servable import export_servable


class RequestLoop:
    """Asks a server again and again; knows every failure and how often each version answered, in order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failures: list[str] = []
        self.answers: collections.Counter[int] = collections.Counter()

    def __enter__(self) -> RequestLoop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.01):
            try:
                self.answers[self._client.tag(["王五住在北京"])[0].model_version] += 1
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two good models that differ in a file, and one whose warm-up request fails."""
    folder = tmp_path_factory.mktemp("models")
    export_servable(folder / "good")
    shutil.copytree(folder / "good", folder / "other")
    (folder / "other" / "assets").mkdir(exist_ok=True)
    (folder / "other" / "assets" / "tags.txt").write_text("O\n", encoding="utf-8")
    shutil.copytree(folder / "good", folder / "broken")
    (folder / "broken" / WARM_UP_FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / "broken" / WARM_UP_FILE)) as writer:
        writer.write(b"\xff no request")
    return folder


@pytest.fixture(params=["embedded", pytest.param("tensorflow_model_server", marks=pytest.mark.tfserving)])
def program(request) -> ServerProgram:
    if request.param == "embedded":
        return embedded_server()
    found = find_model_server()
    if found.is_embedded:
        pytest.skip("tensorflow_model_server is not on the PATH, nor named by TENSORFLOW_MODEL_SERVER")
    return found


def test_no_request_fails_while_versions_come_and_go(models, tmp_path, program):
    directory = tmp_path / "ner"
    first = publish(models / "good", directory).version
    flags = ("--file_system_poll_wait_seconds=1",)
    with (
        start_model_server(directory, "ner", program=program, flags=flags) as server,
        Client(server.target, model_name="ner") as client,
    ):
        server.wait_until_available(timeout=60)
        with RequestLoop(client) as loop:
            # Only the newest stays: the one that is served vanishes from the disk while its successor loads.
            second = publish(models / "other", directory, keep_versions=1).version
            wait_for(lambda: loop.answers[second] > 5)
            assert list_versions(directory) == (second,)

            # A version whose warm-up fails never answers; the one before serves on.
            broken = publish(models / "broken", directory).version
            wait_for(lambda: server_states(server.target, "ner").get(broken) == "END")
            before = loop.answers[second]
            wait_for(lambda: loop.answers[second] > before + 5)
            (failed,) = (status for status in client.status() if status.version == broken)
            assert "Failed to parse warmup record" in failed.error_message

            # The way out of a bad version is a number that no server has seen.
            restored = rollback(directory).pushed.version
            wait_for(lambda: loop.answers[restored] > 5)

            third = publish(models / "good", directory).version
            wait_for(lambda: loop.answers[third] > 5)
            assert retire(directory, 2) == (second, broken)
            back = rollback(directory, restored).pushed.version
            wait_for(lambda: loop.answers[back] > 5)
            listed = list_model(directory, server_states(server.target, "ner"))

    assert loop.failures == []
    assert list(loop.answers) == [first, second, restored, third, back], "each answered after the one before it"
    assert [(each.version, each.newest, each.withdrawn, each.state) for each in listed] == [
        (back, True, False, "AVAILABLE"),
        (third, False, True, "END"),
        (restored, False, False, "END"),
    ]
