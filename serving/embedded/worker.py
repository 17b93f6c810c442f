"""The process of one version: loads it, warms it up, and answers the requests that the server passes on.

A version has a process of its own so that loading the next one, seconds of Python and of graph optimization, shares no
interpreter's lock with the requests of the one that serves, and so that a crash in a model ends neither the server nor
other versions. When the process ends, all of its memory is free.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2

from components import features
from serving.embedded.batching import RUNS, Batcher, is_mergeable, is_tagger
from serving.embedded.prediction import Prediction, read_json, read_request
from serving.embedded.saved_model import LoadedModel
from serving.embedded.status import StatusError
from serving.embedded.warmup import warm_up

logger = logging.getLogger(__name__)

_THREADS = 32
# Where the runs under way at once can have a core each, the ops of a model of fewer bytes than this are not divided: on
# two cores MiniLM (90 MB) answered 130 sentences a second in place of 105; BERT-base (430 MB) gained a little and took
# 82 ms for a lone one in place of 60. Texts of thousands of characters take 1.7 times as long.
_SMALL_MODEL_BYTES = 150 * 10**6
# Requests of more bytes run one after another: each may take minutes.
_LARGE_BYTES = 256 * 1024
# Reading more than this takes longer than the requests behind it should wait.
_MOST_BYTES_AT_ONCE = 64 * 1024

TIME_IS_UP = "Timed out waiting for notification"


@dataclass(frozen=True)
class WorkerOptions:
    """How versions are loaded; names are those of tensorflow_model_server's flags.

    Args:
        intra_op_parallelism: threads among which an op is divided; 0 leaves it to `threads_an_op`.
        inter_op_parallelism: threads that run ops; 0 takes one a core.
        warm_up_iterations: how often each warm-up request is sent; 0 sends none.
    """

    intra_op_parallelism: int = 0
    inter_op_parallelism: int = 0
    warm_up_iterations: int = 1


@dataclass(frozen=True)
class Call:
    """A request on its way to a worker.

    Args:
        number: what the answer is known by.
        kind: a serialized PredictRequest or the body of a REST request; "cancel": the caller of `number` has gone.
        data: the request.
        version: the number that the answer gives.
        deadline: when nobody waits for it any more, by the monotonic clock, which all processes share.
    """

    number: int
    kind: Literal["predict", "json", "cancel"]
    data: bytes = b""
    version: int = 0
    deadline: float | None = None


@dataclass(frozen=True)
class Answer:
    """What became of a Call: its answer, or code and message of a StatusError."""

    number: int
    data: bytes = b""
    error: tuple[str, str] | None = None


@dataclass(frozen=True)
class Loaded:
    """The first message of a worker: the serialized SignatureDefs by name, or why it could not load the version."""

    signatures: dict[str, bytes]
    error: tuple[str, str] | None = None


def run_worker(path: Path, options: WorkerOptions, connection: Connection) -> None:
    """Loads the version at `path` and answers Calls until the server closes the connection."""
    try:
        model = _load(path, options)
    except StatusError as error:
        connection.send(Loaded({}, (error.code, error.message)))
        return
    except Exception as error:
        logger.exception("Loading %s failed", path)
        connection.send(Loaded({}, ("INTERNAL", f"{type(error).__name__}: {error}")))
        return
    connection.send(Loaded({name: bytes(item.SerializeToString()) for name, item in model.signatures.items()}))
    _Worker(model, connection).serve()


def _load(path: Path, options: WorkerOptions) -> LoadedModel:
    weights = sum(file.stat().st_size for file in (path / "variables").glob("variables.data-*"))
    threads = options.intra_op_parallelism or threads_an_op(os.cpu_count() or 1, weights)
    config = config_pb2.ConfigProto(
        intra_op_parallelism_threads=threads,
        inter_op_parallelism_threads=options.inter_op_parallelism,
    )
    model = LoadedModel(path, config)
    if options.warm_up_iterations:
        warm_up(model, options.warm_up_iterations)
        _return_free_memory()
    return model


def threads_an_op(cores: int, model_bytes: int) -> int:
    """Returns the number of threads among which an op of a model is divided; 0 means one a core."""
    return 1 if cores <= RUNS and model_bytes < _SMALL_MODEL_BYTES else 0


def _return_free_memory() -> None:
    """Gives the memory that loading and the largest warm-up requests took back to the system, where glibc runs."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class _Worker:
    """Reads Calls, runs them, and answers each as it is done.

    Several threads read in turns, and the one that reads a short request runs it too, so that a lone client waits for
    no change of threads. There is always one more of them than runs that they can be busy with.
    """

    def __init__(self, model: LoadedModel, connection: Connection) -> None:
        self._model = model
        self._connection = connection
        self._reading = threading.Lock()
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._batchers = {
            name: Batcher(self._batch_run(name), sorted(signature.outputs).index(features.ENTITY_COUNT))
            for name, signature in model.signatures.items()
            if is_tagger(signature)
        }
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
        # Texts that are too many or too long to be merged; each run needs memory for thousands of tokens.
        self._long = ThreadPoolExecutor(RUNS, thread_name_prefix="long-request")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="large-request")
        # What has not begun to run, by number: only that can be cancelled.
        self._queued: dict[int, Future[Any]] = {}

    def serve(self) -> None:
        """Answers until the connection ends."""
        for number in range(RUNS * len(self._batchers) + 1):
            threading.Thread(target=self._read_calls, name=f"reader-{number}", daemon=True).start()
        self._ended.wait()

    def _read_calls(self) -> None:
        while True:
            try:
                with self._reading:
                    call = self._connection.recv()
            except (EOFError, OSError):
                self._ended.set()
                return
            if call.kind == "cancel":
                queued = self._queued.get(call.number)
                if queued is not None:
                    queued.cancel()
            elif call.kind == "json" or len(call.data) > _MOST_BYTES_AT_ONCE:
                self._threads.submit(self._begin, call)
            else:
                self._begin(call)

    def _begin(self, call: Call) -> None:
        try:
            self._queue(call)
        except Exception as error:
            self._fail(call, error)

    def _queue(self, call: Call) -> None:
        prediction = self._read(call)
        batcher = self._batchers.get(prediction.signature_name)
        texts = prediction.inputs[features.TEXT] if batcher is not None else None
        if batcher is not None and texts is not None and texts.dtype == object and is_mergeable(texts):
            names = sorted(self._model.signatures[prediction.signature_name].outputs)
            places = [names.index(name) for name in prediction.output_names]
            future: Future[Any] = batcher.submit(texts)
            answer: Callable[[Any], bytes] = functools.partial(_write_selected, prediction, places)
        else:
            pool = self._threads if batcher is None else self._long
            if len(call.data) > _LARGE_BYTES:
                pool = self._large
            future = pool.submit(self._run_alone, call, prediction)
            answer = prediction.write
        self._queued[call.number] = future
        future.add_done_callback(lambda done: self._finish(call, done, answer))
        if batcher is not None:
            batcher.run_waiting()

    def _read(self, call: Call) -> Prediction:
        if call.kind == "json":
            return read_json(self._model.signatures, call.data)
        try:
            request = predict_pb2.PredictRequest.FromString(call.data)
        except DecodeError:
            raise StatusError("INTERNAL", "") from None
        return read_request(self._model.signatures, request, call.version)

    def _batch_run(self, signature_name: str) -> Callable[[np.ndarray], list[Any]]:
        names = sorted(self._model.signatures[signature_name].outputs)

        def run(texts: np.ndarray) -> list[Any]:
            return self._model.run(signature_name, {features.TEXT: texts}, names)

        return run

    def _run_alone(self, call: Call, prediction: Prediction) -> list[Any]:
        timeout_ms = 0
        if call.deadline is not None:
            timeout_ms = int(1000 * (call.deadline - time.monotonic()))
            if timeout_ms <= 0:
                raise StatusError("DEADLINE_EXCEEDED", TIME_IS_UP)
        return self._model.run(
            prediction.signature_name, prediction.inputs, prediction.output_names, timeout_ms=timeout_ms
        )

    def _finish(self, call: Call, done: Future[Any], answer: Callable[[Any], bytes]) -> None:
        self._queued.pop(call.number, None)
        if done.cancelled():
            return
        try:
            data = answer(done.result())
        except Exception as error:
            self._fail(call, error)
        else:
            self._send(Answer(call.number, data))

    def _fail(self, call: Call, error: Exception) -> None:
        if not isinstance(error, StatusError):
            logger.error("A request failed", exc_info=error)
            error = StatusError("INTERNAL", f"{type(error).__name__}: {error}")
        self._send(Answer(call.number, error=(error.code, error.message)))

    def _send(self, answer: Answer) -> None:
        with self._sending:
            try:
                self._connection.send(answer)
            except OSError:
                # The server has ended; `serve` sees that too.
                os._exit(0)


def _write_selected(prediction: Prediction, places: list[int], outputs: Sequence[Any]) -> bytes:
    return prediction.write([outputs[place] for place in places])
