"""The asyncio twin of `serving.client.Client`: the same requests, results and errors."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import grpc

from serving.connection import CHANNEL_OPTIONS, ConnectionSettings, Tls, backoff_delays, methods_of
from serving.errors import error_from_status, status_of
from serving.messages import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
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


class AsyncClient:
    """Tags texts through a model server from asyncio; arguments and errors are those of `serving.client.Client`.

    Example:
        >>> async with AsyncClient("localhost:8500", model_name="ner") as client:
        ...     tagged = await client.tag(["小明住在北京。"])
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
            grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
            if tls is None
            else grpc.aio.secure_channel(target, tls.credentials(), options=CHANNEL_OPTIONS)
        )
        self._methods = methods_of(self._channel)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; requests under way fail."""
        await self._channel.close()

    async def tag(self, texts: Sequence[str], *, timeout: float | None = None) -> list[TaggedText]:
        """Returns the entities of each of `texts`, in their order; see `Client.tag`."""
        return [tagged async for tagged in self.tag_stream(texts, timeout=timeout)]

    async def tag_stream(self, texts: Iterable[str], *, timeout: float | None = None) -> AsyncIterator[TaggedText]:
        """Yields the entities of each of `texts`, in their order, with bounded memory; see `Client.tag_stream`."""
        settings = self.settings
        window: deque[asyncio.Task[list[TaggedText]]] = deque()
        try:
            for batch in batch_texts(texts, max_texts=settings.max_texts, max_characters=settings.max_characters):
                while len(window) >= settings.concurrency:
                    for tagged in await window.popleft():
                        yield tagged
                window.append(asyncio.create_task(self._tag_batch(batch, timeout)))
            while window:
                for tagged in await window.popleft():
                    yield tagged
        finally:
            for task in window:
                task.cancel()
            await asyncio.gather(*window, return_exceptions=True)

    async def status(self, *, timeout: float | None = None) -> tuple[VersionStatus, ...]:
        """Returns the state of each version of the model, highest first; see `Client.status`."""
        return version_statuses(await self._call(GET_MODEL_STATUS, status_request(self.selection), timeout))

    async def metadata(self, *, timeout: float | None = None) -> ModelMetadata:
        """Returns the version that answers and the signatures of the model."""
        return model_metadata(await self._call(GET_MODEL_METADATA, metadata_request(self.selection), timeout))

    async def predict(self, request: Any, *, timeout: float | None = None) -> Any:
        """Sends a PredictRequest of `serving.protocol` as it is and returns the PredictResponse."""
        return await self._call(PREDICT, request, timeout)

    async def _tag_batch(self, texts: list[str], timeout: float | None) -> list[TaggedText]:
        return tagged_texts(texts, await self._call(PREDICT, tag_request(texts, self.selection), timeout))

    async def _call(self, path: str, request: Any, timeout: float | None) -> Any:
        deadline = time.monotonic() + (self.settings.timeout if timeout is None else timeout)
        method: Callable[..., Any] = self._methods[path]
        for delay in backoff_delays():
            try:
                return await method(request, timeout=max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                code, details = status_of(error)
                if code == "UNAVAILABLE" and time.monotonic() + delay < deadline:
                    await asyncio.sleep(delay)
                    continue
                if code == "DEADLINE_EXCEEDED" and self._channel.get_state() is not grpc.ChannelConnectivity.READY:
                    code, details = "UNAVAILABLE", "the connection was not made within the deadline"
                raise error_from_status(code, details, target=self.target, model=str(self.selection)) from error
        raise AssertionError("backoff_delays never ends")
