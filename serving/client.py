"""The typed client of the tagger: text in, entities out, over TensorFlow Serving's gRPC API.

    >>> with Client("localhost:8500", model_name="ner") as client:
    ...     client.tag(["小明住在北京。"])[0].entities
    (Entity(start=0, end=2, type='PER', text='小明', score=0.98), Entity(start=4, end=6, type='LOC', ...))

`AsyncClient` is its asyncio twin. Importing this module imports neither TensorFlow nor NumPy.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc

from serving.async_client import AsyncClient
from serving.connection import CHANNEL_OPTIONS, ConnectionSettings, Tls, backoff_delays, methods_of
from serving.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    ServerFailed,
    ServerOverloaded,
    ServerUnavailable,
    ServingError,
    error_from_status,
    status_of,
)
from serving.messages import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    Entity,
    ModelMetadata,
    ModelSelection,
    TaggedText,
    VersionStatus,
    batch_texts,
    metadata_request,
    model_metadata,
    status_request,
    tag_request,
    tagged_texts,
    version_statuses,
)

__all__ = [
    "AsyncClient",
    "Client",
    "ConnectionSettings",
    "DeadlineExceeded",
    "Entity",
    "InvalidRequest",
    "MalformedResponse",
    "ModelMetadata",
    "ModelNotFound",
    "ServerFailed",
    "ServerOverloaded",
    "ServerUnavailable",
    "ServingError",
    "TaggedText",
    "Tls",
    "VersionStatus",
]


class Client:
    """Tags texts through a model server; safe to share between threads; close it, or use it as a context manager.

    Args:
        target: "host:port" of the gRPC API.
        model_name: name of the model on the server.
        version: one version of it; by default the newest that is available.
        version_label: a label in place of a version.
        settings: time limits, sizes of requests and concurrency.
        tls: PEM files; without it the connection is not encrypted.

    Raises:
        ValueError: both version and version_label are given, or the name is empty.
    """

    def __init__(
        self,
        target: str,
        *,
        model_name: str = "ner",
        version: int | None = None,
        version_label: str | None = None,
        settings: ConnectionSettings | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.target = target
        self.selection = ModelSelection(model_name, version, version_label)
        self.settings = settings or ConnectionSettings()
        self._channel = (
            grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
            if tls is None
            else grpc.secure_channel(target, tls.credentials(), options=CHANNEL_OPTIONS)
        )
        self._methods = methods_of(self._channel)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; requests under way fail."""
        self._channel.close()
        with self._pool_lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
                self._pool = None

    def tag(self, texts: Sequence[str], *, timeout: float | None = None) -> list[TaggedText]:
        """Returns the entities of each of `texts`, in their order.

        Args:
            texts: any number of texts of any length; they are sent in as many requests as the settings ask for.
            timeout: seconds for each request, retries included; by default that of the settings.

        Raises:
            ServingError: see `serving.errors` for the tree; the first request that fails ends the call.
        """
        return list(self.tag_stream(texts, timeout=timeout))

    def tag_stream(self, texts: Iterable[str], *, timeout: float | None = None) -> Iterator[TaggedText]:
        """Yields the entities of each of `texts`, in their order, and reads `texts` only as far as it must.

        At most `settings.concurrency` requests are under way or finished and not yet read, so memory stays bounded.
        """
        settings = self.settings
        batches = batch_texts(texts, max_texts=settings.max_texts, max_characters=settings.max_characters)
        window: deque[Future[list[TaggedText]]] = deque()
        first = next(batches, None)
        if first is None:
            return
        second = next(batches, None)
        if second is None:  # one request needs no threads
            yield from self._tag_batch(first, timeout)
            return
        pool = self._executor()
        try:
            for batch in (first, second):
                window.append(pool.submit(self._tag_batch, batch, timeout))
            for batch in batches:
                while len(window) >= settings.concurrency:
                    yield from window.popleft().result()
                window.append(pool.submit(self._tag_batch, batch, timeout))
            while window:
                yield from window.popleft().result()
        finally:
            for future in window:
                future.cancel()

    def status(self, *, timeout: float | None = None) -> tuple[VersionStatus, ...]:
        """Returns the state of each version of the model, highest first; a given version restricts it to that one."""
        return version_statuses(self._call(GET_MODEL_STATUS, status_request(self.selection), timeout))

    def metadata(self, *, timeout: float | None = None) -> ModelMetadata:
        """Returns the version that answers and the signatures of the model."""
        return model_metadata(self._call(GET_MODEL_METADATA, metadata_request(self.selection), timeout))

    def predict(self, request: Any, *, timeout: float | None = None) -> Any:
        """Sends a PredictRequest of `serving.protocol` as it is; returns the PredictResponse. For other signatures."""
        return self._call(PREDICT, request, timeout)

    def wait_until_available(self, *, timeout: float | None = None, poll: float = 0.1) -> VersionStatus:
        """Waits until the selected model has an available version and returns its status.

        Raises:
            ServerUnavailable: nothing answered within `timeout` seconds.
            ModelNotFound: the server answered, but the model was not available within `timeout` seconds.
        """
        deadline = time.monotonic() + (self.settings.timeout if timeout is None else timeout)
        error: ServingError | None = None
        while True:
            remaining = deadline - time.monotonic()
            try:
                statuses = self.status(timeout=max(remaining, 0.001))
                for status in statuses:
                    if status.state == "AVAILABLE":
                        return status
                seen = ", ".join(
                    f"{status.version} {status.state} {status.error_message}".strip() for status in statuses
                )
                error = ModelNotFound(f"{self.target} has no available version of {self.selection}: {seen or 'none'}")
            except ModelNotFound as caught:
                error = caught
            if time.monotonic() + poll >= deadline:
                raise error
            time.sleep(poll)

    def _executor(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="fusion-ner-client")
            return self._pool

    def _tag_batch(self, texts: list[str], timeout: float | None) -> list[TaggedText]:
        return tagged_texts(texts, self._call(PREDICT, tag_request(texts, self.selection), timeout))

    def _call(self, path: str, request: Any, timeout: float | None) -> Any:
        deadline = time.monotonic() + (self.settings.timeout if timeout is None else timeout)
        method: Callable[..., Any] = self._methods[path]
        for delay in backoff_delays():
            try:
                return method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                code, details = status_of(error)
                if code == "UNAVAILABLE" and time.monotonic() + delay < deadline:
                    time.sleep(delay)
                    continue
                if code == "DEADLINE_EXCEEDED" and not self._is_connected():
                    code, details = "UNAVAILABLE", "the connection was not made within the deadline"
                raise error_from_status(code, details, target=self.target, model=str(self.selection)) from error
        raise AssertionError("backoff_delays never ends")

    def _is_connected(self) -> bool:
        try:
            grpc.channel_ready_future(self._channel).result(timeout=0.05)
        except grpc.FutureTimeoutError:
            return False
        return True
