"""Requests that wait while a run is under way are merged; nobody's answer or error changes by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from serving.embedded.batching import Batcher, is_mergeable, is_tagger


def tag(texts: np.ndarray) -> list[np.ndarray]:
    """Answers as the tagger does: count [B] and start [B, E]; each letter of a text is an entity."""
    counts = np.array([len(text) for text in texts])
    columns = np.arange(counts.max(initial=0))
    return [counts, np.where(columns < counts[:, None], columns, -1)]


class Session:
    """A model whose first run waits until it is let go on, so that requests queue up behind it."""

    def __init__(self, answer: Callable[[np.ndarray], list[np.ndarray]] = tag) -> None:
        self.runs: list[int] = []
        self.first_is_running = threading.Event()
        self.go_on = threading.Event()
        self._answer = answer

    def __call__(self, texts: np.ndarray) -> list[np.ndarray]:
        self.runs.append(len(texts))
        if len(self.runs) == 1:
            self.first_is_running.set()
            assert self.go_on.wait(10)
        return self._answer(texts)


def texts_array(*texts: bytes) -> np.ndarray:
    return np.array(texts, object)


def send(batcher: Batcher, texts: np.ndarray) -> Future[Any]:
    """Sends a request as a thread of its own would that then runs what waits."""
    future = batcher.submit(texts)
    threading.Thread(target=batcher.run_waiting, daemon=True).start()
    return future


def behind_a_run(session: Session, requests: Sequence[np.ndarray]) -> list[Future[Any]]:
    """Sends one text, then, while it runs, `requests`; returns the futures of `requests`, all of them done."""
    batcher = Batcher(session, 0, runs=1, shares=1)
    first = send(batcher, texts_array(b"first"))
    assert session.first_is_running.wait(10)
    futures = [send(batcher, request) for request in requests]
    session.go_on.set()
    wait(futures, 10)
    assert first.result()[0].tolist() == [5]
    assert not batcher._waiting
    return futures


def assert_answered_as_alone(futures: Sequence[Future[Any]], requests: Sequence[np.ndarray]) -> None:
    for future, request in zip(futures, requests, strict=True):
        for received, expected in zip(future.result(), tag(request), strict=True):
            np.testing.assert_array_equal(received, expected)


def test_what_waits_runs_together_and_is_answered_as_alone() -> None:
    session = Session()
    requests = [texts_array(b"a"), texts_array(b"", b"abc"), texts_array(b""), texts_array(b"abcd")]
    assert_answered_as_alone(behind_a_run(session, requests), requests)
    assert session.runs == [1, 5]


def test_a_lone_request_runs_at_once() -> None:
    session = Session()
    session.go_on.set()
    start = time.monotonic()
    batcher = Batcher(session, 0)
    future = batcher.submit(texts_array(b"abc"))
    batcher.run_waiting()
    outputs = future.result(0)
    assert time.monotonic() - start < 1
    assert outputs[0].tolist() == [3]
    assert session.runs == [1]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param(texts_array(b""), True, id="one text"),
        pytest.param(texts_array(), False, id="no text"),
        pytest.param(texts_array(*[b"ab"] * 64), True, id="64 texts"),
        pytest.param(texts_array(*[b"ab"] * 65), False, id="65 texts"),
        pytest.param(texts_array(b"a" * 20_000), False, id="a long text"),
        pytest.param(np.array(b"a", object), False, id="a scalar"),
        pytest.param(np.array([[b"a"]], object), False, id="a table"),
    ],
)
def test_what_may_be_merged(texts: np.ndarray, expected: bool) -> None:
    assert is_mergeable(texts) is expected


def test_two_runs_leave_a_third_waiting() -> None:
    """Beside the first run, with one request, seven wait: the second run takes a third of the eight."""
    session = Session()
    batcher = Batcher(session, 0)
    futures = [send(batcher, texts_array(b"first"))]
    assert session.first_is_running.wait(10)
    requests = [texts_array(b"x" * length) for length in range(7)]
    futures += [batcher.submit(request) for request in requests]
    batcher.run_waiting()
    assert session.runs == [1, 3, 3, 1]
    session.go_on.set()
    assert_answered_as_alone(futures[1:], requests)


def test_what_was_cancelled_is_not_run() -> None:
    session = Session()
    batcher = Batcher(session, 0, runs=1, shares=1)
    first = send(batcher, texts_array(b"first"))
    assert session.first_is_running.wait(10)
    cancelled, other = send(batcher, texts_array(b"gone")), send(batcher, texts_array(b"ab"))
    assert cancelled.cancel()
    session.go_on.set()
    assert other.result(10)[0].tolist() == [2]
    assert first.result(10)[0].tolist() == [5]
    assert session.runs == [1, 1]


def test_a_failing_request_fails_alone() -> None:
    def refuse_capitals(texts: np.ndarray) -> list[np.ndarray]:
        for text in texts:
            if text.isupper():
                raise ValueError(f"{text!r} is loud")
        return tag(texts)

    requests = [texts_array(b"a"), texts_array(b"LOUD"), texts_array(b"bc")]
    good, bad, also_good = behind_a_run(Session(refuse_capitals), requests)
    assert_answered_as_alone([good, also_good], [requests[0], requests[2]])
    with pytest.raises(ValueError, match="LOUD"):
        bad.result()


def test_outputs_without_a_row_for_each_text_are_not_divided() -> None:
    session = Session(lambda texts: [output[:1] for output in tag(texts)])
    futures = behind_a_run(session, [texts_array(b"a"), texts_array(b"bc")])
    assert [future.result()[0].tolist() for future in futures] == [[1], [2]]


def test_merged_runs_are_bounded() -> None:
    session = Session()
    requests = [
        texts_array(*[b"a"] * 40),
        texts_array(*[b"b"] * 40),
        texts_array(*[b"c"] * 20),
        texts_array(b"d" * 9000),
    ]
    requests.append(requests[-1])
    assert_answered_as_alone(behind_a_run(session, requests), requests)
    assert session.runs == [1, 40, 61, 1]


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        pytest.param({"text": [-1]}, {"entity_count": [-1], "entity_start": [-1, -1]}, True, id="the tagger"),
        pytest.param({"text": [-1]}, {"entity_count": [-1], "total": []}, False, id="a scalar output"),
        pytest.param({"text": [-1]}, {"entity_count": [-1], "first": [1, -1]}, False, id="an output of fixed length"),
        pytest.param({"text": [-1]}, {"entity_count": None}, False, id="an output of unknown rank"),
        pytest.param({"text": []}, {"entity_count": [-1]}, False, id="a scalar input"),
        pytest.param({"text": [-1], "k": [-1]}, {"entity_count": [-1]}, False, id="one more input"),
        pytest.param({"text": [-1]}, {"logits": [-1, -1]}, False, id="another model"),
    ],
)
def test_signatures_that_are_merged(
    inputs: dict[str, list[int]], outputs: dict[str, list[int] | None], expected: bool
) -> None:
    signature = meta_graph_pb2.SignatureDef()
    for infos, shapes in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, shape in shapes.items():
            infos[name].tensor_shape.unknown_rank = shape is None
            for length in shape or ():
                infos[name].tensor_shape.dim.add(size=length)
    assert is_tagger(signature) is expected


def test_many_clients_that_come_back_get_their_own_answers() -> None:
    lengths: list[int] = []

    def slow_tag(texts: np.ndarray) -> list[np.ndarray]:
        lengths.append(len(texts))
        # Much longer than clients take to come back, on a busy machine too: how much is merged depends on that.
        time.sleep(0.03)
        return tag(texts)

    batcher = Batcher(slow_tag, 0)

    def client(number: int) -> None:
        for turn in range(20):
            text = texts_array(b"x" * (number * turn % 7))
            for received, expected in zip(send(batcher, text).result(10), tag(text), strict=True):
                np.testing.assert_array_equal(received, expected)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(client, range(16)))
    assert sum(lengths) == 16 * 20
    assert len(lengths) < 16 * 20 / 4, "hardly anything was merged"
