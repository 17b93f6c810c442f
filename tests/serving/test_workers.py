"""Versions in processes of their own: what a server survives, and what waits for what."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from recorded_answers import RunningServer, state_of, two_models
from server_processes import Launcher

from bench.measuring import cpu_seconds, process_tree
from serving.client import Client
from serving.embedded.worker import threads_an_op
from serving.embedded.workers import LoadPauses
from serving.errors import DeadlineExceeded
from serving.protocol import fusion_ner_protocol_pb2 as protocol

SETUP = two_models()


@pytest.fixture
def server(embedded_launcher: Launcher, models: Path) -> Iterator[RunningServer]:
    with RunningServer(embedded_launcher, SETUP, models) as running:
        running.wait_until_ready()
        yield running


def test_a_version_whose_process_ends_is_loaded_again(server: RunningServer) -> None:
    """The requests under way get UNAVAILABLE, which clients repeat; no other model notices."""
    aux, ner = _workers(server)
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    slow = call.future(_slow_request(60_000).SerializeToString())
    time.sleep(0.5)
    os.kill(aux, signal.SIGKILL)

    error = slow.exception(10)
    assert (error.code().name, error.details()) == ("UNAVAILABLE", "The process of the version ended by signal 9")
    with Client(f"localhost:{server.grpc_port}") as client:
        assert client.tag(["AB"])[0].entities
    deadline = time.monotonic() + 30
    while ner not in (workers := _workers(server)) or len(workers) < 2 or state_of(server, "aux", 1) != "AVAILABLE":
        assert time.monotonic() < deadline, server.log_text()[-2000:]
        time.sleep(0.05)
    assert aux not in workers


def test_all_processes_end_with_the_server(server: RunningServer) -> None:
    processes = process_tree(server.process.pid)
    assert len(processes) == 4, "the server, the copy that forks, and two versions"
    os.kill(server.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_ends_when_its_client_gives_up(server: RunningServer) -> None:
    """The request would take a minute; after its deadline nothing computes any more."""
    aux, _ = _workers(server)
    with Client(f"localhost:{server.grpc_port}", model_name="aux") as client, pytest.raises(DeadlineExceeded):
        client.predict(_slow_request(60_000), timeout=0.5)

    assert _soon(lambda: _growth(lambda: cpu_seconds(aux), 0.5) < 0.1, 20), "it computes on"


def test_a_request_whose_client_hangs_up_frees_its_thread(server: RunningServer) -> None:
    call = server.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    futures = [call.future(_slow_request(3000).SerializeToString()) for _ in range(40)]
    time.sleep(0.5)
    for future in futures:
        future.cancel()
    with Client(f"localhost:{server.grpc_port}") as client:
        assert client.tag(["AB"], timeout=5)[0].entities
    with pytest.raises(grpc.FutureCancelledError):
        futures[0].result()


def test_a_server_without_requests_sleeps(server: RunningServer) -> None:
    """Threads that ask for work over and over, 11,000 times a second in all, cost a fifth of a core."""
    with Client(f"localhost:{server.grpc_port}") as client:
        client.tag(["AB"] * 8)

    def awakenings() -> int:
        return sum(_context_switches(pid) for pid in _workers(server))

    assert _soon(lambda: _growth(awakenings, 0.5) < 100, 10), "it does not come to rest"


@pytest.mark.parametrize(
    ("cores", "model_bytes", "expected"),
    [
        pytest.param(2, 90_000_000, 1, id="MiniLM on two cores: each run has one"),
        pytest.param(1, 90_000_000, 1, id="MiniLM on one core"),
        pytest.param(4, 90_000_000, 0, id="MiniLM on four cores: TensorFlow divides"),
        pytest.param(2, 430_000_000, 0, id="BERT-base on two cores"),
        pytest.param(2, 215_000_000, 0, id="BERT-base in bfloat16 on two cores"),
    ],
)
def test_ops_of_small_models_are_divided_where_cores_would_stand_idle(
    cores: int, model_bytes: int, expected: int
) -> None:
    assert threads_an_op(cores, model_bytes) == expected


class _Process:
    """Counts how long a process, this one's child, stood still."""

    def __init__(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            while True:
                time.sleep(1)

    @property
    def is_paused(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


@pytest.fixture
def process() -> Iterator[_Process]:
    process = _Process()
    yield process
    process.end()


def test_loading_stands_still_while_a_request_runs(process: _Process) -> None:
    pauses = LoadPauses()
    with pauses.loading(process.pid):
        assert not _soon(lambda: process.is_paused, 0.05)
        with pauses.request():
            assert _soon(lambda: process.is_paused, 1)
        assert _soon(lambda: not process.is_paused, 1)
    assert not process.is_paused


def test_loading_goes_on_under_requests_without_end(process: _Process) -> None:
    pauses = LoadPauses()
    paused: list[bool] = []
    with pauses.request(), pauses.loading(process.pid):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            paused.append(process.is_paused)
            time.sleep(0.002)
    assert 0.2 < sum(paused) / len(paused) < 0.8
    assert not process.is_paused


def _soon(condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _workers(server: RunningServer) -> list[int]:
    """The processes of the versions, in the order of their start: `aux` is loaded first."""
    return process_tree(server.process.pid)[2:]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _context_switches(pid: int) -> int:
    """Returns how often the threads of a process have gone to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        total += int(fields["voluntary_ctxt_switches"])
    return total


def _growth(count: Callable[[], float], seconds: float) -> float:
    """Returns by how much `count` grows in the next `seconds`."""
    before = count()
    time.sleep(seconds)
    return count() - before


def _slow_request(steps: int) -> Any:
    request = protocol.PredictRequest(model_spec=protocol.ModelSpec(name="aux", signature_name="slow"))
    request.inputs["steps"].CopyFrom(protocol.TensorProto(dtype=protocol.DT_INT32, int_val=[steps]))
    request.inputs["steps"].tensor_shape.dim.add(size=1)
    return request
